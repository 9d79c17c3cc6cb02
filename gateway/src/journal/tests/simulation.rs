//! Thousands of crashes of a journal on a disk that does its worst: whatever was acknowledged is there and unaltered, and
//! nothing is there that was not written.

use super::super::append::Appender;
use super::super::frame::Span;
use super::super::recover::{self, Survey};
use super::super::{Entries, Entry, Filter, Item};
use super::disk::{Disk, next_batch};
use super::sample;
use fastrand::Rng;
use std::ops::RangeInclusive;
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
    /// Some of these may be missing: a crash has torn the commit that they were in.
    torn: Vec<RangeInclusive<u64>>,
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
            torn: Vec::new(),
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

    /// The next process starts, maybe more than once.
    fn restart(&mut self) {
        loop {
            if self.disk.rng.bool() {
                self.disk.lose_power();
            }
            let directory = sample::directory();
            self.disk.show(directory.path());
            let found = recover::survey(directory.path()).unwrap();
            if self.disk.rng.u8(..4) == 0 {
                let done = self.disk.rng.usize(..found.repairs.len());
                let done = &found.repairs[..done];
                done.iter().for_each(|repair| self.disk.repair(repair));
                continue;
            }
            found
                .repairs
                .iter()
                .for_each(|repair| self.disk.repair(repair));
            return self.go_on(directory.path(), &found);
        }
    }

    fn go_on(&mut self, directory: &Path, survey: &Survey) {
        let acknowledged = self.appender.acknowledged();
        let found = &survey.recovered;
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
        // Before another segment begins, nobody but a start looks behind what is torn.
        let mut seen_to = self.appended.len();
        if let Some(torn) = &found.torn {
            // The process before may have found the same.
            let is_known = self.torn.contains(torn);
            assert!(
                is_known || *torn.start() > acknowledged,
                "{found:?} {acknowledged}"
            );
            self.torn.push(torn.clone());
            seen_to = *torn.start() as usize - 1;
        }
        let seen = read(directory);
        assert_eq!(seen.len(), seen_to);
        for (seen, entry) in seen.iter().zip(&self.appended) {
            let is_torn = |torn: &RangeInclusive<u64>| torn.contains(&entry.sequence);
            match seen {
                Some(seen) => assert_eq!(seen, entry),
                None => assert!(self.torn.iter().any(is_torn), "{}", entry.sequence),
            }
        }
        self.appender = Appender::new(SEGMENT_BYTES_MAX);
        self.appender.begin_at(found.next_sequence, survey.previous);
    }
}

/// By sequence from 1 on.
fn read(directory: &Path) -> Vec<Option<Entry>> {
    let mut entries = Entries::open(directory, Filter::default()).unwrap();
    let mut found = Vec::new();
    while let Some(item) = entries.next().unwrap() {
        match item {
            Item::Entry(entry) => {
                assert_eq!(entry.sequence, found.len() as u64 + 1);
                found.push(Some(sample::owned(&entry)));
            }
            Item::Gap(gap) => {
                assert_eq!(*gap.sequences.start(), found.len() as u64 + 1);
                found.extend(gap.sequences.map(|_| None));
            }
        }
    }
    found
}

#[test]
fn what_was_acknowledged_is_there_after_every_crash() {
    let (mut acknowledged, mut lost, mut torn) = (0, 0, 0);
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
        torn += world.torn.len();
    }
    // Otherwise nothing was shown.
    assert!(acknowledged > 10 * SEEDS, "{acknowledged}");
    assert!(lost as u64 > SEEDS, "{lost}");
    assert!(torn as u64 > SEEDS / 50, "{torn}");
}

#[test]
fn what_a_writer_that_has_vanished_has_written_is_not_written_twice() {
    for (seed, writes_all) in [(1, true), (2, false)] {
        let mut world = World::new(seed);
        let rng = &mut Rng::with_seed(seed);
        (0..5).for_each(|_| world.append());
        let batch = next_batch(&mut world.appender, 1, rng).unwrap();
        world.disk.carry_out(&batch).unwrap();
        world.appender.committed();
        (0..3).for_each(|_| world.append());
        let batch = next_batch(&mut world.appender, 2, rng).unwrap();
        if writes_all {
            world.disk.carry_out(&batch).unwrap();
        }
        (0..4).for_each(|_| world.append());
        world.appender.lost_sight();
        let directory = sample::directory();
        world.disk.show(directory.path());
        let survey = recover::survey(directory.path()).unwrap();
        let found = &survey.recovered;
        let readable_to = found.readable_to(6);
        assert_eq!(readable_to, if writes_all { 9 } else { 6 });
        let appender = &mut world.appender;
        appender.go_on_at(found.next_sequence, readable_to, survey.previous);
        let batch = next_batch(&mut world.appender, 3, rng).unwrap();
        world.disk.carry_out(&batch).unwrap();
        world.appender.committed();
        assert_eq!(world.appender.waiting_bytes(), 0);
        world.disk.show(directory.path());
        let appended: Vec<_> = world.appended.into_iter().map(Some).collect();
        assert_eq!(read(directory.path()), appended);
    }
}
