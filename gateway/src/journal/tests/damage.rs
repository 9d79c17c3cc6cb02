//! Damage anywhere: what is read is what was written, and what is not read is told.

use super::super::append::Appender;
use super::super::frame::{HEADER_BYTES, Span};
use super::super::names::REPEAT_BYTES;
use super::super::recover;
use super::super::{Entries, Entry, Filter, Item, Journal, Loss, Recovered};
use super::disk::{Disk, next_batch};
use super::sample;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A journal of several segments, each of several commits, on a real disk.
pub(super) struct Whole {
    pub(super) directory: TempDir,
    pub(super) entries: Vec<Entry>,
    /// Oldest first.
    pub(super) segments: Vec<PathBuf>,
}

impl Whole {
    pub(super) fn write(entries: Vec<Entry>, per_commit: usize, segment_bytes_max: u64) -> Self {
        Self::write_with(1, entries, per_commit, segment_bytes_max)
    }

    /// Segments have other identities with another seed.
    fn write_with(
        seed: u64,
        entries: Vec<Entry>,
        per_commit: usize,
        segment_bytes_max: u64,
    ) -> Self {
        let mut disk = Disk::new(seed);
        let mut appender = Appender::new(segment_bytes_max);
        appender.begin_at(1, Span::EMPTY);
        for (second, commit) in entries.chunks(per_commit).enumerate() {
            for entry in commit {
                appender.append(&sample::borrowed(entry), Instant::now);
            }
            let mut rng = disk.rng.fork();
            while let Some(batch) = next_batch(&mut appender, second as u64, &mut rng) {
                disk.carry_out(&batch).unwrap();
                appender.committed();
            }
        }
        let directory = sample::directory();
        disk.show(directory.path());
        let paths = disk.segment_names();
        Self {
            segments: paths
                .iter()
                .map(|name| directory.path().join(name))
                .collect(),
            directory,
            entries,
        }
    }

    pub(super) fn small() -> Self {
        let entries = (1..=40).map(|sequence| sample::entry(sequence, sequence));
        let whole = Self::write(entries.collect(), 5, 1_500);
        assert!(whole.segments.len() >= 3);
        whole
    }
}

/// Entries that were read, and sequences that cannot be.
fn read(directory: &Path) -> (Vec<Entry>, Vec<u64>) {
    let mut entries = Entries::open(directory, Filter::default()).unwrap();
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    while let Some(item) = entries.next().unwrap() {
        match item {
            Item::Entry(entry) => found.push(sample::owned(&entry)),
            Item::Gap(gap) => {
                assert_eq!(gap.why, Loss::Damaged);
                gaps.extend(gap.sequences);
            }
        }
    }
    (found, gaps)
}

/// Each entry was either read as it was written, or told to be missing; but those from `cut` on may be missing silently.
fn check(whole: &Whole, cut: u64, context: &str) -> usize {
    let (found, gaps) = read(whole.directory.path());
    let mut next = found.iter().peekable();
    for entry in &whole.entries {
        let is_gap = gaps.contains(&entry.sequence);
        if let Some(found) = next.next_if(|found| found.sequence == entry.sequence) {
            assert!(!is_gap && found == entry, "{context}: {found:?}");
        } else {
            assert!(
                is_gap || entry.sequence >= cut,
                "{context}: {}",
                entry.sequence
            );
        }
    }
    assert_eq!(next.next(), None, "{context}");
    found.len()
}

fn recover(whole: &Whole) -> Recovered {
    recover::take(whole.directory.path()).unwrap().recovered
}

#[test]
fn every_damaged_byte_is_noticed_and_costs_little() {
    let whole = Whole::small();
    let all = whole.entries.len();
    let last_commit = all as u64 - 4;
    assert_eq!(check(&whole, u64::MAX, "whole"), all);
    let mut rng = fastrand::Rng::with_seed(7);
    for path in &whole.segments {
        let content = fs::read(path).unwrap();
        let is_last = Some(path) == whole.segments.last();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << rng.u32(..8);
            fs::write(path, &damaged).unwrap();
            let context = format!("byte {at} of {}", path.display());
            let cut = if is_last { last_commit } else { u64::MAX };
            let read = check(&whole, cut, &context);
            // A definition is lost with its frame, and all that refer to it: here at most those of one segment.
            assert!(read > all / 3, "{context}: {read}");
            let recovered = recover(&whole);
            assert!(
                recovered.next_sequence >= last_commit,
                "{context} {recovered:?}"
            );
            let told: Vec<u64> = recovered.lost.iter().cloned().flatten().collect();
            assert!(is_last || told.is_empty(), "{context} {recovered:?}");
            if at < HEADER_BYTES && is_last {
                assert_eq!(recovered.unreadable.as_ref(), Some(path));
                assert!(recovered.next_sequence > all as u64);
            }
        }
        fs::write(path, content).unwrap();
    }
}

#[test]
fn every_truncation_leaves_what_is_before_it() {
    let whole = Whole::small();
    let path = whole.segments.last().unwrap();
    let first = Filter::default();
    let mut entries = Entries::open(path.parent().unwrap(), first).unwrap();
    let mut before = 0;
    while let Some(Item::Entry(entry)) = entries.next().unwrap() {
        before = entry.sequence;
    }
    assert_eq!(before, whole.entries.len() as u64);
    let content = fs::read(path).unwrap();
    let mut last_next = u64::MAX;
    for length in (HEADER_BYTES..content.len()).rev() {
        fs::write(path, &content[..length]).unwrap();
        let recovered = recover(&whole);
        if recovered.unreadable.is_some() {
            // Nothing of its first commit is left.
            continue;
        }
        let (found, gaps) = read(whole.directory.path());
        assert_eq!(found, whole.entries[..recovered.next_sequence as usize - 1]);
        assert!(gaps.is_empty() && recovered.next_sequence <= last_next);
        last_next = recovered.next_sequence;
    }
    assert!(last_next < whole.entries.len() as u64);
}

#[test]
fn a_segment_that_cannot_be_read_at_all_is_left_and_its_sequences_are_not_used_again() {
    let whole = Whole::small();
    let path = whole.segments.last().unwrap();
    for content in [&b""[..], b"CRjournl", &[0; 400]] {
        fs::write(path, content).unwrap();
        let recovered = recover(&whole);
        assert_eq!(recovered.unreadable.as_ref(), Some(path));
        let first = whole.entries.len() as u64 - recovered.lost[0].start();
        assert!(first < 20);
        let (_, gaps) = read(whole.directory.path());
        assert_eq!(gaps.last(), Some(&(recovered.next_sequence - 1)));
        assert!(path.exists());
    }
}

#[test]
fn what_belonged_to_another_file_is_not_taken_for_this_ones() {
    let whole = Whole::small();
    let [first, second] = [0, 1].map(|index| fs::read(&whole.segments[index]).unwrap());
    // As if the disk had written one file's sectors into another one.
    let mixed = [&first[..HEADER_BYTES], &second[HEADER_BYTES..]].concat();
    fs::write(&whole.segments[0], mixed).unwrap();
    check(&whole, u64::MAX, "mixed");
    // As if somebody had copied a file over another one.
    fs::write(&whole.segments[0], second).unwrap();
    check(&whole, u64::MAX, "copied");
    // Even if its sequences are the same: a segment that is begun again has those of the one that was left.
    let [one, other] = [1_000, 2_000].map(|seed| {
        let entries = (1..=40).map(|sequence| sample::entry(sequence, seed + sequence));
        Whole::write_with(seed, entries.collect(), 5, u64::MAX)
    });
    let [own, others] = [&one, &other].map(|whole| fs::read(&whole.segments[0]).unwrap());
    let mixed = [&own[..HEADER_BYTES], &others[HEADER_BYTES..]].concat();
    fs::write(&one.segments[0], mixed).unwrap();
    assert_eq!(check(&one, 0, "same sequences"), 0);
}

#[test]
fn definitions_are_repeated_so_that_damage_does_not_reach_far() {
    let count = 20_000;
    let entries: Vec<_> = (1..=count)
        .map(|sequence| sample::entry(sequence, sequence % 1_000))
        .map(|entry| Entry {
            sequence: entry.sequence,
            ..entry
        })
        .collect();
    let whole = Whole::write(entries, 500, u64::MAX);
    let [path] = &whole.segments[..] else {
        panic!("{:?}", whole.segments);
    };
    let mut content = fs::read(path).unwrap();
    assert!(content.len() as u64 > 2 * REPEAT_BYTES);
    // The first 8 KiB have all the definitions.
    content[HEADER_BYTES..8 << 10].fill(0);
    fs::write(path, &content).unwrap();
    let read = check(&whole, u64::MAX, "first definitions");
    let repeated = REPEAT_BYTES as usize * count as usize / content.len();
    assert!(read > count as usize - repeated - 2_000, "{read}");
    assert!(read < count as usize - 1_000, "{read}");
}

#[test]
fn what_is_cut_out_of_the_last_commit_is_told_and_what_is_behind_it_is_kept() {
    let entries = (1..=20).map(|sequence| sample::entry(sequence, 1));
    let whole = Whole::write(entries.collect(), 10, u64::MAX);
    let path = &whole.segments[0];
    let mut content = fs::read(path).unwrap();
    let frame_bytes = 130;
    let at = content.len() - 3 * frame_bytes;
    content[at..at + 20].fill(0);
    fs::write(path, content).unwrap();
    let mut torn = Vec::new();
    for _ in 0..2 {
        let recovered = recover(&whole);
        assert!(recovered.lost.is_empty() && recovered.unreadable.is_none());
        assert_eq!(recovered.next_sequence, 21);
        torn = recovered.torn.into_iter().flatten().collect();
        assert!(torn.len() > 1 && torn[0] > 10, "{torn:?}");
    }
    // Before another segment begins, the commit may still be written.
    assert_eq!(read(whole.directory.path()).0.len() as u64, torn[0] - 1);
    let mut journal = Journal::new(
        whole.directory.path().to_owned(),
        u64::MAX,
        relay_io::Engine::Epoll,
    );
    journal.open().unwrap();
    journal.append(&sample::borrowed(&sample::entry(21, 1)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(journal.finish(Duration::from_secs(60))), 0);
    let (found, gaps) = read(whole.directory.path());
    assert!((1..torn.len()).contains(&gaps.len()), "{gaps:?}");
    assert!(gaps.iter().all(|gap| torn.contains(gap)));
    assert_eq!(found.len() + gaps.len(), 21);
}

#[test]
fn a_disk_that_fails_with_the_last_segment_does_not_keep_the_next_from_beginning() {
    let whole = Whole::small();
    let path = whole.segments.last().unwrap();
    // Reading a directory fails as often as it is tried.
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    let recovered = recover(&whole);
    assert_eq!(recovered.unreadable.as_ref(), Some(path));
    assert!(recovered.error.is_some());
    assert_eq!(*recovered.lost[0].end() + 1, recovered.next_sequence);
}
