//! What an answer teaches about the account that gave it: how soon it began, which response is stored there, and whether it
//! came to its end.

use super::{Answer, Ending};
use crate::config::policy::TenantId;
use crate::health::{Fault, Moment};
use crate::request::Request;
use crate::worker::Worker;
use relay_wire::dialect::{Dialect, ErrorKind, ErrorReport, Progress, RequestScan};
use relay_wire::head::Method;
use std::time::Instant;

/// What is still to be learned from an answer.
pub(super) struct Lessons {
    /// How soon its output began. Only streams tell: how long a document takes depends on how long it is.
    awaits_output: bool,
    /// Whose response it is, if its identifier is to be remembered.
    owner_of_response: Option<TenantId>,
}

impl Lessons {
    /// To be asked while the request's body is still held.
    pub(super) fn of(request: &Request<'_>, answer: &Answer, tenant: Option<TenantId>) -> Self {
        let is_good = answer.head.status < 300;
        let is_stored = request.dialect == Dialect::Responses
            && request.head.method == Method::Post
            && request.body.said().is_none_or(RequestScan::stores_response);
        Self {
            awaits_output: is_good && answer.observer.is_stream(),
            owner_of_response: tenant.filter(|_| is_good && is_stored),
        }
    }

    /// The answer will name a response, and has not yet: the client's next request may refer to it, at another worker.
    pub(super) fn names_response(&self) -> bool {
        self.owner_of_response.is_some()
    }

    /// Learns from what the observer has seen by now.
    pub(super) fn look(&mut self, worker: &Worker, answer: &Answer, now: impl FnOnce() -> Instant) {
        let account = answer.slot.account;
        if self.awaits_output && answer.observer.progress() >= Progress::Output {
            self.awaits_output = false;
            let now = now();
            let latency = now.saturating_duration_since(answer.asked_at);
            let health = &worker.accounts.health;
            health.note_latency(account, latency, health.clock().at(now));
        }
        if let Some(tenant) = self.owner_of_response
            && let Some(id) = answer.observer.response_id()
        {
            self.owner_of_response = None;
            let tenant_name = &worker.policy.tenant(tenant).name;
            let affinity = &worker.accounts.affinity;
            affinity.learn(tenant_name, id.as_bytes(), account);
        }
    }
}

/// Tells the account's health how the answer ended.
pub(super) fn report(worker: &Worker, answer: &mut Answer, ending: Ending, ran_out_of_time: bool) {
    let health = &worker.accounts.health;
    let now = health.clock().now();
    let (account, address) = (answer.slot.account, answer.slot.address);
    let trial = answer.slot.trial.take();
    match verdict(ending, ran_out_of_time, answer.observer.failure(), now) {
        Verdict::Well => health.succeeded(account, address, trial, now),
        Verdict::AtFault(fault) => {
            let random = worker.random_fraction();
            health.failed(account, address, trial, fault, now, random);
        }
        Verdict::Open => {}
    }
}

/// What an ending says about the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It did what it was asked to.
    Well,
    /// It did not.
    AtFault(Fault),
    /// Nothing.
    Open,
}

/// The table. `ran_out_of_time`: the time of the whole answer is over, to which a slow client adds its part.
fn verdict(
    ending: Ending,
    ran_out_of_time: bool,
    failure: Option<ErrorReport>,
    now: Moment,
) -> Verdict {
    match ending {
        Ending::Complete | Ending::Unfinished | Ending::Replaced => match failure {
            Some(report) => verdict_of_report(&report, now),
            None => Verdict::Well,
        },
        Ending::UpstreamBroken => Verdict::AtFault(Fault::BrokenOff),
        Ending::Deadline if !ran_out_of_time => Verdict::AtFault(Fault::TimedOut),
        Ending::Deadline | Ending::ClientGone | Ending::ClientStalled => Verdict::Open,
    }
}

/// A stream that reports a failure of the provider's counts like an answer with the status that means the same; one that is
/// about the request's own mistake is an answer like any other.
fn verdict_of_report(report: &ErrorReport, now: Moment) -> Verdict {
    let after = report.resets_after.map(|after| now + after);
    let until = after.or(report.resets_at.map(|at| Moment::default() + at));
    match report.kind {
        ErrorKind::Overloaded => Verdict::AtFault(Fault::ServerError { until }),
        ErrorKind::RateLimited => Verdict::AtFault(Fault::RateLimited { until }),
        ErrorKind::QuotaExhausted => Verdict::AtFault(Fault::QuotaExhausted { until }),
        ErrorKind::Other => Verdict::Well,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Moment = Moment::from_unix_ms(1_800_000_000_000);

    #[test]
    fn what_each_ending_says_about_the_account() {
        for (ending, ran_out_of_time, said) in [
            (Ending::Complete, false, Verdict::Well),
            (Ending::Complete, true, Verdict::Well),
            (Ending::Unfinished, false, Verdict::Well),
            (Ending::Replaced, false, Verdict::Well),
            (
                Ending::UpstreamBroken,
                false,
                Verdict::AtFault(Fault::BrokenOff),
            ),
            (Ending::Deadline, false, Verdict::AtFault(Fault::TimedOut)),
            (Ending::Deadline, true, Verdict::Open),
            (Ending::ClientGone, false, Verdict::Open),
            (Ending::ClientStalled, false, Verdict::Open),
        ] {
            assert_eq!(
                verdict(ending, ran_out_of_time, None, NOW),
                said,
                "{ending:?}, {ran_out_of_time}"
            );
        }
    }

    #[test]
    fn a_failure_that_a_stream_reports_counts_like_the_status_that_means_the_same() {
        let minute = Duration::from_secs(60);
        let until = Some(NOW + minute);
        let at = Duration::from_millis(NOW.unix_ms());
        for (kind, said) in [
            (ErrorKind::Other, Verdict::Well),
            (
                ErrorKind::Overloaded,
                Verdict::AtFault(Fault::ServerError { until }),
            ),
            (
                ErrorKind::RateLimited,
                Verdict::AtFault(Fault::RateLimited { until }),
            ),
            (
                ErrorKind::QuotaExhausted,
                Verdict::AtFault(Fault::QuotaExhausted { until }),
            ),
        ] {
            for report in [
                ErrorReport {
                    kind,
                    resets_at: None,
                    resets_after: Some(minute),
                },
                ErrorReport {
                    kind,
                    resets_at: Some(at + minute),
                    resets_after: None,
                },
            ] {
                let seen = verdict(Ending::Complete, false, Some(report), NOW);
                assert_eq!(seen, said, "{report:?}");
            }
        }
        let report = ErrorReport {
            kind: ErrorKind::RateLimited,
            ..ErrorReport::default()
        };
        assert_eq!(
            verdict(Ending::ClientGone, false, Some(report), NOW),
            Verdict::Open
        );
    }
}
