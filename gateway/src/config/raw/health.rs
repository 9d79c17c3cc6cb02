//! `[health]` and `[upstream.probe]`: when an account is kept out, and how it is found to be well again.

use super::super::forms::{RequestPath, Text};
use super::super::units::{HOUR, MINUTE, MS, Period, SECOND};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an account, or one of its addresses, is kept out, and for how long.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Health {
    /// Failures in a row after which it is blocked.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) failures_max: u32,
    /// Share of failures, in percent, at which it is blocked although some requests succeed.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) failure_percent_max: u32,
    /// Requests in the window below which the share says nothing.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) failure_rate_requests_min: u32,
    /// The window of the share; it begins with a failure.
    pub(in crate::config) failure_window: Period<{ 100 * MS }, HOUR>,
    /// The first block, where the provider did not state how long; doubles with every further one, with jitter.
    pub(in crate::config) backoff_min: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// No block of that kind is longer.
    pub(in crate::config) backoff_max: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// The first block of an account whose credential is not taken (401, 403), or whose quota is used up.
    pub(in crate::config) refused_backoff_min: Period<{ 10 * MS }, { 168 * HOUR }>,
    /// No block of that kind is longer.
    pub(in crate::config) refused_backoff_max: Period<{ 10 * MS }, { 168 * HOUR }>,
    /// A block that the provider stated is cut to this.
    pub(in crate::config) stated_block_max: Period<SECOND, { 8_784 * HOUR }>,
    /// Requests that try it at one time, when its block is over.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) trials_max: u32,
    /// Of these so many in a row must succeed until it counts as well.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) trial_successes: u32,
    /// In this time after a recovery, its share of the load grows from a tenth to all of it; `0s`: at once.
    pub(in crate::config) slow_start: Period<0, HOUR>,
    /// Share of an upstream's accounts, in percent, that may be kept out while the others are full.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) ejection_percent_max: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures_max: 3,
            failure_percent_max: 50,
            failure_rate_requests_min: 20,
            failure_window: Period::ms(30 * SECOND),
            backoff_min: Period::ms(2 * SECOND),
            backoff_max: Period::ms(5 * MINUTE),
            refused_backoff_min: Period::ms(10 * MINUTE),
            refused_backoff_max: Period::ms(6 * HOUR),
            stated_block_max: Period::ms(744 * HOUR),
            trials_max: 2,
            trial_successes: 2,
            slow_start: Period::ms(30 * SECOND),
            ejection_percent_max: 50,
        }
    }
}

/// A cheap request for each account and address of an upstream, from time to time.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(
    inline,
    extend("x-hint" = "write `[upstream.probe]` below the upstream; all of its keys have defaults")
)]
pub(in crate::config) struct Probe {
    /// What is asked for with GET, behind the prefix of `base_url`.
    pub(in crate::config) path: Text<RequestPath>,
    /// Between two probes of one account from one address.
    pub(in crate::config) interval: Period<{ 100 * MS }, { 24 * HOUR }>,
    /// For the answer's head, once there is a connection; that may take `timeouts.upstream_connect`, as it may for requests.
    pub(in crate::config) timeout: Period<{ 10 * MS }, MINUTE>,
    /// Probes of this upstream at most, over all of its accounts.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) per_second_max: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            path: Text("/v1/models".to_owned()),
            interval: Period::ms(30 * SECOND),
            timeout: Period::ms(5 * SECOND),
            per_second_max: 5,
        }
    }
}
