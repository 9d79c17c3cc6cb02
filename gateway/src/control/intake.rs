//! What the workers have reported, on its way into metrics, journal and log.

use super::journal::Books;
use super::log::Log;
use super::metrics::Counters;
use super::upstream_tls::Refusals;
use crate::config::Policy;
use crate::journal::{QUEUE_REPORTS, Reader, Report};
use crate::worker::Figures;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Where reports come from and go to.
pub(super) struct Intake {
    pub(super) policy: Arc<Policy>,
    /// Of each worker.
    pub(super) journals: Vec<Reader>,
    pub(super) figures: Vec<&'static Figures>,
    pub(super) counters: Counters,
    pub(super) books: Option<Books>,
    pub(super) upstream_tls: Refusals,
    pub(super) log: Log,
}

impl Intake {
    /// Takes in what was reported, and brings what is kept on its way to the disk.
    pub(super) async fn tick(&mut self) {
        self.collect();
        if let Some(books) = &mut self.books {
            books.tick(&mut self.log).await;
        }
    }

    /// Takes in all that is left, and has it written, but waits no longer than `limit`.
    pub(super) async fn finish(&mut self, limit: Duration) {
        let ends_at = Instant::now() + limit;
        // A worker that could not be ended goes on reporting.
        while self.collect() > 0 && Instant::now() < ends_at {}
        let lost = self.figures.iter();
        let lost = lost.map(|figures| figures.reports_lost.load(Ordering::Relaxed));
        if let Some(books) = &mut self.books {
            let left = ends_at.saturating_duration_since(Instant::now());
            books.finish(left, lost.sum(), &mut self.log).await;
        }
    }

    /// How many reports there were.
    fn collect(&mut self) -> usize {
        let mut taken = 0;
        let mut journals = std::mem::take(&mut self.journals);
        for journal in &mut journals {
            // No more than one queue's worth at a time: signals and the drain have to be seen too.
            let enough = taken + QUEUE_REPORTS;
            while taken < enough {
                match journal.read(|report| self.take_in(report)) {
                    0 => break,
                    read => taken += read,
                }
            }
        }
        self.journals = journals;
        self.counters.tell();
        taken
    }

    fn take_in(&mut self, report: &Report) {
        match report {
            Report::Request(record) => {
                self.counters.count_request(&self.policy, record);
                if let Some(books) = &mut self.books {
                    books.take(&self.policy, record);
                }
                self.log.request(&self.policy, record);
            }
            Report::AttemptFailed { account, kind } => {
                self.counters.count_failure(&self.policy, *account, kind);
            }
            Report::UpstreamTlsRefused { account, reason } => {
                self.upstream_tls
                    .tell(&self.policy, *account, reason, &mut self.log);
            }
            Report::AcceptFailed(error) => {
                self.counters.count_accept_failure();
                self.log.event("accept_failed", &[("error", error.clone())]);
            }
            Report::HandshakeFailed(failed) => {
                let members = [
                    ("listener", failed.arrived.listener.to_string()),
                    ("source", failed.arrived.source.to_string()),
                    ("reason", failed.reason.as_str().to_owned()),
                    ("error", failed.error.clone()),
                    ("untold_before", failed.untold.to_string()),
                ];
                self.log.event("tls_handshake_failed", &members);
            }
            Report::Panicked => {
                self.counters.count_panic();
                self.log.event("panicked", &[]);
            }
        }
    }
}
