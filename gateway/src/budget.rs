//! How many further attempts an upstream is spared: an upstream that fails must not be asked three times as often for it.

use crate::config::Policy;
use crate::config::policy::UpstreamId;
use crate::health::Moment;

/// The budgets of all upstreams. One per process, shared by all threads without a lock.
pub struct RetryBudgets {
    _private: (),
}

impl RetryBudgets {
    /// Full ones.
    pub fn new(_policy: &Policy) -> Self {
        Self { _private: () }
    }

    /// A first attempt: it pays in.
    pub fn note_request(&self, _upstream: UpstreamId) {}

    /// May a further attempt be made? It is paid for if so.
    pub fn take_retry(&self, _upstream: UpstreamId, _now: Moment) -> bool {
        true
    }
}
