//! What was used in a day or a month.

use super::counter::add;
use crate::config::policy::Money;
use crate::usage::Totals;
use std::sync::atomic::{AtomicU64, Ordering};

/// A day or a month: one cache line.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Period {
    /// Requests that were admitted and not given back, where there is a limit on them.
    pub(super) requests_taken: AtomicU64,
    /// Tokens used and set aside, where there is a limit on them.
    pub(super) tokens_taken: AtomicU64,
    charged: Charged,
}

/// What was charged, with or without limits.
#[derive(Default)]
struct Charged {
    requests: AtomicU64,
    input_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
    reasoning_tokens: AtomicU64,
    cost: AtomicU64,
}

const _: () = assert!(size_of::<Period>() == 64);

impl Period {
    /// Counts what was charged.
    pub(super) fn charge(&self, more: &Totals) {
        for (counter, amount) in self.charged.with(more) {
            add(counter, amount);
        }
    }

    /// What has been charged.
    pub(super) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let charged = &self.charged;
        Totals {
            requests: read(&charged.requests),
            input_tokens: read(&charged.input_tokens),
            cached_tokens: read(&charged.cached_tokens),
            output_tokens: read(&charged.output_tokens),
            reasoning_tokens: read(&charged.reasoning_tokens),
            cost: Money::from_nano(read(&charged.cost)),
        }
    }

    /// Nothing is used.
    pub(super) fn clear(&self) {
        self.requests_taken.store(0, Ordering::Relaxed);
        self.tokens_taken.store(0, Ordering::Relaxed);
        for (counter, _) in self.charged.with(&Totals::default()) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Charged {
    fn with(&self, totals: &Totals) -> [(&AtomicU64, u64); 6] {
        [
            (&self.requests, totals.requests),
            (&self.input_tokens, totals.input_tokens),
            (&self.cached_tokens, totals.cached_tokens),
            (&self.output_tokens, totals.output_tokens),
            (&self.reasoning_tokens, totals.reasoning_tokens),
            (&self.cost, totals.cost.nano()),
        ]
    }
}
