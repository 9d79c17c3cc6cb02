use super::*;
use crate::journal::tests::sample;
use crate::journal::{Entries, Filter, Item, Loss};
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SEGMENT_BYTES_MAX: u64 = 20_000;

const TIMEOUT: Duration = Duration::from_secs(60);

/// With both drivers, each in the runtime that the control thread has with it.
fn with_each_driver<F: Future<Output = ()>>(test: impl Fn(Engine) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test(Engine::Epoll));
    let (engine, _) = Engine::probe();
    if engine != Engine::Epoll {
        tokio_uring::start(test(engine));
    }
}

fn append(journal: &mut Journal, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        journal.append(&sample::borrowed(&sample::entry(sequence, sequence)));
    }
}

/// Until there is an outcome like this.
async fn tick_until(journal: &mut Journal, is_awaited: impl Fn(&Outcome) -> bool) -> Outcome {
    let gives_up_at = Instant::now() + TIMEOUT;
    loop {
        match journal.tick().await {
            Some(outcome) if is_awaited(&outcome) => return outcome,
            _ => assert!(Instant::now() < gives_up_at),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many entries are there, all of them as they were appended.
fn count(directory: &Path) -> u64 {
    let mut entries = Entries::open(directory, Filter::default()).unwrap();
    let mut count = 0;
    while let Some(item) = entries.next().unwrap() {
        let Item::Entry(entry) = item else {
            panic!("{item:?}");
        };
        count += 1;
        assert_eq!(sample::owned(&entry), sample::entry(count, count));
    }
    count
}

#[test]
fn entries_get_to_the_disk_over_restarts() {
    with_each_driver(async |engine| {
        let directory = sample::directory();
        let path = directory.path().join("state/journal");
        let mut appended = 0;
        for life in 1..=3 {
            let mut journal = Journal::new(path.clone(), SEGMENT_BYTES_MAX, engine);
            append(&mut journal, appended + 1..=appended + 50);
            assert!(journal.waiting_entries() == 50 && journal.waits_since().is_some());
            let recovered = journal.open().unwrap();
            assert_eq!(recovered.next_sequence, appended + 1);
            for _ in 0..10 {
                append(&mut journal, appended + 51..=appended + 150);
                let left = journal.finish(TIMEOUT).await;
                assert_eq!(left, 0);
                appended += 100;
            }
            appended += 50;
            assert_eq!(journal.acknowledged(), appended);
            assert_eq!((journal.waiting_bytes(), journal.waits_since()), (0, None));
            assert_eq!(count(&path), appended, "life {life}");
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o700));
        for file in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        let segments = crate::journal::segments(&path).unwrap();
        assert!(segments.len() > 6);
        for segment in segments {
            assert!(fs::metadata(segment.path).unwrap().len() < 2 * SEGMENT_BYTES_MAX);
        }
    });
}

#[test]
fn one_gateway_writes_at_a_time_and_the_next_goes_on_by_itself() {
    with_each_driver(async |engine| {
        let directory = sample::directory();
        let new = || Journal::new(directory.path().to_owned(), SEGMENT_BYTES_MAX, engine);
        let mut first = new();
        first.open().unwrap();
        let mut second = new();
        append(&mut second, 3..=4);
        let refused = tick_until(&mut second, |outcome| matches!(outcome, Outcome::Failed(_)));
        let Outcome::Failed(failure) = refused.await else {
            panic!("not refused");
        };
        assert_eq!(failure.error.kind(), io::ErrorKind::ResourceBusy);
        append(&mut first, 1..=2);
        assert_eq!(first.finish(TIMEOUT).await, 0);
        drop(first);
        let opened = tick_until(&mut second, |outcome| matches!(outcome, Outcome::Opened(_)));
        let Outcome::Opened(recovered) = opened.await else {
            panic!("not opened");
        };
        assert_eq!(recovered.next_sequence, 3);
        assert_eq!(second.finish(TIMEOUT).await, 0);
        assert_eq!(count(directory.path()), 4);
    });
}

#[test]
fn what_could_not_be_written_is_written_later() {
    with_each_driver(async |engine| {
        let directory = sample::directory();
        let path = directory.path().join("journal");
        let mut journal = Journal::new(path.clone(), SEGMENT_BYTES_MAX, engine);
        journal.open().unwrap();
        append(&mut journal, 1..=1_000);
        assert_eq!(journal.finish(TIMEOUT).await, 0);
        // The next segment cannot be made.
        let away = directory.path().join("away");
        fs::rename(&path, &away).unwrap();
        append(&mut journal, 1_001..=1_100);
        let failed = tick_until(&mut journal, |outcome| {
            matches!(outcome, Outcome::Failed(_))
        });
        let Outcome::Failed(failure) = failed.await else {
            panic!("not failed");
        };
        assert!(
            failure.to_string().starts_with("creating a segment: "),
            "{failure}"
        );
        assert_eq!(journal.finish(Duration::ZERO).await, 100);
        assert_eq!(journal.acknowledged(), 1_000);
        append(&mut journal, 1_101..=1_200);
        fs::rename(&away, &path).unwrap();
        assert_eq!(journal.finish(TIMEOUT).await, 0);
        assert_eq!(count(&path), 1_200);
    });
}

#[test]
fn a_segment_that_is_gone_is_told_and_not_written_to() {
    with_each_driver(async |engine| {
        let directory = sample::directory();
        let mut journal = Journal::new(directory.path().to_owned(), SEGMENT_BYTES_MAX, engine);
        journal.open().unwrap();
        append(&mut journal, 1..=10);
        assert_eq!(journal.finish(TIMEOUT).await, 0);
        drop(journal);
        let segment = &crate::journal::segments(directory.path()).unwrap()[0];
        fs::write(&segment.path, "").unwrap();
        let mut journal = Journal::new(directory.path().to_owned(), SEGMENT_BYTES_MAX, engine);
        let recovered = journal.open().unwrap();
        assert_eq!(recovered.unreadable.as_ref(), Some(&segment.path));
        append(&mut journal, 11..=20);
        assert_eq!(journal.finish(TIMEOUT).await, 0);
        let mut entries = Entries::open(directory.path(), Filter::default()).unwrap();
        let Some(Item::Gap(gap)) = entries.next().unwrap() else {
            panic!("no gap");
        };
        assert_eq!((gap.why, gap.path), (Loss::Damaged, segment.path.clone()));
        let mut count = 0;
        while let Some(Item::Entry(_)) = entries.next().unwrap() {
            count += 1;
        }
        assert_eq!(count, 10);
    });
}
