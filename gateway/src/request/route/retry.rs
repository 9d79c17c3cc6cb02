//! Whether another attempt follows, and what it costs.

use crate::config::policy::UpstreamId;
use crate::health::Moment;
use crate::request::egress::Failure;
use crate::request::refusal::Refusal;
use crate::worker::Worker;
use relay_io::{Stream, pause};
use std::time::Duration;

/// A further attempt.
#[derive(Debug, PartialEq)]
pub(super) struct Retry {
    /// It takes nothing from the upstream's budget.
    is_free: bool,
    /// Before it.
    pub(super) pause: Duration,
}

impl Retry {
    /// The attempt that would follow this failure of attempt number `attempts`. `chance` gives numbers from 0 up to 1.
    pub(super) fn after(
        failure: &Failure,
        was_trial: bool,
        attempts: u32,
        pause_min: Duration,
        chance: impl FnOnce() -> f64,
    ) -> Self {
        // Nobody else was asked too often, and the client is not to wait for what was the gateway's own wish.
        let pause = if was_trial || failure.blames_account() {
            Duration::ZERO
        } else {
            let doubled = pause_min * 2u32.saturating_pow(attempts - 1);
            doubled.mul_f64(0.5 + chance())
        };
        // Trials are few by themselves; and what never left this host was no load for anybody.
        let is_free = was_trial || has_not_left(failure);
        Self { is_free, pause }
    }

    /// The pause, once.
    pub(super) fn take_pause(&mut self) -> Duration {
        std::mem::take(&mut self.pause)
    }

    /// Takes it out of the upstream's budget. False if there is nothing left.
    pub(super) fn pay(&self, worker: &Worker, upstream: UpstreamId, now: Moment) -> bool {
        self.is_free || worker.accounts.budgets.take_retry(upstream, now)
    }
}

fn has_not_left(failure: &Failure) -> bool {
    matches!(
        failure.what(),
        Failure::Egress
            | Failure::EgressMismatch
            | Failure::PortsShort
            | Failure::AccountConnectionsFull
            | Failure::NoDestination
    )
}

/// A trial may fail, so it is only for a request that could be sent again after it; where none ever is, for all.
pub(super) fn may_try(attempts_max: u32, attempts: u32, body_is_complete: bool) -> bool {
    attempts_max == 1 || attempts + 1 < attempts_max && body_is_complete
}

/// Longest stretch of a pause in which a client that leaves is not noticed.
const PAUSE_STEP: Duration = Duration::from_millis(100);

/// Waits, but not for a client that is gone, and not when the gateway ends.
pub(super) async fn pause_while_present(
    worker: &Worker,
    client: &Stream,
    duration: Duration,
) -> Result<(), Refusal> {
    let mut left = duration;
    while !left.is_zero() {
        let step = left.min(PAUSE_STEP);
        pause(step).await;
        left -= step;
        if client.interrupted().is_some() {
            return Err(Refusal::ClientGone);
        }
        if worker.is_ending() {
            return Err(Refusal::ShuttingDown);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::egress::Reset;
    use relay_wire::dialect::ErrorKind;

    const NOW: Moment = Moment::from_unix_ms(1_800_000_000_000);

    fn status(status: u16, after_seconds: Option<u64>) -> Failure {
        Failure::Status {
            status,
            kind: ErrorKind::Other,
            resets: after_seconds.map(|seconds| Reset {
                until: NOW + Duration::from_secs(seconds),
                after: Duration::from_secs(seconds),
            }),
        }
    }

    #[test]
    fn pauses_double_with_jitter_unless_it_was_the_account_or_a_trial() {
        let pause = Duration::from_millis(100);
        let after_trial = Retry::after(&status(500, None), true, 1, pause, || 0.5);
        assert_eq!(after_trial.pause, Duration::ZERO);
        for (failure, attempts, chance, expected_ms) in [
            (status(500, None), 1, 0.0, 50),
            (status(500, None), 1, 0.5, 100),
            (status(500, None), 2, 0.5, 200),
            (status(500, None), 3, 0.5, 400),
            (Failure::Connect, 1, 0.5, 100),
            (status(429, None), 2, 0.5, 0),
            (status(401, None), 1, 0.5, 0),
            (Failure::Egress, 1, 0.5, 0),
        ] {
            let retry = Retry::after(&failure, false, attempts, pause, || chance);
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(retry.pause, expected, "{failure:?}, {attempts}");
        }
    }

    #[test]
    fn what_was_no_load_for_the_upstream_is_free() {
        for (failure, was_trial, is_free) in [
            (status(500, None), false, false),
            (status(429, None), false, false),
            (Failure::Broken, false, false),
            (Failure::Connect, false, false),
            (status(500, None), true, true),
            (Failure::Egress, false, true),
            (Failure::EgressMismatch, false, true),
            (Failure::PortsShort, false, true),
            (Failure::AccountConnectionsFull, false, true),
            (Failure::NoDestination, false, true),
        ] {
            let retry = Retry::after(&failure, was_trial, 1, Duration::ZERO, || 0.5);
            assert_eq!(retry.is_free, is_free, "{failure:?}, {was_trial}");
        }
    }

    #[test]
    fn a_trial_is_for_requests_that_could_be_sent_again_after_it() {
        for (attempts_max, attempts, body_is_complete, expected) in [
            (3, 0, true, true),
            (3, 1, true, true),
            (3, 2, true, false),
            (3, 0, false, false),
            (2, 0, true, true),
            (2, 1, true, false),
            (1, 0, true, true),
            (1, 0, false, true),
        ] {
            let found = may_try(attempts_max, attempts, body_is_complete);
            let name = format!("{attempts_max} {attempts} {body_is_complete}");
            assert_eq!(found, expected, "{name}");
        }
    }
}
