//! What is kept of every request: given to the journal, and what comes of that told to the log, the metrics, and the workers.

mod clerk;
mod reports;
mod restoring;
mod retention;
mod standing;
#[cfg(test)]
pub(super) mod tests;
mod trifles;

use super::log::Log;
use super::metrics::journal::JournalFigures;
use crate::config::Policy;
use crate::config::policy::JournalMode;
use crate::journal::acceptance::Disk;
use crate::journal::{Acceptance, Entry, Failure, Journal, Outcome, Record, Recovered};
use crate::limits::Allowances;
use clerk::{Clerk, Done, Order, Reported, Tended};
use relay_io::Engine;
use reports::Reports;
use restoring::Restoring;
use standing::{Patience, Waiting};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trifles::Trifles;

/// How often figures that have to be counted are brought up to date.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);

/// Between two commits of a journal that is not strict: a sync costs the same however little it writes, and at tens of thousands
/// of requests a second one every 20 ms is 2 % of their CPU time. At every third tick of the control thread.
const COMMIT_INTERVAL: Duration = Duration::from_millis(50);

/// How often the journal's files are looked after.
const TEND_INTERVAL: Duration = Duration::from_secs(60);

/// A journal at a start.
pub struct Opened {
    journal: Journal,
    /// It could not be taken over yet.
    failure: Option<Failure>,
    restoring: Restoring,
}

impl Opened {
    /// The same where the control thread has no io_uring.
    pub(super) fn without_ring(mut self) -> Self {
        self.journal.use_threads();
        self
    }
}

/// Takes the journal over, and counts what was used this month, so far, into the allowances. `None`: none is kept.
///
/// # Errors
/// It cannot be written, or another gateway writes to it, and nothing may be served without.
pub fn open(
    policy: &Policy,
    allowances: &'static Allowances,
    acceptance: &Acceptance,
    engine: Engine,
    now: SystemTime,
    log: &mut Log,
) -> Result<Option<Opened>, Failure> {
    let settings = &policy.journal;
    if settings.mode == JournalMode::Off {
        return Ok(None);
    }
    let directory = settings.directory.clone();
    let mut journal = Journal::new(directory, settings.segment_bytes_max, engine);
    if settings.mode == JournalMode::BestEffort {
        journal.commit_every(COMMIT_INTERVAL);
    }
    let failure = match journal.open() {
        Ok(recovered) => {
            tell_recovered(&recovered, log);
            None
        }
        Err(failure) if settings.mode == JournalMode::Strict => return Err(failure),
        // Tried again and again: a gateway that still drains leaves it to the next one when it has ended.
        Err(failure) => Some(failure),
    };
    let restoring = Restoring::begin(policy, allowances, failure.is_none(), now, log);
    acceptance.note_use_known(restoring.is_known());
    Ok(Some(Opened {
        journal,
        failure,
        restoring,
    }))
}

/// What is kept of every request.
pub(super) struct Books {
    policy: Arc<Policy>,
    mode: JournalMode,
    journal: Journal,
    restoring: Restoring,
    trifles: Trifles,
    acceptance: &'static Acceptance,
    patience: Patience,
    figures: JournalFigures,
    /// Why the last attempt to write has failed.
    failure: Option<Failure>,
    /// The log has been told why, and not only that nothing was heard of the disk.
    is_cause_told: bool,
    disk: Disk,
    failing_since: Instant,
    /// Records that the journal was given.
    given: u64,
    /// Records that it was not.
    lost: u64,
    lost_told: u64,
    clerk: Option<Clerk>,
    reports: Option<Reports>,
    shown_at: Option<Instant>,
    tended_at: Option<Instant>,
}

impl Books {
    /// Keeps them from now on. Must come after the metrics.
    pub(super) fn begin(
        policy: Arc<Policy>,
        opened: Opened,
        acceptance: &'static Acceptance,
        log: &mut Log,
    ) -> Self {
        let clerk = Clerk::start(&policy)
            .inspect_err(|error| {
                let meaning = "segments are not dropped, and no reports are written";
                let members = [("error", error.to_string()), ("meaning", meaning.into())];
                log.error("clerk_missing", &members);
            })
            .ok();
        let now = micros(SystemTime::now());
        let wants_reports = policy.usage.report_directory.is_some();
        Self {
            mode: policy.journal.mode,
            journal: opened.journal,
            restoring: opened.restoring,
            trifles: Trifles::default(),
            acceptance,
            patience: Patience::new(policy.journal.mode),
            figures: JournalFigures::default(),
            failure: opened.failure,
            is_cause_told: false,
            disk: Disk::Writable,
            failing_since: Instant::now(),
            given: 0,
            lost: 0,
            lost_told: 0,
            clerk,
            reports: wants_reports.then(|| Reports::new(&policy.usage.time_zone, now)),
            shown_at: None,
            tended_at: None,
            policy,
        }
    }

    /// Takes in what is known of a request that is over. `policy` is the one they were begun with.
    pub(super) fn take(&mut self, policy: &Policy, record: &Record) {
        let is_kept =
            !trifles::is_trifle(record) || self.trifles.keep(policy, record.tenant, Instant::now());
        if is_kept {
            self.keep(&Entry::of(policy, record));
        }
    }

    fn keep(&mut self, entry: &Entry<&str>) {
        // Where everything that was served must be kept there is an end to that: nothing more is served by now.
        let must_be_kept = self.mode == JournalMode::Strict && entry.charged;
        if self.journal.waiting_bytes() > self.patience.bytes_max && !must_be_kept {
            self.lost += 1;
            self.figures.lost.increment(1);
            return;
        }
        self.journal.append(entry);
        self.given += 1;
        if let Some(reports) = &mut self.reports {
            reports.note(entry.time_us, self.given);
        }
    }

    /// Brings things on. Cheap: to be called every few milliseconds.
    pub(super) async fn tick(&mut self, log: &mut Log) {
        self.restore(log).await;
        if !self.restoring.holds_back()
            && let Some(outcome) = self.journal.tick().await
        {
            self.note(outcome, log);
        }
        let now = Instant::now();
        self.tell_standing(now, log);
        self.hear_clerk(log);
        self.order_reports(now);
        if is_due(&mut self.shown_at, SHOW_INTERVAL, now) {
            self.show();
            self.trifles.tell(&self.policy, now, log);
        }
        if is_due(&mut self.tended_at, TEND_INTERVAL, now) {
            self.order(Order::Tend);
        }
    }

    /// Has everything written, but waits no longer than `limit`. `reports_lost`: what found no room on its way from the
    /// workers, records nearly always.
    pub(super) async fn finish(&mut self, limit: Duration, reports_lost: u64, log: &mut Log) {
        self.trifles.tell_rest(&self.policy, Instant::now(), log);
        self.lost += self.journal.finish(limit).await + reports_lost;
        self.tell_lost(log);
    }

    async fn restore(&mut self, log: &mut Log) {
        if self.restoring.holds_back() {
            self.restoring.tick(&self.policy, log).await;
            self.acceptance.note_use_known(self.restoring.is_known());
        }
    }

    fn note(&mut self, outcome: Outcome, log: &mut Log) {
        match outcome {
            Outcome::Opened(recovered) => {
                self.failure = None;
                tell_recovered(&recovered, log);
                self.restoring.note_taken_over(&self.policy);
            }
            Outcome::Committed {
                entries,
                bytes,
                took,
                ..
            } => {
                self.failure = None;
                self.figures.records.increment(entries);
                self.figures.bytes.increment(bytes as u64);
                self.figures.syncs.increment(1);
                self.figures.sync.record(took);
            }
            Outcome::Failed(failure) => {
                self.failure = Some(failure);
                self.figures.failures.increment(1);
            }
        }
    }

    /// Tells the workers how it is with the disk, and the log when that has changed.
    fn tell_standing(&mut self, now: Instant, log: &mut Log) {
        let waiting = Waiting {
            bytes: self.journal.waiting_bytes(),
            since: self.journal.waits_since(),
            has_failed: self.failure.is_some(),
        };
        let disk = waiting.disk(&self.patience, now);
        let is_cause_known = self.failure.is_some();
        if disk == self.disk && (self.is_cause_told || !is_cause_known) {
            return;
        }
        self.acceptance.note(disk);
        let was = std::mem::replace(&mut self.disk, disk);
        self.is_cause_told = is_cause_known;
        if disk == Disk::Writable {
            let failing = now.duration_since(self.failing_since).as_secs();
            log.event("journal_recovered", &[("after_s", failing.to_string())]);
            self.tell_lost(log);
        } else {
            if was == Disk::Writable {
                self.failing_since = now;
            }
            let unanswered = || "the disk does not answer".to_owned();
            let error = self
                .failure
                .as_ref()
                .map_or_else(unanswered, Failure::to_string);
            let members = [("error", error), ("meaning", self.meaning(disk).to_owned())];
            log.error("journal_failing", &members);
        }
        self.show();
    }

    fn meaning(&self, disk: Disk) -> &'static str {
        match (self.mode, disk) {
            (JournalMode::Strict, _) => "requests are refused",
            (_, Disk::Overdue) => "requests of tenants with quotas are refused",
            _ => "requests are served, and their records wait in memory",
        }
    }

    fn tell_lost(&mut self, log: &mut Log) {
        let lost = self.lost - std::mem::replace(&mut self.lost_told, self.lost);
        if lost > 0 {
            log.error("journal_records_lost", &[("records", lost.to_string())]);
        }
    }

    fn hear_clerk(&mut self, log: &mut Log) {
        let Some(clerk) = &self.clerk else {
            return;
        };
        for done in clerk.done() {
            match done {
                Done::Tended(tended) => tell_tended(&self.figures, &tended, log),
                Done::Reported(reported) => {
                    tell_reported(&reported, log);
                    if let Some(reports) = &mut self.reports {
                        reports.again(reported.failed.into_iter().map(|(day, _)| day));
                    }
                }
                Done::Panicked(order) => {
                    log.error("clerk_panicked", &[("doing", format!("{order:?}"))]);
                    if let (Some(reports), Order::Report(days)) = (&mut self.reports, order) {
                        reports.again(days);
                    }
                }
            }
        }
    }

    fn order_reports(&mut self, now: Instant) {
        let Some(reports) = &mut self.reports else {
            return;
        };
        let kept = self.given - self.journal.waiting_entries();
        let now_us = micros(SystemTime::now());
        if let Some(order) = reports.order(now_us, now, self.given, kept) {
            self.order(order);
        }
    }

    fn order(&self, order: Order) {
        if let Some(clerk) = &self.clerk {
            clerk.order(order);
        }
    }

    fn show(&self) {
        let figures = &self.figures;
        figures
            .waiting_bytes
            .set(self.journal.waiting_bytes() as f64);
        let is_failing = u8::from(self.disk != Disk::Writable);
        figures.failing.set(f64::from(is_failing));
        let is_restored = u8::from(self.restoring.is_whole());
        figures.restored.set(f64::from(is_restored));
    }
}

fn tell_recovered(recovered: &Recovered, log: &mut Log) {
    for lost in &recovered.lost {
        let (first, last) = (lost.start().to_string(), lost.end().to_string());
        log.error("journal_damaged", &[("first", first), ("last", last)]);
    }
    if let Some(torn) = &recovered.torn {
        let meaning =
            "some cannot be read: a crash came while they were written, or they are damaged";
        let members = [
            ("first", torn.start().to_string()),
            ("last", torn.end().to_string()),
            ("meaning", meaning.into()),
        ];
        log.warning("journal_torn", &members);
    }
    if let Some(path) = &recovered.unreadable {
        let error = recovered.error.as_ref();
        let error = error.map(|error| ("error", error.clone()));
        let members: Vec<_> = [("segment", path.display().to_string())]
            .into_iter()
            .chain(error)
            .collect();
        log.error("journal_damaged", &members);
    }
    for path in &recovered.foreign {
        let meaning = "no journal gets to this sequence: the file is left out, and not touched";
        let members = [
            ("path", path.display().to_string()),
            ("meaning", meaning.into()),
        ];
        log.warning("journal_foreign_file", &members);
    }
    let members = [
        ("segments", recovered.segments.to_string()),
        ("next_sequence", recovered.next_sequence.to_string()),
        ("cut_bytes", recovered.cut_bytes.to_string()),
    ];
    log.event("journal_opened", &members);
}

fn tell_tended(figures: &JournalFigures, tended: &Tended, log: &mut Log) {
    figures.segments.set(tended.segments as f64);
    if let Some(oldest_us) = tended.oldest_us {
        figures.oldest.set(oldest_us as f64 / 1e6);
    }
    if tended.dropped > 0 {
        let members = [("segments", tended.dropped.to_string())];
        log.event("journal_dropped", &members);
    }
    if let Some(error) = &tended.error {
        log.warning("journal_not_tended", &[("error", error.clone())]);
    }
}

fn tell_reported(reported: &Reported, log: &mut Log) {
    for (day, error) in &reported.failed {
        let members = [("day", day.to_string()), ("error", error.clone())];
        log.warning("usage_report_not_written", &members);
    }
    for gap in &reported.gaps {
        let meaning = "new reports lack it, and reports that are there were not replaced";
        let members = [("error", gap.clone()), ("meaning", meaning.to_owned())];
        log.warning("usage_report_incomplete", &members);
    }
}

/// Is it time to, for the first time or again? It counts as done then.
fn is_due(last: &mut Option<Instant>, interval: Duration, now: Instant) -> bool {
    let is_due = last.is_none_or(|last| now.duration_since(last) >= interval);
    if is_due {
        *last = Some(now);
    }
    is_due
}

fn micros(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_micros() as u64
}
