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
        let charged = &self.charged;
        add(&charged.requests, more.requests);
        add(&charged.input_tokens, more.input_tokens);
        add(&charged.cached_tokens, more.cached_tokens);
        add(&charged.output_tokens, more.output_tokens);
        add(&charged.reasoning_tokens, more.reasoning_tokens);
        add(&charged.cost, more.cost.nano());
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
        let charged = &self.charged;
        for counter in [
            &charged.requests,
            &charged.input_tokens,
            &charged.cached_tokens,
            &charged.output_tokens,
            &charged.reasoning_tokens,
            &charged.cost,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
