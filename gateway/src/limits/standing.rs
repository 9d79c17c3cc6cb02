//! What is said about limits: to who is refused, in header fields, and to whoever asks how they stand.

use crate::config::policy::{Limit, Money, Scope};
use crate::usage::Totals;
use relay_wire::dialect::Usage;
use std::time::{Duration, SystemTime};

/// What a request will use at most, as far as can be said before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens read and written.
    pub tokens: u64,
    /// What they cost.
    pub cost: Money,
}

/// What a request has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumption {
    /// Tokens, counted or estimated.
    pub usage: Usage,
    /// What they cost.
    pub cost: Money,
}

/// A limit that refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// Whose.
    pub scope: Scope,
    /// When it is worth trying again; never zero.
    pub retry_after: Duration,
    /// When the day or month ends, for limits of days and months.
    pub resets_at: Option<SystemTime>,
    /// The request alone is more than the limit: waiting does not help.
    pub never_fits: bool,
    /// How the limit stands.
    pub standing: Standing,
}

/// How a limit stands, for the fields `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What may be used. Of requests per second: the burst.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// The limits of a tenant or key and what it has used, for whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeState {
    /// Each limit that is configured.
    pub limits: Vec<LimitState>,
    /// Today.
    pub day: Totals,
    /// This month.
    pub month: Totals,
}

/// One limit, for whoever asks. The budget is in billionths of the operator's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Which.
    pub limit: Limit,
    /// It refuses nothing.
    pub is_shadow: bool,
    /// What may be used, as it was configured.
    pub max: u64,
    /// What is used, with what is set aside for requests that run. Of a rate: what has not come back yet.
    pub used: u64,
    /// What may be used now. Of requests per second: the burst that is left.
    pub remaining: u64,
    /// When the day or month ends, for limits of days and months.
    pub resets_at: Option<SystemTime>,
}

/// A day or a month of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Span {
    Day,
    Month,
}

impl Estimate {
    /// How much that is in the unit of a limit on use.
    pub(super) fn amount(&self, limit: Limit) -> u64 {
        match limit {
            Limit::BudgetPerMonth => self.cost.nano(),
            _ => self.tokens,
        }
    }
}

impl From<&Consumption> for Estimate {
    fn from(used: &Consumption) -> Self {
        let usage = &used.usage;
        Self {
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            cost: used.cost,
        }
    }
}
