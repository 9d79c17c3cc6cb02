//! What a tenant or a key may use, and what it costs.

use super::ModelPattern;
use std::fmt;
use std::ops::Add;

/// `tenant.limits`, and `limits` of one of its keys: what it may use at most, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a second, on average.
    pub requests_per_second: Option<u32>,
    /// Requests that may come at once while that average is kept; at least 1. Without meaning where `requests_per_second` is `None`.
    pub burst: u32,
    /// Requests in a minute, on average; so many may come at once.
    pub requests_per_minute: Option<u32>,
    /// Tokens, read and written, in a minute, on average; so many may be used at once.
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight.
    pub concurrent_requests: Option<u32>,
    /// Requests in a day of the calendar.
    pub requests_per_day: Option<u64>,
    /// Tokens in a day of the calendar.
    pub tokens_per_day: Option<u64>,
    /// Requests in a month of the calendar.
    pub requests_per_month: Option<u64>,
    /// Tokens in a month of the calendar.
    pub tokens_per_month: Option<u64>,
    /// Money in a month of the calendar, by the table of prices.
    pub budget_per_month: Option<Money>,
    /// Limits that are counted and reported, and refuse nothing.
    pub shadow: LimitSet,
}

impl Allowance {
    /// It refuses requests by what was used in a day or month: without a record of that it cannot be kept.
    pub fn is_metered(&self) -> bool {
        let quotas = [
            (self.requests_per_day.is_some(), Limit::RequestsPerDay),
            (self.tokens_per_day.is_some(), Limit::TokensPerDay),
            (self.requests_per_month.is_some(), Limit::RequestsPerMonth),
            (self.tokens_per_month.is_some(), Limit::TokensPerMonth),
            (self.budget_per_month.is_some(), Limit::BudgetPerMonth),
        ];
        quotas
            .iter()
            .any(|(is_set, limit)| *is_set && !self.shadow.contains(*limit))
    }

    /// Each request counts, not only how many there are at a time.
    pub fn counts_requests(&self) -> bool {
        self.requests_per_second.is_some()
            || self.requests_per_minute.is_some()
            || self.requests_per_day.is_some()
            || self.requests_per_month.is_some()
            || self.needs_estimate()
    }

    /// What a request will use has to be known beforehand.
    pub fn needs_estimate(&self) -> bool {
        self.tokens_per_minute.is_some()
            || self.tokens_per_day.is_some()
            || self.tokens_per_month.is_some()
            || self.budget_per_month.is_some()
    }
}

/// One of the limits of an `Allowance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Limit {
    RequestsPerSecond,
    RequestsPerMinute,
    TokensPerMinute,
    ConcurrentRequests,
    RequestsPerDay,
    TokensPerDay,
    RequestsPerMonth,
    TokensPerMonth,
    BudgetPerMonth,
}

impl Limit {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::RequestsPerSecond,
        Self::RequestsPerMinute,
        Self::TokensPerMinute,
        Self::ConcurrentRequests,
        Self::RequestsPerDay,
        Self::TokensPerDay,
        Self::RequestsPerMonth,
        Self::TokensPerMonth,
        Self::BudgetPerMonth,
    ];

    /// Its name in the configuration, in answers, in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::ConcurrentRequests => "concurrent_requests",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerDay => "tokens_per_day",
            Self::RequestsPerMonth => "requests_per_month",
            Self::TokensPerMonth => "tokens_per_month",
            Self::BudgetPerMonth => "budget_per_month",
        }
    }
}

/// Some of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitSet(u16);

impl LimitSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// With this one.
    #[must_use]
    pub const fn with(self, limit: Limit) -> Self {
        Self(self.0 | 1 << limit as u16)
    }

    /// Without this one.
    #[must_use]
    pub const fn without(self, limit: Limit) -> Self {
        Self(self.0 & !(1 << limit as u16))
    }

    /// Those of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is this one among them?
    pub const fn contains(self, limit: Limit) -> bool {
        self.0 & 1 << limit as u16 != 0
    }

    /// None is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Limit> {
        Limit::ALL
            .into_iter()
            .filter(move |&limit| self.contains(limit))
    }

    /// As it is kept on disk: bit N stands for `Limit::ALL[N]`.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set with these bits; unknown ones are left out.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << Limit::ALL.len()) - 1))
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Of all keys of the tenant together.
    Tenant,
    /// Of the one key.
    Key,
}

impl Scope {
    /// Its name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
        }
    }
}

/// An amount in the operator's currency, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many billionths.
    pub const fn from_nano(nano: u64) -> Self {
        Self(nano)
    }

    /// In billionths.
    pub const fn nano(self) -> u64 {
        self.0
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// `12.5` has as many digits behind the point as it needs, two at least.
impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:09}", self.0 % 1_000_000_000);
        let shown = digits.trim_end_matches('0').len().max(2);
        write!(out, "{}.{}", self.0 / 1_000_000_000, &digits[..shown])
    }
}

/// `[[price]]`: what models cost. The first one that covers a model decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The models; at least one.
    pub models: Vec<ModelPattern>,
    /// Tokens read that did not come from the provider's cache.
    pub input: TokenPrice,
    /// Tokens read from the provider's cache.
    pub cached_input: TokenPrice,
    /// Tokens written, reasoning included.
    pub output: TokenPrice,
}

/// The price of one token in 10⁻¹² of the operator's currency: that of a million tokens has six digits behind the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPrice(pub u64);

impl Price {
    /// Is it that of this model?
    pub fn covers(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.covers(model))
    }

    /// What so many tokens cost, rounded up. `input_tokens` include the cached ones.
    pub fn cost(&self, input_tokens: u64, cached_tokens: u64, output_tokens: u64) -> Money {
        let cached_tokens = cached_tokens.min(input_tokens);
        let parts = [
            (input_tokens - cached_tokens, self.input),
            (cached_tokens, self.cached_input),
            (output_tokens, self.output),
        ];
        let pico: u128 = parts
            .iter()
            .map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0))
            .sum();
        Money(u64::try_from(pico.div_ceil(1_000)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_its_limits() {
        let set = LimitSet::EMPTY
            .with(Limit::TokensPerDay)
            .with(Limit::RequestsPerSecond);
        assert!(set.contains(Limit::TokensPerDay) && !set.contains(Limit::TokensPerMonth));
        let listed: Vec<_> = set.iter().map(Limit::as_str).collect();
        assert_eq!(listed, ["requests_per_second", "tokens_per_day"]);
        assert_eq!(LimitSet::from_bits(set.bits()), set);
        assert_eq!(
            LimitSet::from_bits(u16::MAX).iter().count(),
            Limit::ALL.len()
        );
    }

    #[test]
    fn a_shadow_needs_no_record() {
        let allowance = Allowance {
            requests_per_day: Some(5),
            ..Allowance::default()
        };
        assert!(allowance.is_metered());
        let shadow = LimitSet::EMPTY.with(Limit::RequestsPerDay);
        let shadowed = Allowance {
            shadow,
            ..allowance
        };
        assert!(!shadowed.is_metered());
        let also_counted = Allowance {
            tokens_per_month: Some(5),
            ..shadowed
        };
        assert!(also_counted.is_metered());
    }

    #[test]
    fn money_is_shown_with_the_digits_that_it_has() {
        for (nano, shown) in [
            (0, "0.00"),
            (1_500_000_000, "1.50"),
            (12_345_678_901, "12.345678901"),
            (1, "0.000000001"),
        ] {
            assert_eq!(Money(nano).to_string(), shown);
        }
    }

    #[test]
    fn cached_tokens_have_a_price_of_their_own_and_a_cost_is_rounded_up() {
        let price = Price {
            models: Vec::new(),
            input: TokenPrice(1_250_000),
            cached_input: TokenPrice(125_000),
            output: TokenPrice(10_000_000),
        };
        // 600 × 1.25 µ + 400 × 0.125 µ + 100 × 10 µ
        assert_eq!(price.cost(1_000, 400, 100), Money(1_800_000));
        assert_eq!(price.cost(1_000, 4_000, 0), Money(125_000));
        let tiny = Price {
            input: TokenPrice(1),
            ..price
        };
        assert_eq!(tiny.cost(1, 0, 0), Money(1));
    }
}
