//! What an answer teaches about the account that gave it: how soon it began, which response is stored there, and whether it
//! came to its end.

use super::{Answer, Ending};
use crate::config::policy::TenantId;
use crate::health::{Fault, Moment};
use crate::request::Request;
use crate::request::egress::{Failure, Told};
use crate::worker::Worker;
use relay_wire::dialect::{Dialect, ErrorKind, ErrorReport, Progress, RequestScan};
use relay_wire::head::Method;
use std::time::Instant;

/// What is still to be learned from an answer.
pub(super) struct Lessons {
    /// What the head of a stream says about time: it may yet report a failure.
    told: Option<Told>,
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
            told: None,
            awaits_output: is_good && answer.observer.is_stream(),
            owner_of_response: tenant.filter(|_| is_good && is_stored),
        }
    }

    /// What a stream's head says about time, to be told when its client has been served: it seldom matters.
    pub(super) fn note_told(&mut self, told: Told) {
        self.told = Some(told);
    }

    /// What its head says about time.
    pub(super) fn told(&self) -> Option<Told> {
        self.told
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
pub(super) fn report(worker: &Worker, answer: &mut Answer, end: &End, told: Option<Told>) {
    let health = &worker.accounts.health;
    let now = health.clock().now();
    let (account, address) = (answer.slot.account, answer.slot.address);
    let trial = answer.slot.trial.take();
    let reported = answer.observer.failure();
    let fault = reported.and_then(|report| fault_of_report(&report, told, now));
    match fault.map_or_else(|| verdict(end), Verdict::AtFault) {
        Verdict::Well => health.succeeded(account, address, trial, now),
        Verdict::AtFault(Fault::BrokenOff) if !answer.connection.takes_blame() => {}
        Verdict::AtFault(fault) => {
            let random = worker.random_fraction();
            health.failed(account, address, trial, fault, now, random);
        }
        Verdict::Open => {}
    }
}

/// How an answer ended, as far as it says something about the account.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub ending: Ending,
    /// Events of it were seen, and in its dialect no provider leaves the last one out.
    pub owes_last_event: bool,
    /// The time of the whole answer was over while the provider had not been silent for long: a slow client adds its part to
    /// that, and some answers are long.
    pub ran_out_of_time: bool,
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

/// The table, for whatever has not reported a failure of the provider's itself.
fn verdict(end: &End) -> Verdict {
    match end.ending {
        // A proxy may end its framing in order though the stream behind it broke. Of the providers that speak Chat
        // Completions some never send `[DONE]`.
        Ending::Unfinished if end.owes_last_event => Verdict::AtFault(Fault::BrokenOff),
        Ending::Complete | Ending::Unfinished | Ending::Replaced => Verdict::Well,
        Ending::UpstreamBroken => Verdict::AtFault(Fault::BrokenOff),
        Ending::Deadline if !end.ran_out_of_time => Verdict::AtFault(Fault::TimedOut),
        Ending::Deadline | Ending::ClientGone | Ending::ClientStalled | Ending::Shutdown => {
            Verdict::Open
        }
    }
}

/// A stream that reports a failure of the provider's counts like an answer with the status that means the same, whoever ended
/// it: clients leave as soon as they have read it. One that is about the request's own mistake is an answer like any other.
pub(in crate::request) fn fault_of_report(
    report: &ErrorReport,
    told: Option<Told>,
    now: Moment,
) -> Option<Fault> {
    let failure = Failure::FailedStream {
        kind: report.kind,
        resets: told.and_then(|told| told.reset_of_stream(report, now)),
    };
    (report.kind != ErrorKind::Other)
        .then(|| failure.fault())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_wire::head::{HeadLimits, ResponseHead};
    use std::time::Duration;

    const NOW: Moment = Moment::from_unix_ms(1_800_000_000_000);

    #[test]
    fn what_each_ending_says_about_the_account() {
        let broken = Verdict::AtFault(Fault::BrokenOff);
        let timed_out = Verdict::AtFault(Fault::TimedOut);
        for (ending, owes_last_event, ran_out_of_time, said) in [
            (Ending::Complete, true, false, Verdict::Well),
            (Ending::Complete, true, true, Verdict::Well),
            (Ending::Unfinished, true, false, broken),
            (Ending::Unfinished, false, false, Verdict::Well),
            (Ending::Replaced, false, false, Verdict::Well),
            (Ending::UpstreamBroken, true, false, broken),
            (Ending::UpstreamBroken, false, false, broken),
            (Ending::Deadline, true, false, timed_out),
            (Ending::Deadline, true, true, Verdict::Open),
            (Ending::ClientGone, true, false, Verdict::Open),
            (Ending::ClientStalled, true, false, Verdict::Open),
            (Ending::Shutdown, true, false, Verdict::Open),
            (Ending::Shutdown, false, false, Verdict::Open),
        ] {
            let end = End {
                ending,
                owes_last_event,
                ran_out_of_time,
            };
            assert_eq!(verdict(&end), said, "{end:?}");
        }
    }

    #[test]
    fn a_failure_that_a_stream_reports_counts_like_the_status_that_means_the_same() {
        let limits = HeadLimits {
            head_bytes_max: 1024,
            fields_max: 10,
            target_bytes_max: 0,
        };
        let text = b"HTTP/1.1 200 OK\r\n\r\n";
        let head = ResponseHead::parse(text, &limits, false).unwrap().unwrap();
        let told = Some(Told::by(&head, text, NOW));
        let minute = Duration::from_secs(60);
        let until = Some(NOW + minute);
        let at = Duration::from_millis(NOW.unix_ms());
        for (kind, said) in [
            (ErrorKind::Other, None),
            (ErrorKind::Overloaded, Some(Fault::ServerError { until })),
            (ErrorKind::RateLimited, Some(Fault::RateLimited { until })),
            (
                ErrorKind::QuotaExhausted,
                Some(Fault::QuotaExhausted { until }),
            ),
        ] {
            for (resets_at, resets_after) in [(None, Some(minute)), (Some(at + minute), None)] {
                let report = ErrorReport {
                    kind,
                    resets_at,
                    resets_after,
                };
                assert_eq!(fault_of_report(&report, told, NOW), said, "{report:?}");
            }
        }
    }
}
