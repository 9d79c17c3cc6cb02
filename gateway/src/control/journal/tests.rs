//! The books over a directory that comes and goes, as a disk does.

use super::*;
use crate::config;
use crate::config::policy::TenantId;
use crate::journal::{Entries, Filter, Item, Withheld};
use crate::usage::Day;
use crate::usage::samples::{entry, keep};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A test that waits longer has failed.
const DEADLINE: Duration = Duration::from_secs(60);

struct Rig {
    directory: TempDir,
    books: Books,
    acceptance: &'static Acceptance,
    log: Log,
}

pub(in crate::control) fn policy(directory: &Path, mode: &str) -> Arc<Policy> {
    let (journal, reports) = (directory.join("journal"), directory.join("reports"));
    let key = "01".repeat(32);
    let text = format!(
        r#"
        [journal]
        mode = "{mode}"
        directory = {journal:?}
        [usage]
        report_directory = {reports:?}
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        [[account]]
        name = "first"
        upstream = "provider"
        credential = {{ env = "KEY" }}
        egress = ["127.0.0.1"]
        [[tenant]]
        name = "a"
        keys = [{{ sha256 = "{key}" }}]
        upstreams = ["provider"]
        limits = {{ requests_per_month = 100 }}
        "#
    );
    let environment = |_: &str| Some("sk-test".into());
    let loaded = config::parse(&text, Path::new("test.toml"), &environment);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(loaded.policy)
}

fn restoring(policy: &Policy, is_taken_over: bool) -> Restoring {
    let now = SystemTime::now();
    let allowances = Box::leak(Box::new(Allowances::new(policy, now)));
    Restoring::begin(policy, allowances, is_taken_over, now, &mut Log::nowhere())
}

/// Segments have one commit each: while the directory is away nothing can be written.
fn rig(mode: &str) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(directory.path(), mode);
    let mut journal = Journal::new(policy.journal.directory.clone(), 1, Engine::Epoll);
    journal.open().unwrap();
    let mut log = Log::nowhere();
    let opened = Opened {
        journal,
        failure: None,
        restoring: restoring(&policy, true),
    };
    let acceptance: &'static Acceptance = Box::leak(Box::new(Acceptance::new(policy.journal.mode)));
    let mut books = Books::begin(policy.clone(), opened, acceptance, &mut log);
    // It would find the directory away.
    books.clerk = None;
    Rig {
        directory,
        books,
        acceptance,
        log,
    }
}

impl Rig {
    fn path(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    fn take_away(&self) {
        fs::rename(self.path(), self.directory.path().join("away")).unwrap();
    }

    fn bring_back(&self) {
        fs::rename(self.directory.path().join("away"), self.path()).unwrap();
    }

    fn count(&mut self, count: usize) {
        for _ in 0..count {
            self.books.keep(&entry("a", "m"));
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Books) -> bool) {
        let gives_up_at = Instant::now() + DEADLINE;
        while !is_so(&self.books) {
            assert!(Instant::now() < gives_up_at, "{what}");
            self.books.tick(&mut self.log).await;
            tokio::task::yield_now().await;
        }
    }

    async fn until_all_is_written(&mut self) {
        self.until("everything on the disk", |books| {
            books.journal.waiting_entries() == 0 && books.disk == Disk::Writable
        })
        .await;
    }

    /// Whether requests are served: of tenants with quotas, and of others.
    fn served(&self) -> [Result<(), Withheld>; 2] {
        [true, false].map(|is_metered| self.acceptance.check(|| is_metered))
    }

    fn sequences(&self) -> Vec<u64> {
        let mut entries = Entries::open(&self.path(), Filter::default()).unwrap();
        let mut found = Vec::new();
        while let Some(item) = entries.next().unwrap() {
            match item {
                Item::Entry(entry) => found.push(entry.sequence),
                Item::Gap(gap) => panic!("{gap:?}"),
            }
        }
        found
    }

    fn events(&self) -> Vec<String> {
        let lines = self.log.waiting().lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|line: serde_json::Value| line["event"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The events, those that follow their like left out: why the disk fails may be known only after it was told that it does.
    fn stages(&self) -> Vec<String> {
        let mut events = self.events();
        events.dedup();
        events
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

#[test]
fn best_effort_serves_on_until_use_can_no_longer_be_counted() {
    run(async {
        let mut rig = rig("best_effort");
        rig.count(3);
        rig.until_all_is_written().await;
        assert_eq!(rig.served(), [Ok(()), Ok(())]);
        rig.take_away();
        rig.count(2);
        rig.until("failing", |books| books.disk == Disk::Failing)
            .await;
        assert_eq!(rig.served(), [Ok(()), Ok(())]);
        rig.books.patience.time_max = Duration::from_nanos(1);
        rig.until("overdue", |books| books.disk == Disk::Overdue)
            .await;
        assert_eq!(rig.served(), [Err(Withheld::Usage), Ok(())]);
        rig.bring_back();
        rig.until_all_is_written().await;
        assert_eq!(rig.served(), [Ok(()), Ok(())]);
        assert_eq!(rig.sequences(), [1, 2, 3, 4, 5]);
        let failing = rig
            .events()
            .iter()
            .filter(|event| *event == "journal_failing")
            .count();
        assert!(failing >= 2, "that it is overdue is told too");
        assert_eq!(rig.stages(), ["journal_failing", "journal_recovered"]);
    });
}

#[test]
fn strict_serves_nothing_while_the_disk_fails() {
    run(async {
        let mut rig = rig("strict");
        rig.take_away();
        assert_eq!(rig.served(), [Ok(()), Ok(())]);
        rig.count(1);
        rig.until("failing", |books| books.disk == Disk::Failing)
            .await;
        assert_eq!(rig.served(), [Err(Withheld::Audit); 2]);
        rig.bring_back();
        rig.until_all_is_written().await;
        assert_eq!(rig.served(), [Ok(()), Ok(())]);
        assert_eq!(rig.sequences(), [1]);
    });
}

#[test]
fn why_a_disk_that_was_silent_fails_is_told_once_it_is_known() {
    run(async {
        let mut rig = rig("strict");
        rig.books.patience.silence_max = Duration::ZERO;
        rig.take_away();
        rig.count(1);
        rig.books.tick(&mut rig.log).await;
        assert_eq!(rig.events(), ["journal_failing"]);
        assert!(rig.log.waiting().contains("the disk does not answer"));
        rig.until("a reason", |books| books.failure.is_some()).await;
        rig.books.tick(&mut rig.log).await;
        assert_eq!(rig.events(), ["journal_failing", "journal_failing"]);
        assert!(rig.log.waiting().contains("os error 2"));
    });
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    run(async {
        let mut rig = rig("best_effort");
        rig.take_away();
        rig.count(10);
        rig.books.patience.bytes_max = rig.books.journal.waiting_bytes() - 1;
        rig.until("overdue", |books| books.disk == Disk::Overdue)
            .await;
        rig.count(5);
        assert_eq!(rig.books.lost, 5);
        assert_eq!(rig.books.journal.waiting_entries(), 10);
        rig.bring_back();
        rig.until_all_is_written().await;
        rig.count(1);
        rig.until_all_is_written().await;
        assert_eq!(rig.sequences().len(), 11);
        assert_eq!(
            rig.stages(),
            [
                "journal_failing",
                "journal_recovered",
                "journal_records_lost"
            ]
        );
        assert!(rig.log.waiting().contains(r#""records":"5""#));
    });
}

#[test]
fn what_was_served_is_kept_where_everything_must_be() {
    run(async {
        let mut rig = rig("strict");
        rig.books.patience.bytes_max = 0;
        rig.count(3);
        let refused = Entry {
            charged: false,
            ..entry("a", "m")
        };
        rig.books.keep(&refused);
        assert_eq!(
            (rig.books.lost, rig.books.journal.waiting_entries()),
            (1, 3)
        );
    });
}

#[test]
fn the_end_waits_for_the_disk_but_not_for_ever() {
    run(async {
        let mut rig = rig("best_effort");
        rig.count(100);
        rig.books.finish(DEADLINE, 0, &mut rig.log).await;
        assert_eq!(rig.sequences().len(), 100);
        assert_eq!(rig.events(), [""; 0]);
        rig.take_away();
        rig.count(7);
        rig.books
            .finish(Duration::from_millis(50), 2, &mut rig.log)
            .await;
        assert_eq!(rig.events(), ["journal_records_lost"]);
        assert!(rig.log.waiting().contains(r#""records":"9""#));
    });
}

#[test]
fn days_that_were_over_before_the_start_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(directory.path(), "best_effort");
    let (now, zone) = (micros(SystemTime::now()), &policy.usage.time_zone);
    let yesterday = Day::of(now, zone).earlier(1);
    let first = Entry {
        time_us: yesterday.begins_us(zone),
        ..entry("a", "m")
    };
    keep(&policy.journal.directory, 1, &[first.clone(), first]);
    run(async {
        let mut log = Log::nowhere();
        let mut journal = Journal::new(policy.journal.directory.clone(), 1, Engine::Epoll);
        journal.open().unwrap();
        let opened = Opened {
            journal,
            failure: None,
            restoring: restoring(&policy, true),
        };
        let acceptance: &'static Acceptance =
            Box::leak(Box::new(Acceptance::new(policy.journal.mode)));
        let mut books = Books::begin(policy.clone(), opened, acceptance, &mut log);
        let file = directory.path().join(format!("reports/a/{yesterday}.csv"));
        let gives_up_at = Instant::now() + DEADLINE;
        while !file.exists() {
            assert!(Instant::now() < gives_up_at, "{}", log.waiting());
            books.tick(&mut log).await;
        }
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("\r\n01010101,m,2,0,20,8,6,2,"), "{text}");
    });
}

/// Requests of the tenant that are counted this month.
fn counted(allowances: &Allowances) -> u64 {
    let state = allowances.state(TenantId(0), None, Instant::now());
    state.limits[0].used
}

#[test]
fn what_a_gateway_adds_that_still_drains_is_counted_when_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(directory.path(), "best_effort");
    let now = SystemTime::now();
    let one = Entry {
        time_us: micros(now),
        ..entry("a", "m")
    };
    let allowances: &'static Allowances = Box::leak(Box::new(Allowances::new(&policy, now)));
    let acceptance: &'static Acceptance = Box::leak(Box::new(Acceptance::new(policy.journal.mode)));
    run(async {
        let mut log = Log::nowhere();
        let path = policy.journal.directory.clone();
        let mut other = Journal::new(path, 1 << 20, Engine::Epoll);
        other.open().unwrap();
        other.append(&one);
        assert_eq!(other.finish(DEADLINE).await, 0);
        let opened = open(
            &policy,
            allowances,
            acceptance,
            Engine::Epoll,
            now,
            &mut log,
        );
        let mut books = Books::begin(
            policy.clone(),
            opened.unwrap().unwrap(),
            acceptance,
            &mut log,
        );
        assert_eq!(counted(allowances), 1);
        // It serves meanwhile, and counts what it serves.
        books.keep(&one);
        other.append(&one);
        other.append(&one);
        assert_eq!(other.finish(DEADLINE).await, 0);
        drop(other);
        let gives_up_at = Instant::now() + DEADLINE;
        while books.journal.waiting_entries() > 0 {
            assert!(Instant::now() < gives_up_at, "{}", log.waiting());
            books.tick(&mut log).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(counted(allowances), 3);
    });
}

#[test]
fn no_quotas_without_what_was_used_before() {
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(directory.path(), "best_effort");
    let path = &policy.journal.directory;
    let entry = Entry {
        time_us: micros(SystemTime::now()),
        ..entry("a", "m")
    };
    keep(path, 1, &[entry]);
    let away = directory.path().join("away");
    fs::rename(path, &away).unwrap();
    // No directory, and not nothing.
    fs::write(path, "").unwrap();
    let allowances: &'static Allowances =
        Box::leak(Box::new(Allowances::new(&policy, SystemTime::now())));
    let mut log = Log::nowhere();
    let now = SystemTime::now();
    let mut restoring = Restoring::begin(&policy, allowances, true, now, &mut log);
    assert!(!restoring.is_known() && restoring.holds_back());
    assert!(log.waiting().contains("usage_not_restored"));
    fs::remove_file(path).unwrap();
    fs::rename(&away, path).unwrap();
    run(async {
        let gives_up_at = Instant::now() + DEADLINE;
        while restoring.holds_back() {
            assert!(Instant::now() < gives_up_at, "{}", log.waiting());
            restoring.tick(&policy, &mut log).await;
            tokio::task::yield_now().await;
        }
    });
    assert!(restoring.is_known() && restoring.is_whole());
    assert_eq!(counted(allowances), 1);
}
