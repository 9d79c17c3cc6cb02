//! A limit as it was configured.

use super::counter;
use super::pace::{Level, Pace, Place, Ticks};
use super::standing::Span;
use crate::config::policy::{Allowance, Limit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A limit, without what is used of it.
pub(super) struct Term {
    /// What may be used.
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
    /// What the request asked for was there and is taken; of a rate: where it stands.
    Taken(Option<Place>),
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
        let (max, pace) = match limit {
            Limit::RequestsPerSecond => {
                let max = u64::from(allowance.requests_per_second?);
                let burst = u64::from(allowance.burst);
                (max, Some(Pace::new(max, Duration::from_secs(1), burst)))
            }
            Limit::RequestsPerMinute => {
                let max = u64::from(allowance.requests_per_minute?);
                (max, Some(Pace::new(max, minute, max)))
            }
            Limit::TokensPerMinute => {
                let max = allowance.tokens_per_minute?;
                (max, Some(Pace::new(max, minute, max)))
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

    /// Takes so much. `returned`: what has been given back of a rate.
    pub(super) fn take(
        &self,
        counter: &AtomicU64,
        returned: &AtomicU64,
        amount: u64,
        now: Ticks,
    ) -> Verdict {
        let taken = match &self.pace {
            Some(pace) => {
                let returned = returned.load(Ordering::Acquire);
                let place = |end| Place {
                    at: now,
                    end,
                    returned,
                };
                pace.take(counter, amount, now).map(|end| Some(place(end)))
            }
            None => counter::take(counter, amount, self.max).then_some(None),
        };
        match (taken, self.is_shadow, &self.pace) {
            (Some(place), ..) => Verdict::Taken(place),
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

    /// What may be used at once when nothing is.
    pub(super) fn whole(&self) -> u64 {
        self.pace.as_ref().map_or(self.max, Pace::burst)
    }

    /// Until a rate has so much, or all that it can have. `None`: it is no rate.
    pub(super) fn wait(&self, counter: &AtomicU64, amount: u64, now: Ticks) -> Option<Duration> {
        let pace = self.pace.as_ref()?;
        Some(pace.wait(counter, amount, now))
    }

    /// How it stands; what is not a rate does not come back by itself.
    pub(super) fn level(&self, counter: &AtomicU64, now: Ticks) -> Level {
        if let Some(pace) = &self.pace {
            return pace.level(counter, now);
        }
        let used = counter.load(Ordering::Relaxed);
        Level {
            used,
            remaining: self.max.saturating_sub(used),
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
