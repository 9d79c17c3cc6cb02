//! Whether another attempt follows, what it costs, and what the client is told if none does.

use super::survey::Lack;
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

    /// Takes it out of the upstream's budget. False if there is nothing left.
    pub(super) fn pay(&self, worker: &Worker, upstream: UpstreamId, now: Moment) -> bool {
        self.is_free || worker.accounts.budgets.take_retry(upstream, now)
    }
}

fn has_not_left(failure: &Failure) -> bool {
    matches!(
        failure,
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

/// What the client is told: what the last account said, or why none can be asked.
pub(super) fn refusal(
    last_failure: Option<Failure>,
    lack: Lack,
    is_owned: bool,
    now: Moment,
) -> Refusal {
    let seconds_left = match lack {
        Lack::Blocked(until) => Some(in_whole_seconds(until.since(now))),
        Lack::Full | Lack::None => None,
    };
    match (last_failure.map(Failure::into_refusal), seconds_left) {
        // Another account may be free before the one that was asked last.
        (
            Some(Refusal::UpstreamRateLimited {
                retry_after_seconds,
            }),
            Some(seconds),
        ) => Refusal::UpstreamRateLimited {
            retry_after_seconds: Some(retry_after_seconds.map_or(seconds, |s| s.min(seconds))),
        },
        (Some(told), _) => told,
        (None, _) if is_owned => Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: seconds_left,
        },
        (None, Some(seconds)) => Refusal::AccountsRateLimited {
            retry_after_seconds: seconds,
        },
        (None, None) => Refusal::NoAccountAvailable,
    }
}

/// Rounded up: who comes back a moment too early comes in vain.
fn in_whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Longest stretch of a pause in which a client that leaves is not noticed.
const PAUSE_STEP: Duration = Duration::from_millis(100);

/// Waits, but not for a client that is gone.
pub(super) async fn pause_while_present(
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

    #[test]
    fn whoever_is_refused_is_told_why_and_when_to_come_again() {
        let blocked = |ms| Lack::Blocked(NOW + Duration::from_millis(ms));
        let (busy, limited) = ("no_account_available", "upstream_rate_limited");
        let owner = "response_owner_unavailable";
        let limit = |seconds| Some(status(429, seconds));
        for (failure, lack, is_owned, told, code, after) in [
            (None, Lack::Full, false, 503, busy, Some(1)),
            (None, Lack::None, false, 503, busy, Some(1)),
            (None, blocked(2_000), false, 429, limited, Some(2)),
            (None, blocked(2_001), false, 429, limited, Some(3)),
            (None, blocked(0), false, 429, limited, Some(1)),
            (None, Lack::Full, true, 503, owner, Some(5)),
            (None, blocked(9_000), true, 503, owner, Some(9)),
            // The last failure says more, but another account may be free before.
            (
                limit(Some(60)),
                blocked(9_000),
                false,
                429,
                limited,
                Some(9),
            ),
            (limit(Some(7)), blocked(9_000), false, 429, limited, Some(7)),
            (limit(None), blocked(9_000), true, 429, limited, Some(9)),
            (limit(Some(7)), Lack::None, false, 429, limited, Some(7)),
        ] {
            let name = format!("{failure:?} {lack:?} {is_owned}");
            let attempts = u32::from(failure.is_some());
            let shape = refusal(failure, lack, is_owned, NOW).shape(attempts);
            let found = (shape.status, shape.code, shape.retry_after_seconds);
            assert_eq!(found, (told, code, after), "{name}");
        }
        for lack in [Lack::Full, Lack::None, blocked(9_000)] {
            let shape = refusal(Some(status(500, None)), lack, true, NOW).shape(1);
            assert_eq!((shape.status, shape.code), (502, "upstream_error"));
        }
    }
}
