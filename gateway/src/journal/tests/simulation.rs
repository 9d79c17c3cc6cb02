//! Thousands of crashes of a journal on a disk that does its worst: whatever was acknowledged is there and unaltered, and
//! nothing is there that was not written.

use super::super::append::Appender;
use super::super::frame::Span;
use super::super::frames::{Found, Frames};
use super::super::recover;
use super::super::segment::{Segment, segments};
use super::super::{Entries, Entry, Filter, Item};
use super::disk::{Disk, next_batch};
use super::sample;
use std::path::Path;
use std::time::Instant;

const SEEDS: u64 = 1_500;

const LIVES: usize = 4;

/// Small, so that segments come and go.
const SEGMENT_BYTES_MAX: u64 = 3_000;

/// A journal, and what it must hold.
struct World {
    disk: Disk,
    appender: Appender,
    /// Every entry that was appended and not certainly lost, by sequence from 1 on.
    appended: Vec<Entry>,
    second: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut appender = Appender::new(SEGMENT_BYTES_MAX);
        appender.begin_at(1, Span::EMPTY);
        Self {
            disk: Disk::new(seed),
            appender,
            appended: Vec::new(),
            second: 0,
        }
    }

    fn append(&mut self) {
        let sequence = self.appended.len() as u64 + 1;
        let entry = sample::entry(sequence, self.disk.rng.u64(..));
        self.appender
            .append(&sample::borrowed(&entry), Instant::now);
        self.appended.push(entry);
    }

    /// Entries come, and are written or not, until the process or the host dies.
    fn live(&mut self) {
        for _ in 0..self.disk.rng.usize(1..12) {
            for _ in 0..self.disk.rng.usize(..12) {
                self.append();
            }
            // Now and then more than a day passes.
            self.second += if self.disk.rng.u8(..20) == 0 {
                100_000
            } else {
                1
            };
            let mut rng = self.disk.rng.fork();
            let Some(batch) = next_batch(&mut self.appender, self.second, &mut rng) else {
                continue;
            };
            // Meanwhile more come.
            for _ in 0..self.disk.rng.usize(..3) {
                self.append();
            }
            match self.disk.rng.u8(..10) {
                0 => return self.disk.carry_out_in_part(&batch),
                _ => match self.disk.carry_out(&batch) {
                    Ok(()) => self.appender.committed(),
                    Err(_) => self.appender.failed(),
                },
            }
        }
    }

    /// The next process starts.
    fn restart(&mut self) {
        if self.disk.rng.bool() {
            self.disk.lose_power();
        }
        let directory = sample::directory();
        self.disk.show(directory.path());
        let acknowledged = self.appender.acknowledged();
        let last = segments(directory.path()).unwrap().pop();
        let last = last.map(|segment| written_again(&segment));
        let taken = recover::take(directory.path()).unwrap();
        let found = &taken.recovered;
        assert!(
            found.lost.is_empty() && found.unreadable.is_none(),
            "{found:?}"
        );
        assert!(
            found.next_sequence > acknowledged,
            "{found:?} {acknowledged}"
        );
        self.appended.truncate(found.next_sequence as usize - 1);
        assert_eq!(self.appended.len() as u64 + 1, found.next_sequence);
        assert_eq!(read(directory.path()), self.appended);
        let last = last.as_ref().map(|(name, from, to)| (&**name, *from, *to));
        self.disk.note_recovered(last);
        self.appender = Appender::new(SEGMENT_BYTES_MAX);
        self.appender.begin_at(found.next_sequence, taken.previous);
    }
}

/// What recovery writes again of the last segment.
fn written_again(segment: &Segment) -> (String, u64, u64) {
    let (file, header) = segment.open().unwrap().unwrap();
    let mut frames = Frames::new(file, &header);
    while frames.next() != Found::End {}
    let name = segment.path.file_name().unwrap().to_str().unwrap();
    (name.to_owned(), frames.commit_at(), frames.position())
}

fn read(directory: &Path) -> Vec<Entry> {
    let mut entries = Entries::open(directory, Filter::default()).unwrap();
    let mut found = Vec::new();
    while let Some(item) = entries.next().unwrap() {
        match item {
            Item::Entry(entry) => found.push(sample::owned(&entry)),
            Item::Gap(gap) => panic!("{gap:?}"),
        }
    }
    found
}

#[test]
fn what_was_acknowledged_is_there_after_every_crash() {
    let (mut acknowledged, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.disk.fails_one_in = [None, Some(30), Some(4)][seed as usize % 3];
        for _ in 0..LIVES {
            world.live();
            let appended = world.appended.len();
            acknowledged += world.appender.acknowledged();
            world.restart();
            lost += appended - world.appended.len();
        }
    }
    // Otherwise nothing was shown.
    assert!(acknowledged > 10 * SEEDS, "{acknowledged}");
    assert!(lost as u64 > SEEDS, "{lost}");
}
