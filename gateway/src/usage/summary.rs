//! What a segment of the journal comes to, kept beside it: a month is summed up without reading every record of it.
//!
//! Everything in it can be learned from the segment, which is what decides: a summary that is not wholly in order, or was
//! made of something else, is as good as none.

use super::{Day, Known, Row, Sum, Totals};
use crate::config::policy::Money;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"relayuse";

/// Of the form below. Whoever does not know it reads the segment instead.
const VERSION: u8 = 2;

const CHECKSUM_BYTES: usize = 4;

/// No head is longer; names of time zones are short.
const HEAD_BYTES_MAX: usize = 512;

/// Like the journal's: what tenants use is nobody else's business.
const MODE: u32 = 0o600;

/// Numbers of a sum.
const COUNTS: usize = 7 + Known::ALL.len();

/// Of what a summary was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The first sequence of the segment.
    pub(super) first: u64,
    /// The first one of the next segment.
    pub(super) end: u64,
    /// The segment's length.
    pub(super) bytes: u64,
    /// The name of the zone whose days were counted.
    pub(super) zone: Arc<str>,
}

/// What a segment comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) source: Source,
    /// When the segment was begun, in microseconds since 1970.
    pub(super) created_us: u64,
    /// Records that could not be read.
    pub(super) lost: u64,
    pub(super) rows: Vec<Row>,
}

/// What a summary begins with, which can be read without the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) source: Source,
    /// When the segment was begun, in microseconds since 1970.
    pub(super) created_us: u64,
    /// Records that could not be read.
    pub(super) lost: u64,
    /// The numbers of the first day in it and of the last one; the first is the higher one if there is none.
    days: (u64, u64),
}

impl Head {
    /// That of this file; `None` if there is none, or it is not in order.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX);
        let file = File::open(path).ok()?;
        file.take(HEAD_BYTES_MAX as u64)
            .read_to_end(&mut bytes)
            .ok()?;
        Self::decode(&bytes).map(|(head, _)| head)
    }

    /// Whether there may be something of these days; what is missing may be of any.
    pub(super) fn covers(&self, days: &RangeInclusive<Day>) -> bool {
        let (first, last) = self.days;
        self.lost > 0 || first <= days.end().number() && days.start().number() <= last
    }

    fn encode(&self) -> Vec<u8> {
        let source = &self.source;
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        let (first_day, last_day) = self.days;
        for number in [
            source.first,
            source.end,
            source.bytes,
            self.created_us,
            self.lost,
            first_day,
            last_day,
        ] {
            put(&mut bytes, number);
        }
        put_text(&mut bytes, &source.zone);
        put_checksum(&mut bytes);
        bytes
    }

    /// With what comes after it.
    fn decode(bytes: &[u8]) -> Option<(Self, Rest<'_>)> {
        let mut rest = Rest(bytes.strip_prefix(&MAGIC)?.strip_prefix(&[VERSION])?);
        let [first, end, length, created_us, lost, first_day, last_day] = rest.numbers()?;
        let source = Source {
            first,
            end,
            bytes: length,
            zone: rest.text()?,
        };
        let (head, rest) = bytes.split_at_checked(bytes.len() - rest.0.len())?;
        let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
        let is_in_order = crc32c::crc32c(head) == u32::from_le_bytes(*checksum);
        let head = Self {
            source,
            created_us,
            lost,
            days: (first_day, last_day),
        };
        is_in_order.then_some((head, Rest(rest)))
    }
}

/// Where the summary of a segment is kept.
pub fn path(segment: &Path) -> PathBuf {
    segment.with_extension("usage")
}

impl Summary {
    /// The one in this file; `None` if there is none, or it is not in order.
    pub(super) fn read(path: &Path) -> Option<Self> {
        Self::decode(&fs::read(path).ok()?)
    }

    /// Writes it so that there is all of it or nothing, whenever the process ends.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("usage.new");
        // It is not synced: what a crash makes of it is found out by its checksum.
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(&self.encode()));
        written
            .and_then(|()| fs::rename(&unfinished, path))
            .inspect_err(|_| {
                // What is there takes room that is short, and is written over by the next one anyway.
                let _ = fs::remove_file(&unfinished);
            })
    }

    fn encode(&self) -> Vec<u8> {
        let mut names = Names::default();
        let mut rows = Vec::new();
        for row in &self.rows {
            put(&mut rows, row.day.number());
            put(&mut rows, names.number(&row.tenant));
            put(&mut rows, u64::from(row.key.is_some()));
            if let Some(key) = row.key {
                rows.extend(key);
            }
            let model = row.model.as_ref();
            put(&mut rows, model.map_or(0, |model| names.number(model) + 1));
            for count in counts(&row.sum) {
                put(&mut rows, count);
            }
        }
        let mut bytes = self.head().encode();
        put(&mut bytes, names.list.len() as u64);
        for name in &names.list {
            put_text(&mut bytes, name);
        }
        put(&mut bytes, self.rows.len() as u64);
        bytes.extend(rows);
        put_checksum(&mut bytes);
        bytes
    }

    fn head(&self) -> Head {
        let days = self.rows.iter().map(|row| row.day.number());
        Head {
            source: self.source.clone(),
            created_us: self.created_us,
            lost: self.lost,
            days: days.fold((u64::MAX, 0), |(first, last), day| {
                (first.min(day), last.max(day))
            }),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (head, mut rest) = Head::decode(body)?;
        let names = rest.number()?;
        let names: Vec<_> = (0..names).map_while(|_| rest.text()).collect();
        let rows = rest.number()?;
        let rows: Option<_> = (0..rows).map(|_| rest.row(&names)).collect();
        Some(Self {
            source: head.source,
            created_us: head.created_us,
            lost: head.lost,
            rows: rows?,
        })
    }
}

/// Everything that is counted, in the order in which it is kept.
fn counts(sum: &Sum) -> [u64; COUNTS] {
    let totals = &sum.totals;
    let [fin, partial, estimated] = sum.known;
    [
        totals.requests,
        totals.input_tokens,
        totals.cached_tokens,
        totals.output_tokens,
        totals.reasoning_tokens,
        totals.cost.nano(),
        sum.refused,
        fin,
        partial,
        estimated,
    ]
}

/// Names are many times as long as their numbers, and there are few of them.
#[derive(Default)]
struct Names<'n> {
    list: Vec<&'n str>,
    numbers: HashMap<&'n str, u64>,
}

impl<'n> Names<'n> {
    fn number(&mut self, name: &'n str) -> u64 {
        let next = self.list.len() as u64;
        *self.numbers.entry(name).or_insert_with(|| {
            self.list.push(name);
            next
        })
    }
}

fn put_checksum(bytes: &mut Vec<u8>) {
    let checksum = crc32c::crc32c(bytes);
    bytes.extend(checksum.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// Seven bits to a byte, the lowest first; the highest bit says that there are more.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What has not been read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn numbers<const COUNT: usize>(&mut self) -> Option<[u64; COUNT]> {
        let mut numbers = [0; COUNT];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Some(numbers)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok().map(Arc::from)
    }

    fn row(&mut self, names: &[Arc<str>]) -> Option<Row> {
        let name = |number: u64| names.get(usize::try_from(number).ok()?).cloned();
        let day = Day::with_number(self.number()?)?;
        let tenant = name(self.number()?)?;
        let key = match self.number()? {
            0 => None,
            _ => Some(*self.take(4)?.first_chunk()?),
        };
        let model = match self.number()?.checked_sub(1) {
            Some(number) => Some(name(number)?),
            None => None,
        };
        let sum = self.sum()?;
        Some(Row {
            day,
            tenant,
            key,
            model,
            sum,
        })
    }

    /// See [`counts`].
    fn sum(&mut self) -> Option<Sum> {
        let [
            requests,
            input,
            cached,
            output,
            reasoning,
            cost,
            refused,
            known @ ..,
        ] = self.numbers::<COUNTS>()?;
        let totals = Totals {
            requests,
            input_tokens: input,
            cached_tokens: cached,
            output_tokens: output,
            reasoning_tokens: reasoning,
            cost: Money::from_nano(cost),
        };
        Some(Sum {
            totals,
            refused,
            known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn summary() -> Summary {
        let sum = |number: u64| Sum {
            totals: Totals {
                requests: number,
                input_tokens: number << 20,
                cached_tokens: 1,
                output_tokens: u64::MAX,
                reasoning_tokens: 0,
                cost: Money::from_nano(number * 1_000_000_007),
            },
            refused: 127,
            known: [128, 3, number],
        };
        let row =
            |day: &str, tenant: &str, key: Option<[u8; 4]>, model: Option<&str>, number| Row {
                day: day.parse().unwrap(),
                tenant: tenant.into(),
                key,
                model: model.map(Arc::from),
                sum: sum(number),
            };
        Summary {
            source: Source {
                first: 1_000,
                end: 999_999,
                bytes: 64 << 20,
                zone: "Europe/Paris".into(),
            },
            created_us: 1_800_000_000_000_000,
            lost: 300,
            rows: vec![
                row("2026-03-01", "a", Some([0, 255, 7, 1]), Some("gpt-5"), 1),
                row("2026-03-01", "b", Some([0, 255, 7, 2]), None, 2),
                row("2026-03-02", "a", None, Some("gpt-5"), 3),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory.path().join("00000000000000001000.seg"));
        assert_eq!(Summary::read(&path), None);
        summary().write(&path).unwrap();
        assert_eq!(Summary::read(&path), Some(summary()));
        let names = fs::read_dir(directory.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["00000000000000001000.usage"]);
    }

    #[test]
    fn whatever_is_damaged_is_as_good_as_none() {
        let whole = summary().encode();
        for length in 0..whole.len() {
            assert_eq!(Summary::decode(&whole[..length]), None, "cut at {length}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(Summary::decode(&damaged), None, "bit {bit} of {at}");
            }
        }
    }

    #[test]
    fn a_head_says_what_of_days_and_can_be_read_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.usage");
        let without_loss = Summary {
            lost: 0,
            ..summary()
        };
        without_loss.write(&path).unwrap();
        let head = Head::read(&path).unwrap();
        assert_eq!(head, without_loss.head());
        let covers = |head: &Head, first: &str, last: &str| {
            head.covers(&(first.parse().unwrap()..=last.parse().unwrap()))
        };
        assert!(covers(&head, "2026-01-01", "2026-03-01"));
        assert!(covers(&head, "2026-03-02", "2026-03-02"));
        assert!(!covers(&head, "2026-02-01", "2026-02-28"));
        assert!(!covers(&head, "2026-03-03", "2026-03-31"));
        assert!(covers(&summary().head(), "2026-03-03", "2026-03-31"));
        let empty = Summary {
            rows: Vec::new(),
            ..without_loss
        };
        assert!(!covers(&empty.head(), "2026-03-01", "2026-03-31"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        // The head has a checksum of its own.
        let bytes = head.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Head::decode(&damaged).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_body_of_anything_is_survived() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let length = random.usize(..60);
            let mut bytes = match random.bool() {
                true => summary().head().encode(),
                false => [&MAGIC[..], &[VERSION]].concat(),
            };
            bytes.extend((0..length).map(|_| random.u8(..)));
            put_checksum(&mut bytes);
            // With its checksum in order: no promise what it means, but it ends.
            Summary::decode(&bytes);
        }
    }

    #[test]
    fn a_summary_that_cannot_be_written_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.usage");
        // Nothing can be renamed to a directory.
        fs::create_dir(&path).unwrap();
        assert!(summary().write(&path).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
