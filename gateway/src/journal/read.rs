//! Reading a journal: its entries in order, also while it is written to, and what of them is missing.

use super::entry::Entry;
use super::frame::{ENTRY, Header, NAME};
use super::frames::{Found, Frames};
use super::names::{Glossary, NAME_BYTES_MAX};
use super::payload::{self, Beginning, Number};
use super::segment::{Segment, Unreadable, segments};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

/// Which entries are wanted.
#[derive(Clone, Debug)]
pub struct Filter {
    /// When their heads had been read, in microseconds since 1970.
    pub times_us: Range<u64>,
    /// Their sequences.
    pub sequences: Range<u64>,
    /// Whose they are; `None`: everybody's.
    pub tenant: Option<Box<str>>,
}

impl Default for Filter {
    /// All of them.
    fn default() -> Self {
        Self {
            times_us: 0..u64::MAX,
            sequences: 0..u64::MAX,
            tenant: None,
        }
    }
}

/// The entries of a journal, the oldest first.
pub struct Entries {
    directory: PathBuf,
    filter: Filter,
    /// Segments that come after the one that is open, as far as they are known.
    segments: VecDeque<Segment>,
    open: Option<Open>,
    /// Only segments that begin with this sequence or a higher one have not been looked at.
    unseen_from: u64,
    /// The next entry has this sequence, or a higher one.
    expected: u64,
    /// That is a guess, which the next segment corrects.
    is_guessed: bool,
    names: Glossary,
    /// The filter's tenant in the segment that is open.
    tenant: Option<Number>,
}

struct Open {
    frames: Frames,
    segment: Segment,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are the large one"
)]
pub enum Item<'a> {
    /// An entry that is wanted.
    Entry(Entry<&'a str>),
    /// Entries that cannot be read, wanted or not.
    Gap(Gap),
}

/// Entries that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Their sequences. If nothing comes after them, there may be more.
    pub sequences: RangeInclusive<u64>,
    /// Why not.
    pub why: Loss,
    /// Where they should be.
    pub path: PathBuf,
}

/// Why entries cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// What the disk holds is not what was written.
    Damaged,
    /// There is no file with them.
    Missing,
    /// A later version of this program has written them.
    Newer,
    /// The disk does not give them.
    Unreadable(ErrorKind),
}

/// What is next, without what it borrows.
enum Next {
    Entry {
        sequence: u64,
        payload: Range<usize>,
    },
    Gap(Gap),
}

impl Entries {
    /// Of the journal in this directory, which may be written to meanwhile.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(directory: &Path, mut filter: Filter) -> io::Result<Self> {
        if let Some(tenant) = &mut filter.tenant {
            let kept = tenant.floor_char_boundary(NAME_BYTES_MAX);
            *tenant = tenant[..kept].into();
        }
        Ok(Self {
            directory: directory.to_owned(),
            filter,
            segments: segments(directory)?.into(),
            open: None,
            unseen_from: 0,
            expected: 0,
            is_guessed: false,
            names: Glossary::default(),
            tenant: None,
        })
    }

    /// What comes next; `None`: nothing, so far. It may be called again then, and after an error.
    ///
    /// # Errors
    /// The directory cannot be listed. A file that cannot be read is a [`Gap`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator cannot lend what it has read"
    )]
    pub fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        let (sequence, payload) = match self.advance()? {
            None => return Ok(None),
            Some(Next::Gap(gap)) => return Ok(Some(Item::Gap(gap))),
            Some(Next::Entry { sequence, payload }) => (sequence, payload),
        };
        let Some(open) = &self.open else {
            return Ok(None);
        };
        let beginning = Beginning::of(open.frames.payload(payload));
        let entry = beginning.and_then(|beginning| beginning.entry(sequence, &self.names));
        Ok(Some(match entry {
            Some(entry) => Item::Entry(entry),
            // A name of it was defined where the segment is damaged.
            None => Item::Gap(Gap {
                sequences: sequence..=sequence,
                why: Loss::Damaged,
                path: open.segment.path.clone(),
            }),
        }))
    }

    fn advance(&mut self) -> io::Result<Option<Next>> {
        while self.expected < self.filter.sequences.end {
            let gap = match &mut self.open {
                None => match self.open_next()? {
                    Opened::Segment => None,
                    Opened::Gap(gap) => Some(gap),
                    Opened::Nothing => return Ok(None),
                },
                Some(open) => match open.frames.next() {
                    Found::Frame {
                        kind: ENTRY,
                        sequence,
                        payload,
                    } => {
                        let is_new = sequence >= self.expected;
                        self.expected = self.expected.max(sequence + 1);
                        if is_new && self.wants(sequence, &payload) {
                            return Ok(Some(Next::Entry { sequence, payload }));
                        }
                        None
                    }
                    Found::Frame { kind, payload, .. } => {
                        if kind == NAME {
                            self.define(payload);
                        }
                        None
                    }
                    Found::Lost(sequences) => Some(open.gap(sequences)),
                    Found::End => match self.leave()? {
                        Left::Gap(gap) => Some(gap),
                        Left::NotYet => return Ok(None),
                        Left::Done => None,
                    },
                },
            };
            if let Some(gap) = gap.and_then(|gap| self.note_gap(gap)) {
                return Ok(Some(Next::Gap(gap)));
            }
        }
        Ok(None)
    }

    fn wants(&self, sequence: u64, payload: &Range<usize>) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        if sequence < self.filter.sequences.start {
            return false;
        }
        let Some(beginning) = Beginning::of(open.frames.payload(payload.clone())) else {
            return true;
        };
        if !self.filter.times_us.contains(&beginning.time_us) {
            return false;
        }
        match (&self.filter.tenant, beginning.tenant()) {
            (None, _) => true,
            (Some(_), None) => false,
            // It may be the one: reading it will tell that its name is missing.
            (Some(_), Some(number)) if self.names.name(number).is_none() => true,
            (Some(_), number) => self.tenant == number,
        }
    }

    fn define(&mut self, payload: Range<usize>) {
        let Some(open) = &self.open else {
            return;
        };
        if let Some((number, name)) = payload::decode_name(open.frames.payload(payload))
            && self.names.define(number, name)
            && self.filter.tenant.as_deref() == Some(name)
        {
            self.tenant = Some(number);
        }
    }

    /// What of a gap is wanted and has not been told.
    fn note_gap(&mut self, gap: Gap) -> Option<Gap> {
        let wanted = &self.filter.sequences;
        let from = (*gap.sequences.start())
            .max(self.expected)
            .max(wanted.start);
        let to = (*gap.sequences.end()).min(wanted.end.saturating_sub(1));
        self.expected = self.expected.max(gap.sequences.end().saturating_add(1));
        (from <= to).then_some(Gap {
            sequences: from..=to,
            ..gap
        })
    }

    /// Nothing more is to be read of the segment that is open, so far.
    fn leave(&mut self) -> io::Result<Left> {
        self.look_for_segments()?;
        let (Some(open), Some(next)) = (&mut self.open, self.segments.front()) else {
            return Ok(Left::NotYet);
        };
        // Only now it is certain that nothing more is written to it: it has to be looked at once more.
        if open.frames.end() != Some(next.first_sequence) {
            open.frames.end_before(next.first_sequence);
            return Ok(Left::Done);
        }
        let rest = open.frames.expected()..=next.first_sequence - 1;
        let gap = (!rest.is_empty()).then(|| open.gap(rest));
        self.open = None;
        Ok(gap.map_or(Left::Done, Left::Gap))
    }

    fn look_for_segments(&mut self) -> io::Result<()> {
        if self.segments.is_empty() {
            let found = segments(&self.directory)?.into_iter();
            let is_new = |segment: &Segment| segment.first_sequence >= self.unseen_from;
            self.segments = found.filter(is_new).collect();
        }
        Ok(())
    }

    fn open_next(&mut self) -> io::Result<Opened> {
        self.look_for_segments()?;
        self.skip_segments();
        let Some(segment) = self.segments.front() else {
            return Ok(Opened::Nothing);
        };
        let first_sequence = segment.first_sequence;
        if self.expected == 0 {
            // What retention has removed is not missing.
            self.expected = first_sequence;
        }
        if std::mem::take(&mut self.is_guessed) {
            self.expected = self.expected.min(first_sequence);
        }
        if first_sequence > self.expected {
            return Ok(Opened::Gap(Gap {
                sequences: self.expected..=first_sequence - 1,
                why: Loss::Missing,
                path: self.directory.clone(),
            }));
        }
        let Some(segment) = self.segments.pop_front() else {
            return Ok(Opened::Nothing);
        };
        self.unseen_from = first_sequence + 1;
        let end = self.segments.front().map(|next| next.first_sequence);
        let why = match segment.open() {
            Ok(Ok((file, header))) => {
                self.begin(Frames::new(file, &header), end, segment);
                return Ok(Opened::Segment);
            }
            Ok(Err(Unreadable::Damaged)) => Loss::Damaged,
            Ok(Err(Unreadable::Newer)) => Loss::Newer,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Segment),
            Err(error) => Loss::Unreadable(error.kind()),
        };
        self.is_guessed = end.is_none();
        let end = end.unwrap_or_else(|| segment.next_sequence_if_unreadable());
        Ok(Opened::Gap(Gap {
            sequences: first_sequence..=end.saturating_sub(1),
            why,
            path: segment.path,
        }))
    }

    fn begin(&mut self, mut frames: Frames, end: Option<u64>, segment: Segment) {
        if let Some(end) = end {
            frames.end_before(end);
        }
        self.names.clear();
        self.tenant = None;
        self.open = Some(Open { frames, segment });
    }

    /// Leaves out segments none of whose entries are wanted, as the one after each of them tells.
    fn skip_segments(&mut self) {
        while let Some(next) = self.segments.get(1) {
            let is_before = next.first_sequence <= self.filter.sequences.start;
            let is_other_time = || {
                // One that does not tell is no reason to leave anything out.
                let Ok(Ok(Header { previous, .. })) = next.header() else {
                    return false;
                };
                let wanted = &self.filter.times_us;
                previous.to_us < wanted.start || previous.from_us >= wanted.end
            };
            if !is_before && !is_other_time() {
                break;
            }
            self.expected = self.expected.max(next.first_sequence);
            self.segments.pop_front();
        }
    }
}

/// What has come of going on to the next segment.
enum Opened {
    /// It is open, or was removed meanwhile.
    Segment,
    Gap(Gap),
    /// There is none yet.
    Nothing,
}

/// What has come of leaving a segment.
enum Left {
    /// It was left, or has to be looked at once more.
    Done,
    Gap(Gap),
    /// There is no other one.
    NotYet,
}

impl Open {
    fn gap(&mut self, sequences: RangeInclusive<u64>) -> Gap {
        let error = self.frames.take_error();
        Gap {
            sequences,
            why: error.map_or(Loss::Damaged, Loss::Unreadable),
            path: self.segment.path.clone(),
        }
    }
}
