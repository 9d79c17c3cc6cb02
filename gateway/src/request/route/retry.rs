//! Whether another attempt follows, what it costs, and what the client is told if none does.

use super::Lack;
use crate::config::policy::{Limits, UpstreamId};
use crate::health::Moment;
use crate::request::body::RequestBody;
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
        limits: &Limits,
        chance: impl FnOnce() -> f64,
    ) -> Self {
        let pause = if failure.blames_account() {
            Duration::ZERO
        } else {
            let doubled = limits.retry_pause * 2u32.saturating_pow(attempts - 1);
            doubled.mul_f64(0.5 + chance())
        };
        // A trial was the gateway's own wish; and what never left this host was no load for anybody.
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
pub(super) fn may_try(attempts_max: u32, attempts: u32, body: &RequestBody<'_>) -> bool {
    attempts_max == 1 || attempts + 1 < attempts_max && body.is_complete()
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
