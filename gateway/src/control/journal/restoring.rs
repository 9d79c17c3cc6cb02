//! What was used this month before this process, from the journal into the allowances.
//!
//! It is read at the start. Where another gateway writes to the journal by then, it goes on until it has drained: when the
//! journal is taken over it is read again, and what has come meanwhile is counted too. Until that is done nothing is
//! written, so that what is read is nothing of this process's own.

use super::super::log::Log;
use super::micros;
use crate::config::Policy;
use crate::limits::Allowances;
use crate::usage::{self, Day, Report, Row, Totals};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinHandle;

/// After it has failed it is tried again this much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What was used before, and how much of it is counted.
pub(super) struct Restoring {
    allowances: &'static Allowances,
    /// What is counted already.
    counted: Vec<Row>,
    work: Work,
    /// Another gateway may add to it.
    is_preliminary: bool,
    is_known: bool,
    is_whole: bool,
}

enum Work {
    /// Nothing, unless the journal is taken over for the first time.
    None,
    Reading(JoinHandle<io::Result<Report>>, Instant),
    Pausing(Instant),
}

impl Restoring {
    /// Reads it on this thread. `is_taken_over`: nobody else writes to it.
    pub(super) fn begin(
        policy: &Policy,
        allowances: &'static Allowances,
        is_taken_over: bool,
        now: SystemTime,
        log: &mut Log,
    ) -> Self {
        let mut restoring = Self {
            allowances,
            counted: Vec::new(),
            work: Work::None,
            is_preliminary: !is_taken_over,
            is_known: false,
            is_whole: false,
        };
        let began_at = Instant::now();
        let read = read(policy, now);
        restoring.take(read, policy, now, began_at, log);
        restoring
    }

    /// What was used before is known, as far as it can be read.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Nothing of it is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.is_known && self.is_whole
    }

    /// Nothing may be written yet.
    pub(super) fn holds_back(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// The journal was taken over just now, from whoever wrote to it.
    pub(super) fn note_taken_over(&mut self, policy: &Arc<Policy>) {
        // Later ones find what this process has written, which is counted.
        if std::mem::take(&mut self.is_preliminary) {
            self.read_again(policy);
        }
    }

    fn read_again(&mut self, policy: &Arc<Policy>) {
        let (policy, began_at) = (policy.clone(), Instant::now());
        let reading = tokio::task::spawn_blocking(move || read(&policy, SystemTime::now()));
        self.work = Work::Reading(reading, began_at);
    }

    /// Brings things on.
    pub(super) async fn tick(&mut self, policy: &Arc<Policy>, log: &mut Log) {
        match std::mem::replace(&mut self.work, Work::None) {
            Work::Reading(reading, began_at) if reading.is_finished() => {
                let panicked = |_| Err(io::Error::other("it has ended unexpectedly"));
                let read = reading.await.unwrap_or_else(panicked);
                self.take(read, policy, SystemTime::now(), began_at, log);
            }
            Work::Pausing(until) if Instant::now() >= until => self.read_again(policy),
            work => self.work = work,
        }
    }

    fn take(
        &mut self,
        read: io::Result<Report>,
        policy: &Policy,
        now: SystemTime,
        began_at: Instant,
        log: &mut Log,
    ) {
        match read {
            Ok(report) => {
                let came = difference(&report.rows, &self.counted);
                let today = Day::of(micros(now), &policy.usage.time_zone);
                usage::restore(policy, self.allowances, &came, today);
                if self.is_preliminary {
                    self.counted = report.rows;
                }
                self.is_known = true;
                self.is_whole = report.gaps.is_empty();
                for gap in report.gaps {
                    let meaning = "quotas do not count what is missing";
                    log.error(
                        "usage_not_restored",
                        &[("error", gap), ("meaning", meaning.into())],
                    );
                }
                let took = began_at.elapsed().as_millis().to_string();
                log.event("usage_restored", &[("took_ms", took)]);
            }
            Err(error) => {
                self.work = Work::Pausing(Instant::now() + RETRY_PAUSE);
                let meaning = "requests of tenants with quotas are refused until it is";
                let members = [("error", error.to_string()), ("meaning", meaning.into())];
                log.error("usage_not_restored", &members);
            }
        }
    }
}

fn read(policy: &Policy, now: SystemTime) -> io::Result<Report> {
    let zone = &policy.usage.time_zone;
    let today = Day::of(micros(now), zone);
    let days = today.first_of_month()..=today;
    match usage::report(&policy.journal.directory, zone, &days, None) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Report::default()),
        read => read,
    }
}

/// What of these rows goes beyond those that are counted. Which models have rows of their own may differ.
fn difference(rows: &[Row], counted: &[Row]) -> Vec<Row> {
    let whose = |row: &Row| (row.day, row.tenant.clone(), row.key);
    let mut left: HashMap<_, Totals> = HashMap::new();
    for row in counted {
        left.entry(whose(row)).or_default().merge(&row.sum.totals);
    }
    let mut rows = rows.to_vec();
    for row in &mut rows {
        if let Some(left) = left.get_mut(&whose(row)) {
            row.sum.totals.take_off(left);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Sum;

    fn row(day: &str, tenant: &str, model: &str, requests: u64) -> Row {
        let totals = Totals {
            requests,
            input_tokens: 10 * requests,
            ..Totals::default()
        };
        Row {
            day: day.parse().unwrap(),
            tenant: tenant.into(),
            key: Some([1; 4]),
            model: Some(model.into()),
            sum: Sum {
                totals,
                ..Sum::default()
            },
        }
    }

    #[test]
    fn only_what_has_come_since_is_counted_again() {
        let counted = [
            row("2026-03-01", "a", "m", 5),
            row("2026-03-01", "a", "n", 2),
            row("2026-03-02", "b", "m", 1),
        ];
        let rows = [
            // One of them had been another one's before.
            row("2026-03-01", "a", "m", 4),
            row("2026-03-01", "a", "n", 6),
            row("2026-03-02", "a", "m", 7),
            row("2026-03-02", "b", "m", 1),
        ];
        let came = difference(&rows, &counted);
        let came = came.iter().map(|row| {
            let totals = &row.sum.totals;
            (totals.requests, totals.input_tokens)
        });
        assert_eq!(came.collect::<Vec<_>>(), [(0, 0), (3, 30), (7, 70), (0, 0)]);
    }
}
