//! What tenants have used: sums over records, by tenant, key, model and day.

mod calendar;
pub mod daily;
mod past;
mod report;
mod restore;
#[cfg(test)]
pub(crate) mod samples;
mod sheet;
mod summary;

pub use calendar::{Calendar, Day};
pub use past::forget_before;
pub use report::{Report, report, summarize};
pub use restore::restore;
pub use sheet::{Row, Sheet, Sum};
pub use summary::path as summary_path;

use crate::config::policy::Money;
use relay_wire::dialect::Usage;

/// What requests have used together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that were charged: those that were answered by a provider.
    pub requests: u64,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Of those, read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Of those, reasoning.
    pub reasoning_tokens: u64,
    /// What that cost.
    pub cost: Money,
}

/// How it is known what an answer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Known {
    /// The provider said so at the answer's end.
    Final = 1,
    /// The provider said so on the way; the answer was cut later.
    Partial = 2,
    /// By the length of what passed.
    Estimated = 3,
}

impl Known {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Final, Self::Partial, Self::Estimated];

    /// Its name in logs, metrics and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Partial => "partial",
            Self::Estimated => "estimated",
        }
    }
}

impl Totals {
    /// One more request, which has used so much.
    pub fn add(&mut self, usage: &Usage, cost: Money) {
        self.merge(&Self {
            requests: 1,
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            cost,
        });
    }

    /// Leaves what goes beyond another sum, and of that what went beyond this one.
    pub fn take_off(&mut self, other: &mut Self) {
        let pairs = [
            (&mut self.requests, &mut other.requests),
            (&mut self.input_tokens, &mut other.input_tokens),
            (&mut self.cached_tokens, &mut other.cached_tokens),
            (&mut self.output_tokens, &mut other.output_tokens),
            (&mut self.reasoning_tokens, &mut other.reasoning_tokens),
        ];
        for (own, others) in pairs {
            let both = (*own).min(*others);
            *own -= both;
            *others -= both;
        }
        let both = self.cost.min(other.cost).nano();
        self.cost = Money::from_nano(self.cost.nano() - both);
        other.cost = Money::from_nano(other.cost.nano() - both);
    }

    /// Those of another sum too.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.reasoning_tokens, other.reasoning_tokens),
        ];
        for (own, others) in pairs {
            *own = own.saturating_add(others);
        }
        self.cost = self.cost + other.cost;
    }
}
