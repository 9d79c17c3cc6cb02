//! Work on whole files of the journal, which the control thread does not wait for: on a thread of its own, after everything
//! else that wants the processor.

use super::retention;
use crate::config::Policy;
use crate::journal::{self, Segment};
use crate::usage::{self, Day, Row, daily};
use jiff::tz::TimeZone;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of `nice`: what nobody waits for takes what others leave.
const NICENESS: i32 = 10;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Summaries that are missing are made, segments that are too old are dropped.
    Tend,
    /// The files of these days are written.
    Report(Vec<Day>),
}

/// What was done.
pub(super) enum Done {
    /// How the journal's files are.
    Tended(Tended),
    /// Files that could not be written.
    Reported(Vec<(Day, String)>),
}

/// How the journal's files are.
#[derive(Default)]
pub(super) struct Tended {
    pub(super) segments: usize,
    /// When the oldest one was begun, in microseconds since 1970.
    pub(super) oldest_us: Option<u64>,
    pub(super) dropped: usize,
    /// Why it was not all done.
    pub(super) error: Option<String>,
}

/// Where things are.
struct Desk {
    journal: PathBuf,
    reports: Option<PathBuf>,
    zone: TimeZone,
    retention: Duration,
}

/// The thread, which ends with the process: everything that it writes gets its name when it is whole.
pub(super) struct Clerk {
    orders: mpsc::Sender<Order>,
    done: mpsc::Receiver<Done>,
}

impl Clerk {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub(super) fn start(policy: &Policy) -> io::Result<Self> {
        let desk = Desk {
            journal: policy.journal.directory.clone(),
            reports: policy.usage.report_directory.clone(),
            zone: policy.usage.time_zone.clone(),
            retention: policy.journal.retention,
        };
        let (orders, ordered) = mpsc::channel();
        let (does, done) = mpsc::channel();
        thread::Builder::new()
            .name("clerk".to_owned())
            .spawn(move || {
                // On Linux this is the thread's alone. Refused, it is only less polite.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                for order in ordered {
                    let outcome = match order {
                        Order::Tend => Done::Tended(desk.tend(SystemTime::now())),
                        Order::Report(days) => Done::Reported(desk.report(&days)),
                    };
                    if does.send(outcome).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { orders, done })
    }

    /// To be done when what was ordered before is.
    pub(super) fn order(&self, order: Order) {
        // A thread that has panicked does nothing more; what it does can be missed.
        let _ = self.orders.send(order);
    }

    /// What was done since.
    pub(super) fn done(&self) -> impl Iterator<Item = Done> {
        self.done.try_iter()
    }
}

impl Desk {
    fn tend(&self, now: SystemTime) -> Tended {
        let mut tended = Tended::default();
        let outcome = self.try_tend(now, &mut tended);
        tended.error = outcome.err().map(|error| error.to_string());
        tended
    }

    fn try_tend(&self, now: SystemTime, tended: &mut Tended) -> io::Result<()> {
        let segments = journal::segments(&self.journal)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let horizon = now.saturating_sub(self.retention).as_micros() as u64;
        tended.dropped = retention::drop_before(&segments, horizon)?;
        let segments = &segments[tended.dropped..];
        tended.segments = segments.len();
        tended.oldest_us = segments.iter().find_map(created_us);
        usage::summarize(&self.journal, segments, &self.zone)
    }

    fn report(&self, days: &[Day]) -> Vec<(Day, String)> {
        let (Some(directory), Some(&first), Some(&last)) =
            (&self.reports, days.iter().min(), days.iter().max())
        else {
            return Vec::new();
        };
        let report = match usage::report(&self.journal, &self.zone, &(first..=last), None) {
            Ok(report) => report,
            Err(error) => {
                let failed = days.iter().map(|&day| (day, error.to_string()));
                return failed.collect();
            }
        };
        let mut failed = Vec::new();
        for rows in report.rows.chunk_by(is_of_one_file) {
            let Row { day, tenant, .. } = &rows[0];
            // What the journal has dropped meanwhile was there when the file was written.
            let is_whole = report.complete_since_us <= day.begins_us(&self.zone);
            if !days.contains(day) || !is_whole && daily::is_there(directory, tenant, *day) {
                continue;
            }
            if let Err(error) = daily::write(directory, tenant, *day, rows) {
                failed.push((*day, error.to_string()));
            }
        }
        failed
    }
}

fn is_of_one_file(one: &Row, other: &Row) -> bool {
    one.day == other.day && one.tenant == other.tenant
}

fn created_us(segment: &Segment) -> Option<u64> {
    Some(segment.header().ok()?.ok()?.created_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Entry;
    use crate::usage::samples::{DAY_US, entry, keep};
    use std::fs;
    use std::path::Path;

    const MIDNIGHT_US: u64 = 20_000 * DAY_US;

    fn desk(directory: &Path) -> Desk {
        Desk {
            journal: directory.join("journal"),
            reports: Some(directory.join("reports")),
            zone: TimeZone::UTC,
            retention: Duration::from_secs(3_600),
        }
    }

    fn at(tenant: &'static str, time_us: u64) -> Entry<&'static str> {
        Entry {
            time_us,
            ..entry(tenant, "m")
        }
    }

    fn days(days: &[&str]) -> Vec<Day> {
        days.iter().map(|day| day.parse().unwrap()).collect()
    }

    fn requests(directory: &Path, file: &str) -> Option<String> {
        let text = fs::read_to_string(directory.join("reports").join(file)).ok()?;
        let line = text.lines().nth(1)?;
        line.split(',').nth(2).map(str::to_owned)
    }

    #[test]
    fn each_tenant_has_a_file_for_each_day_on_which_it_has_used_something() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let desk = desk(path);
        let entries = [
            at("a", MIDNIGHT_US - 1),
            at("a", MIDNIGHT_US),
            at("b", MIDNIGHT_US),
            at("a", MIDNIGHT_US + 1),
            at("a", MIDNIGHT_US + DAY_US),
            at("a", MIDNIGHT_US + 2 * DAY_US),
        ];
        keep(&desk.journal, 1, &entries);
        // The day between was not asked for.
        assert_eq!(desk.report(&days(&["2024-10-04", "2024-10-06"])), []);
        let file = |name| requests(path, name);
        assert_eq!(file("a/2024-10-04.csv").as_deref(), Some("2"));
        assert_eq!(file("b/2024-10-04.csv").as_deref(), Some("1"));
        assert_eq!(file("a/2024-10-06.csv").as_deref(), Some("1"));
        let tenants = [("a", 2), ("b", 1)];
        for (tenant, files) in tenants {
            let found = fs::read_dir(path.join("reports").join(tenant)).unwrap();
            assert_eq!(found.count(), files, "{tenant}");
        }
    }

    #[test]
    fn a_file_gets_what_came_late_and_keeps_what_the_journal_has_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let desk = desk(path);
        let day = days(&["2024-10-04"]);
        keep(
            &desk.journal,
            1,
            &[at("a", MIDNIGHT_US), at("a", MIDNIGHT_US)],
        );
        desk.report(&day);
        keep(
            &desk.journal,
            1,
            &[at("a", MIDNIGHT_US), at("b", MIDNIGHT_US)],
        );
        desk.report(&day);
        assert_eq!(requests(path, "a/2024-10-04.csv").as_deref(), Some("3"));
        let segments = journal::segments(&desk.journal).unwrap();
        fs::remove_file(&segments[0].path).unwrap();
        fs::remove_file(path.join("reports/b/2024-10-04.csv")).unwrap();
        desk.report(&day);
        assert_eq!(requests(path, "a/2024-10-04.csv").as_deref(), Some("3"));
        assert_eq!(requests(path, "b/2024-10-04.csv").as_deref(), Some("1"));
    }

    #[test]
    fn files_that_cannot_be_written_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let desk = desk(path);
        keep(
            &desk.journal,
            1,
            &[at("a", MIDNIGHT_US), at("b", MIDNIGHT_US)],
        );
        fs::create_dir(path.join("reports")).unwrap();
        fs::write(path.join("reports/a"), "no directory").unwrap();
        let failed = desk.report(&days(&["2024-10-04"]));
        let failed_days: Vec<_> = failed.iter().map(|(day, _)| *day).collect();
        assert_eq!(failed_days, days(&["2024-10-04"]));
        assert_eq!(requests(path, "b/2024-10-04.csv").as_deref(), Some("1"));
    }

    #[test]
    fn files_of_the_journal_are_looked_after() {
        let directory = tempfile::tempdir().unwrap();
        let desk = desk(directory.path());
        let none = desk.tend(SystemTime::now());
        assert!(none.error.is_some() && none.segments == 0);
        keep(
            &desk.journal,
            1,
            &[entry("a", "m"), entry("a", "m"), entry("a", "m")],
        );
        let now = SystemTime::now();
        let tended = desk.tend(now);
        assert_eq!(
            (tended.segments, tended.dropped, tended.error),
            (3, 0, None)
        );
        let segments = journal::segments(&desk.journal).unwrap();
        assert!(usage::summary_path(&segments[1].path).exists());
        assert!(!usage::summary_path(&segments[2].path).exists());
        let first = segments[0].header().unwrap().unwrap();
        assert_eq!(tended.oldest_us, Some(first.created_us));
        let later = desk.tend(now + desk.retention + Duration::from_secs(1));
        assert_eq!((later.segments, later.dropped, later.error), (1, 2, None));
        let last = segments[2].header().unwrap().unwrap();
        assert_eq!(later.oldest_us, Some(last.created_us));
    }
}
