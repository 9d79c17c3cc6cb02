//! What a client sees of a limit of its tenant's or key's that is reached.

use super::{RATE_LIMIT, RETRY_AFTER_SECONDS_MAX, Shape, Source, USAGE_LIMIT, within_bounds};
use crate::config::policy::{Limit, Scope};
use crate::limits::Exceeded;
use std::time::{Duration, UNIX_EPOCH};

/// What it takes for a limit to have room again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A moment.
    Rate,
    /// The end of another request.
    Concurrency,
    /// The end of a day or a month.
    Quota,
}

impl Kind {
    fn of(limit: Limit) -> Self {
        match limit {
            Limit::RequestsPerSecond | Limit::RequestsPerMinute | Limit::TokensPerMinute => {
                Self::Rate
            }
            Limit::ConcurrentRequests => Self::Concurrency,
            Limit::RequestsPerDay
            | Limit::TokensPerDay
            | Limit::RequestsPerMonth
            | Limit::TokensPerMonth
            | Limit::BudgetPerMonth => Self::Quota,
        }
    }
}

pub(super) fn code(limit: Limit) -> &'static str {
    match Kind::of(limit) {
        Kind::Rate => "tenant_rate_limited",
        Kind::Concurrency => "tenant_concurrency_exceeded",
        Kind::Quota => "tenant_quota_exceeded",
    }
}

pub(super) fn shape(code: &'static str, exceeded: &Exceeded) -> Shape {
    let ends_turn = exceeded.never_fits || Kind::of(exceeded.limit) == Kind::Quota;
    Shape {
        status: 429,
        code,
        kind: if ends_turn { USAGE_LIMIT } else { RATE_LIMIT },
        message: message_about(exceeded),
        param: None,
        retryable: may_pass_soon(exceeded),
        retry_after_seconds: Some(retry_after(exceeded)),
        resets_at: exceeded.resets_at.map(|at| {
            let since_epoch = at.duration_since(UNIX_EPOCH);
            seconds_rounded_up(since_epoch.unwrap_or_default())
        }),
        exceeded: Some(*exceeded),
        allow: None,
        upgrade: None,
        source: Source::Gateway,
    }
}

fn message_about(exceeded: &Exceeded) -> String {
    let limit = exceeded.limit.as_str();
    let whose = match exceeded.scope {
        Scope::Tenant => "tenant",
        Scope::Key => "API key",
    };
    if exceeded.never_fits {
        return format!("This request alone is larger than the limit {limit} of this {whose}.");
    }
    match Kind::of(exceeded.limit) {
        Kind::Rate => format!("The limit {limit} of this {whose} is reached for the moment."),
        Kind::Concurrency => {
            format!("Too many requests of this {whose} in flight: wait until one of them is over.")
        }
        Kind::Quota => format!("What this {whose} may use is used up: {limit}."),
    }
}

/// Until it is worth trying again. A client that waits although nothing is to be had by it waits as long as any.
fn retry_after(exceeded: &Exceeded) -> u32 {
    if exceeded.never_fits {
        return RETRY_AFTER_SECONDS_MAX;
    }
    let seconds = seconds_rounded_up(exceeded.retry_after);
    within_bounds(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Nobody is to hold on to a request for hours.
fn may_pass_soon(exceeded: &Exceeded) -> bool {
    let wait_max = Duration::from_secs(RETRY_AFTER_SECONDS_MAX.into());
    !exceeded.never_fits && exceeded.retry_after <= wait_max
}

pub(super) fn seconds_rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
