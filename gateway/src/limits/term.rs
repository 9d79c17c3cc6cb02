//! A limit as it was configured.

use super::counter;
use super::pace::{Level, Pace, Place, Ticks};
use super::standing::Span;
use crate::config::policy::{Allowance, Limit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A limit, without what is used of it.
pub(super) struct Term {
    /// What may be used at once when nothing is: of a rate, its burst.
    pub(super) max: u64,
    /// It is counted and refuses nothing.
    pub(super) is_shadow: bool,
    /// Of a rate; `None`: it is a number that must not be exceeded.
    pace: Option<Pace>,
}

/// How a limit took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no such limit, and nothing was counted.
    Unlimited,
    /// What the request asked for was there and is taken.
    Taken {
        /// Of a rate: when all of it will have come back (`Place::end`).
        end: u64,
    },
    /// It was not there, but the limit is a shadow: it is taken all the same.
    TakenBeyond,
    /// The same of a rate, which takes nothing then: what it would have refused must not count against what comes later.
    PassedBeyond,
    /// It was not there.
    Refused,
}

impl Term {
    /// The limit of this name, if there is one.
    pub(super) fn of(allowance: &Allowance, limit: Limit) -> Option<Self> {
        let minute = Duration::from_secs(60);
        let rate = |units, window, burst| {
            let pace = Pace::new(units, window, burst);
            (pace.burst(), Some(pace))
        };
        let (max, pace) = match limit {
            Limit::RequestsPerSecond => {
                let units = u64::from(allowance.requests_per_second?);
                rate(units, Duration::from_secs(1), u64::from(allowance.burst))
            }
            Limit::RequestsPerMinute => {
                let units = u64::from(allowance.requests_per_minute?);
                rate(units, minute, units)
            }
            Limit::TokensPerMinute => {
                let units = allowance.tokens_per_minute?;
                rate(units, minute, units)
            }
            Limit::ConcurrentRequests => (u64::from(allowance.concurrent_requests?), None),
            Limit::RequestsPerDay => (allowance.requests_per_day?, None),
            Limit::TokensPerDay => (allowance.tokens_per_day?, None),
            Limit::RequestsPerMonth => (allowance.requests_per_month?, None),
            Limit::TokensPerMonth => (allowance.tokens_per_month?, None),
            Limit::BudgetPerMonth => (allowance.budget_per_month?.nano(), None),
        };
        Some(Self {
            max,
            is_shadow: allowance.shadow.contains(limit),
            pace,
        })
    }

    /// Takes so much.
    #[inline]
    pub(super) fn take(&self, counter: &AtomicU64, amount: u64, now: Ticks) -> Verdict {
        let taken = match &self.pace {
            Some(pace) => pace.take(counter, amount, now),
            None => counter::take(counter, amount, self.max).then_some(0),
        };
        match (taken, self.is_shadow, &self.pace) {
            (Some(end), ..) => Verdict::Taken { end },
            (None, false, _) => Verdict::Refused,
            (None, true, Some(_)) => Verdict::PassedBeyond,
            (None, true, None) => {
                counter::add(counter, amount);
                Verdict::TakenBeyond
            }
        }
    }

    /// Takes so much, whether it is there or not.
    pub(super) fn owe(&self, counter: &AtomicU64, amount: u64, now: Ticks) {
        match &self.pace {
            Some(pace) => pace.owe(counter, amount, now),
            None => counter::add(counter, amount),
        }
    }

    /// Gives back so much; of a rate, in the moment in which it was taken.
    pub(super) fn give_back(&self, counter: &AtomicU64, amount: u64) {
        match &self.pace {
            Some(pace) => pace.give_back(counter, amount),
            None => counter::subtract(counter, amount),
        }
    }

    /// Gives back so much of what stands in this place of a rate.
    pub(super) fn give_back_unused(
        &self,
        counter: &AtomicU64,
        returned: &AtomicU64,
        amount: u64,
        place: &Place,
        now: Ticks,
    ) {
        if let Some(pace) = &self.pace {
            pace.give_back_unused(counter, returned, amount, place, now);
        }
    }

    /// Until a rate has so much, or all that it can have. `None`: it is no rate.
    pub(super) fn wait(&self, counter: &AtomicU64, amount: u64, now: Ticks) -> Option<Duration> {
        let pace = self.pace.as_ref()?;
        Some(pace.wait(counter, amount, now))
    }

    /// What may be used now, where the counter stands so.
    #[inline]
    pub(super) fn remaining(&self, count: u64, now: Ticks) -> u64 {
        match &self.pace {
            Some(pace) => pace.remaining(count, now),
            None => self.max.saturating_sub(count),
        }
    }

    /// Until all of it is there again; what is not a rate does not come back by itself.
    pub(super) fn reset(&self, count: u64, now: Ticks) -> Duration {
        let reset = |pace: &Pace| pace.reset(count, now);
        self.pace.as_ref().map_or(Duration::ZERO, reset)
    }

    /// How it stands.
    pub(super) fn level(&self, count: u64, now: Ticks) -> Level {
        if let Some(pace) = &self.pace {
            return pace.level(count, now);
        }
        Level {
            used: count,
            remaining: self.remaining(count, now),
            reset: Duration::ZERO,
        }
    }
}

/// The day or month that a limit is about, if it is about one.
pub(super) const fn span_of(limit: Limit) -> Option<Span> {
    match limit {
        Limit::RequestsPerDay | Limit::TokensPerDay => Some(Span::Day),
        Limit::RequestsPerMonth | Limit::TokensPerMonth | Limit::BudgetPerMonth => {
            Some(Span::Month)
        }
        Limit::RequestsPerSecond
        | Limit::RequestsPerMinute
        | Limit::TokensPerMinute
        | Limit::ConcurrentRequests => None,
    }
}
