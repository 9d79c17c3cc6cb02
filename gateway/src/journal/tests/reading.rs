//! Reading what is wanted, also while it is written to.

use super::super::append::Appender;
use super::super::frame::Span;
use super::super::{Entries, Entry, Filter, Gap, Item, Loss};
use super::damage::Whole;
use super::disk::{Disk, next_batch};
use super::sample;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

fn read(directory: &Path, filter: Filter) -> Vec<Entry> {
    let mut entries = Entries::open(directory, filter).unwrap();
    drain(&mut entries)
}

/// All that is there by now.
fn drain(entries: &mut Entries) -> Vec<Entry> {
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
fn a_filter_gives_what_is_wanted_and_all_of_it() {
    // Times go up and down, as they do where requests take longer and shorter.
    let entry = |sequence: u64| Entry {
        time_us: sequence * 10 + sequence % 7 * 5,
        ..sample::entry(sequence, sequence)
    };
    let whole = Whole::write((1..=400).map(entry).collect(), 7, 3_000);
    let directory = whole.directory.path();
    for seed in 0..200 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut range = |most: u64| {
            let from = rng.u64(..most);
            from..rng.u64(from..=most)
        };
        let filter = Filter {
            times_us: range(4_200),
            sequences: range(420),
            tenant: rng
                .bool()
                .then(|| format!("tenant-{}", rng.u8(..20)).into()),
        };
        let is_wanted = |entry: &&Entry| {
            filter.times_us.contains(&entry.time_us)
                && filter.sequences.contains(&entry.sequence)
                && (filter.tenant.is_none() || filter.tenant.as_deref() == entry.tenant.as_deref())
        };
        let wanted: Vec<_> = whole.entries.iter().filter(is_wanted).cloned().collect();
        assert_eq!(read(directory, filter), wanted, "seed {seed}");
    }
}

#[test]
fn segments_without_wanted_entries_are_not_read() {
    let entry = |sequence: u64| Entry {
        time_us: sequence * 10,
        ..sample::entry(sequence, sequence)
    };
    let whole = Whole::write((1..=200).map(entry).collect(), 5, 3_000);
    assert!(whole.segments.len() > 5);
    // Reading it would tell that it is damaged.
    for path in &whole.segments[..3] {
        let mut content = fs::read(path).unwrap();
        content[60..].fill(0);
        fs::write(path, content).unwrap();
    }
    let late = Filter {
        times_us: 1_500..u64::MAX,
        ..Filter::default()
    };
    assert_eq!(read(whole.directory.path(), late), whole.entries[149..]);
    let late = Filter {
        sequences: 150..u64::MAX,
        ..Filter::default()
    };
    assert_eq!(read(whole.directory.path(), late), whole.entries[149..]);
}

#[test]
fn whoever_follows_sees_everything_once_and_never_a_gap() {
    let mut disk = Disk::new(3);
    let mut appender = Appender::new(4_000);
    appender.begin_at(1, Span::EMPTY);
    let directory = sample::directory();
    let mut entries = Entries::open(directory.path(), Filter::default()).unwrap();
    let (mut written, mut seen) = (Vec::new(), Vec::new());
    for second in 0..30 {
        for _ in 0..disk.rng.usize(1..8) {
            let sequence = written.len() as u64 + 1;
            let entry = sample::entry(sequence, sequence);
            appender.append(&sample::borrowed(&entry), Instant::now);
            written.push(entry);
        }
        let mut rng = disk.rng.fork();
        let batch = next_batch(&mut appender, second, &mut rng).unwrap();
        let before = disk.segment_names().pop();
        let length = before.as_ref().map_or(0, |name| disk.content(name).len());
        disk.carry_out(&batch).unwrap();
        if let Some(name) = before.filter(|_| !batch.begins_segment) {
            // The file grows, and is looked at again and again.
            let content = disk.content(&name).clone();
            for grown in (length..content.len()).step_by(13) {
                fs::write(directory.path().join(&name), &content[..grown]).unwrap();
                seen.extend(drain(&mut entries));
            }
        }
        match disk.rng.u8(..6) {
            // The batch is there, but the writer does not know.
            0 => appender.failed(),
            _ => appender.committed(),
        }
        disk.show(directory.path());
        seen.extend(drain(&mut entries));
    }
    while let Some(batch) = next_batch(&mut appender, 31, &mut fastrand::Rng::with_seed(1)) {
        disk.carry_out(&batch).unwrap();
        appender.committed();
    }
    disk.show(directory.path());
    seen.extend(drain(&mut entries));
    assert_eq!(seen, written);
}

#[test]
fn segments_that_are_removed_meanwhile_are_missing() {
    let whole = Whole::small();
    let mut entries = Entries::open(whole.directory.path(), Filter::default()).unwrap();
    let Some(Item::Entry(first)) = entries.next().unwrap() else {
        panic!("nothing is there");
    };
    assert_eq!(first.sequence, 1);
    fs::remove_file(&whole.segments[1]).unwrap();
    let (mut missing, mut found) = (Vec::new(), 1);
    while let Some(item) = entries.next().unwrap() {
        match item {
            Item::Entry(_) => found += 1,
            Item::Gap(Gap { sequences, why, .. }) => {
                assert_eq!(why, Loss::Missing);
                missing.extend(sequences);
            }
        }
    }
    assert!(!missing.is_empty());
    assert_eq!(found + missing.len(), whole.entries.len());
    // What retention has removed is not.
    fs::remove_file(&whole.segments[0]).unwrap();
    let kept = read(whole.directory.path(), Filter::default());
    assert_eq!(kept, whole.entries[whole.entries.len() - kept.len()..]);
}

#[test]
fn ever_new_names_end_a_segment_and_are_all_kept() {
    let entry = |sequence: u64| Entry {
        egress: Some(IpAddr::V6(u128::from(sequence).into())),
        ..sample::entry(sequence, 5)
    };
    let whole = Whole::write((1..=70_000).map(entry).collect(), 10_000, u64::MAX);
    assert_eq!(whole.segments.len(), 3);
    let found = read(whole.directory.path(), Filter::default());
    assert!(found == whole.entries);
}

#[test]
fn ever_new_models_end_no_segment_and_are_all_kept() {
    let entry = |sequence: u64| Entry {
        model: Some(format!("modèle-{sequence}").into()),
        ..sample::entry(sequence, sequence)
    };
    let whole = Whole::write((1..=40_000).map(entry).collect(), 10_000, u64::MAX);
    assert_eq!(whole.segments.len(), 1);
    let found = read(whole.directory.path(), Filter::default());
    assert!(found == whole.entries);
}

#[test]
fn what_waits_is_counted_with_its_names() {
    let mut appender = Appender::new(u64::MAX);
    let name = "m".repeat(250);
    let mut least = 0;
    for sequence in 0..10_000 {
        let entry = Entry {
            model: Some(format!("{name}{sequence}").into()),
            ..sample::entry(sequence, 5)
        };
        appender.append(&sample::borrowed(&entry), Instant::now);
        least += name.len();
        assert!(appender.waiting_bytes() > least);
    }
    appender.begin_at(1, Span::EMPTY);
    while next_batch(&mut appender, 1, &mut fastrand::Rng::with_seed(1)).is_some() {
        appender.committed();
    }
    assert_eq!(appender.waiting_bytes(), 0);
}

#[test]
fn a_name_is_cut_where_it_is_too_long() {
    let long = Entry {
        tenant: Some("é".repeat(300).into()),
        ..sample::entry(1, 5)
    };
    let whole = Whole::write(vec![long], 1, u64::MAX);
    let filter = Filter {
        tenant: Some("é".repeat(300).into()),
        ..Filter::default()
    };
    let found = read(whole.directory.path(), filter);
    assert_eq!(found[0].tenant.as_deref(), Some(&*"é".repeat(128)));
}

#[test]
fn a_segment_that_the_disk_does_not_give_is_a_gap_and_what_is_around_it_is_read() {
    for (broken, tells_times) in [(0, true), (1, true), (1, false), (2, true)] {
        let whole = Whole::small();
        let path = &whole.segments[broken];
        // Reading a directory fails as often as it is tried.
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        let mut filter = Filter::default();
        if tells_times {
            // Headers are looked at as well.
            filter.times_us = 1..u64::MAX;
        }
        let mut entries = Entries::open(whole.directory.path(), filter).unwrap();
        let mut seen = Vec::new();
        let mut why = None;
        while let Some(item) = entries.next().unwrap() {
            match item {
                Item::Entry(entry) => seen.push(entry.sequence..=entry.sequence),
                Item::Gap(gap) => {
                    assert_eq!((why.replace(gap.why), &gap.path), (None, path));
                    seen.push(gap.sequences);
                }
            }
        }
        assert_eq!(why, Some(Loss::Unreadable(ErrorKind::IsADirectory)));
        let seen: Vec<u64> = seen.into_iter().flatten().collect();
        let all: Vec<u64> = (1..=whole.entries.len() as u64).collect();
        assert_eq!(seen, all, "segment {broken}");
    }
}
