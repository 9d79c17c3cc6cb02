//! Work on whole files of the journal, which the control thread does not wait for: on a thread of its own, after everything
//! else that wants the processor.

use super::retention;
use crate::config::Policy;
use crate::journal::Files;
use crate::usage::{self, Day, Row, daily};
use jiff::tz::TimeZone;
use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of `nice`: what nobody waits for takes what others leave.
const NICENESS: i32 = 10;

/// What is to be done.
#[derive(Clone, Debug)]
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
    /// Reports were written.
    Reported(Reported),
    /// It has panicked over this; it goes on with what was ordered next.
    Panicked(Order),
}

/// What was not as it should be with the reports.
#[derive(Default)]
pub(super) struct Reported {
    /// Files that could not be written.
    pub(super) failed: Vec<(Day, String)>,
    /// What could not be read: new files lack it, and files that are there were not replaced.
    pub(super) gaps: Vec<String>,
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
    /// Segments beside which it stands what they come to.
    summed_up: HashSet<u64>,
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
        let mut desk = Desk {
            journal: policy.journal.directory.clone(),
            reports: policy.usage.report_directory.clone(),
            zone: policy.usage.time_zone.clone(),
            retention: policy.journal.retention,
            summed_up: HashSet::new(),
        };
        let (orders, ordered) = mpsc::channel();
        let (does, done) = mpsc::channel();
        thread::Builder::new()
            .name("clerk".to_owned())
            .spawn(move || {
                // On Linux this is the thread's alone. Refused, it is only less polite.
                let _ = rustix::process::setpriority_process(None, NICENESS);
                for order in ordered {
                    // The desk holds nothing that half of an order could have put out of order.
                    let outcome = catch_unwind(AssertUnwindSafe(|| desk.obey(&order)));
                    if does.send(outcome.unwrap_or(Done::Panicked(order))).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { orders, done })
    }

    /// To be done when what was ordered before is.
    pub(super) fn order(&self, order: Order) {
        // The thread ends with the process only.
        let _ = self.orders.send(order);
    }

    /// What was done since.
    pub(super) fn done(&self) -> impl Iterator<Item = Done> {
        self.done.try_iter()
    }
}

impl Desk {
    fn obey(&mut self, order: &Order) -> Done {
        match order {
            Order::Tend => Done::Tended(self.tend(SystemTime::now())),
            Order::Report(days) => Done::Reported(self.report(days)),
        }
    }

    fn tend(&mut self, now: SystemTime) -> Tended {
        match Files::list(&self.journal) {
            Ok(files) => self.tend_to(files, now),
            Err(error) => Tended {
                error: Some(error.to_string()),
                ..Tended::default()
            },
        }
    }

    /// One thing that fails does not keep the others from being done.
    fn tend_to(&mut self, files: Files, now: SystemTime) -> Tended {
        let Files {
            segments, sidecars, ..
        } = files;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = now.as_micros() as u64;
        // Before any of them goes.
        let summed_up = usage::summarize(&self.journal, &segments, &self.zone, &mut self.summed_up);
        let horizon_us = retention::horizon_us(&segments, now_us, self.retention);
        let dropped = retention::drop_before(segments, horizon_us, now_us);
        let forgotten = usage::forget_before(&dropped.left, &sidecars, horizon_us);
        let errors = [summed_up.err(), dropped.error, forgotten.err()];
        Tended {
            segments: dropped.left.len(),
            oldest_us: dropped.left.iter().find_map(retention::created_us),
            dropped: dropped.count,
            error: errors
                .into_iter()
                .flatten()
                .next()
                .map(|error| error.to_string()),
        }
    }

    fn report(&self, days: &[Day]) -> Reported {
        let mut reported = Reported::default();
        let (Some(directory), Some(&first), Some(&last)) =
            (&self.reports, days.iter().min(), days.iter().max())
        else {
            return reported;
        };
        let report = match usage::report(&self.journal, &self.zone, &(first..=last), None) {
            Ok(report) => report,
            Err(error) => {
                let failed = days.iter().map(|&day| (day, error.to_string()));
                reported.failed = failed.collect();
                return reported;
            }
        };
        for rows in report.rows.chunk_by(is_of_one_file) {
            let Row { day, tenant, .. } = &rows[0];
            // What cannot be read now, or was dropped meanwhile, was there when the file was written.
            let is_whole =
                report.gaps.is_empty() && report.complete_since_us <= day.begins_us(&self.zone);
            if !days.contains(day) || !is_whole && daily::is_there(directory, tenant, *day) {
                continue;
            }
            if let Err(error) = daily::write(directory, tenant, *day, rows) {
                reported.failed.push((*day, error.to_string()));
            }
        }
        reported.gaps = report.gaps;
        reported
    }
}

fn is_of_one_file(one: &Row, other: &Row) -> bool {
    one.day == other.day && one.tenant == other.tenant
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{self, Entry};
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
            summed_up: HashSet::new(),
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
        let reported = desk.report(&days(&["2024-10-04", "2024-10-06"]));
        assert_eq!((reported.failed.len(), reported.gaps.len()), (0, 0));
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
    fn a_file_is_not_replaced_by_one_that_lacks_something() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let desk = desk(path);
        let day = days(&["2024-10-04"]);
        let entries = [
            at("a", MIDNIGHT_US),
            at("a", MIDNIGHT_US),
            at("b", MIDNIGHT_US),
        ];
        keep(&desk.journal, 1, &entries);
        assert!(desk.report(&day).gaps.is_empty());
        fs::remove_file(path.join("reports/b/2024-10-04.csv")).unwrap();
        let segments = journal::segments(&desk.journal).unwrap();
        fs::write(&segments[1].path, "damaged").unwrap();
        let reported = desk.report(&day);
        assert_eq!((reported.failed.len(), reported.gaps.len()), (0, 1));
        assert_eq!(requests(path, "a/2024-10-04.csv").as_deref(), Some("2"));
        // What is there of it is better than nothing.
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
        let failed = desk.report(&days(&["2024-10-04"])).failed;
        let failed_days: Vec<_> = failed.iter().map(|(day, _)| *day).collect();
        assert_eq!(failed_days, days(&["2024-10-04"]));
        assert_eq!(requests(path, "b/2024-10-04.csv").as_deref(), Some("1"));
    }

    #[test]
    fn files_of_the_journal_are_looked_after() {
        let directory = tempfile::tempdir().unwrap();
        let mut desk = desk(directory.path());
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
