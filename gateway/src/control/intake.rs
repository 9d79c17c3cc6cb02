//! What the workers have reported, on its way into metrics, journal and log.

use super::journal::Books;
use super::log::Log;
use super::metrics::{Batch, Counters};
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

/// Where the reports of one collection go to.
struct Taking<'i> {
    policy: &'i Policy,
    counters: Batch<'i>,
    books: Option<&'i mut Books>,
    upstream_tls: &'i mut Refusals,
    log: &'i mut Log,
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
        let mut taking = Taking {
            policy: &self.policy,
            counters: self.counters.batch(),
            books: self.books.as_mut(),
            upstream_tls: &mut self.upstream_tls,
            log: &mut self.log,
        };
        for journal in &mut self.journals {
            // No more than one queue's worth at a time: signals and the drain have to be seen too.
            let enough = taken + QUEUE_REPORTS;
            while taken < enough {
                match journal.read(|report| taking.take_in(report)) {
                    0 => break,
                    read => taken += read,
                }
            }
        }
        taken
    }
}

impl Taking<'_> {
    fn take_in(&mut self, report: &Report) {
        match report {
            Report::Request(record) => {
                self.counters.count_request(self.policy, record);
                if let Some(books) = &mut self.books {
                    books.take(self.policy, record);
                }
                self.log.request(self.policy, record);
            }
            Report::AttemptFailed { account, kind } => {
                self.counters.count_failure(self.policy, *account, kind);
            }
            Report::UpstreamTlsRefused { account, reason } => {
                self.upstream_tls
                    .tell(self.policy, *account, reason, self.log);
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

#[cfg(test)]
mod tests {
    use super::super::journal::tests::policy;
    use super::super::log::record;
    use super::*;
    use crate::config::policy::TenantId;
    use crate::journal::{Record, queue};
    use fastrand::Rng;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use relay_wire::dialect::Usage;
    use std::path::Path;
    use std::sync::atomic::AtomicU64;

    /// As a provider may have it that says anything.
    fn absurd(rng: &mut Rng) -> Report {
        Report::Request(Record {
            tenant: Some(TenantId(0)),
            bytes_in: 3,
            usage: Some(Usage {
                input_tokens: u64::MAX,
                ..Usage::default()
            }),
            ..record(rng)
        })
    }

    #[test]
    fn reports_are_counted_and_logged_and_the_next_ones_too() {
        let lost: &'static AtomicU64 = Box::leak(Box::default());
        let (writer, reader) = queue(1_000, lost);
        let recorder = PrometheusBuilder::new().build_recorder();
        let rng = &mut Rng::with_seed(13);
        metrics::with_local_recorder(&recorder, || {
            let mut intake = Intake {
                policy: policy(Path::new("/nowhere"), "off"),
                journals: vec![reader],
                figures: Vec::new(),
                counters: Counters::unseen(),
                books: None,
                upstream_tls: Refusals::default(),
                log: Log::nowhere(),
            };
            let mut sum = 0;
            for reports in [500, 0, 700] {
                (0..reports).for_each(|_| writer.report(absurd(rng)));
                assert_eq!(intake.collect(), reports);
                sum += reports;
                let shown = recorder.handle().render();
                for line in [
                    format!("relay_bytes_total{{direction=\"in\"}} {}\n", 3 * sum),
                    format!(
                        "relay_tokens_total{{tenant=\"a\",kind=\"input\"}} {}\n",
                        (sum as u64).wrapping_neg()
                    ),
                ] {
                    assert!(shown.contains(&line), "{line}{shown}");
                }
                assert_eq!(intake.log.waiting().lines().count(), sum);
            }
        });
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }
}
