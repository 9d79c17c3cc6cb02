//! What one tenant or one key may use and has used.
//!
//! Everything is counted in atomics that all workers share. They do not depend on one another, so none needs an order
//! against the others; what a limit refuses is decided by compare-and-swap on the one number that it is about, so it is
//! exact over all workers.
//!
//! Days and months have three places each, by number: the one before, in which requests are still settled that began in
//! it; the current one; and one that has been closed for a whole day, which is cleared when its turn comes.

use super::calendar::{Calendar, Today};
use super::counter::{add, subtract};
use super::pace::{Place, Ticks};
use super::period::Period;
use super::standing::{LimitState, ScopeState, Span, Standing};
use super::term::{Term, Verdict, span_of};
use crate::config::policy::{Allowance, Limit};
use crate::usage::Totals;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Places for days, and for months.
const PLACES: u32 = 3;

/// On cache lines of its own: workers that serve different tenants do not disturb each other. What is only read comes
/// first; what a request changes are three lines.
#[repr(C, align(128))]
pub(super) struct Ledger {
    terms: [Option<Term>; Limit::ALL.len()],
    running: Running,
    days: [Period; PLACES as usize],
    months: [Period; PLACES as usize],
}

/// What belongs to no day, and the money of months, for which a period's line has no room.
#[derive(Default)]
#[repr(align(64))]
struct Running {
    in_flight: AtomicU64,
    requests_per_second: AtomicU64,
    requests_per_minute: AtomicU64,
    tokens_per_minute: AtomicU64,
    /// What has been given back of that: tokens that were set aside and not used.
    tokens_returned: AtomicU64,
    money_taken: [AtomicU64; PLACES as usize],
}

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// In the calendar.
    pub(super) today: Today,
    /// For rates.
    pub(super) ticks: Ticks,
}

/// How much of a limit is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    limit: Limit,
    whole: u64,
    remaining: u64,
    /// What its counter was read as. Read once: others count on, and what is told of a limit at one time must agree.
    count: u64,
}

impl Share {
    /// Of that a smaller part is left than of the other; of a limit of nothing there is none left.
    #[inline]
    pub(super) fn is_scarcer(self, other: Self) -> bool {
        let scaled = |one: Self, by: Self| u128::from(one.remaining) * u128::from(by.whole.max(1));
        scaled(self, other) < scaled(other, self)
    }
}

impl Ledger {
    /// Nothing is used.
    pub(super) fn new(allowance: &Allowance) -> Self {
        Self {
            terms: Limit::ALL.map(|limit| Term::of(allowance, limit)),
            running: Running::default(),
            days: Default::default(),
            months: Default::default(),
        }
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.running.in_flight.load(Ordering::Relaxed)
    }

    /// Takes so much of what a limit is about.
    pub(super) fn take(&self, limit: Limit, amount: u64, now: Moment) -> Verdict {
        let Some(term) = self.term(limit) else {
            // Requests in flight are of interest without a limit too.
            if limit == Limit::ConcurrentRequests {
                add(&self.running.in_flight, amount);
                return Verdict::Taken { end: 0 };
            }
            return Verdict::Unlimited;
        };
        term.take(self.counter(limit, now.today), amount, now.ticks)
    }

    /// What has been given back of the tokens of a minute (`Place::returned`).
    pub(super) fn tokens_returned(&self) -> u64 {
        self.running.tokens_returned.load(Ordering::Acquire)
    }

    /// Gives back what was taken on that day, which can still be counted to.
    pub(super) fn give_back(&self, limit: Limit, amount: u64, then: Today) {
        let counter = self.counter(limit, then);
        match self.term(limit) {
            Some(term) => term.give_back(counter, amount),
            None => subtract(counter, amount),
        }
    }

    /// Gives back tokens of a minute that were set aside and not used.
    pub(super) fn give_back_tokens(&self, amount: u64, place: &Place, now: Moment) {
        if let Some(term) = self.term(Limit::TokensPerMinute) {
            let Running {
                tokens_per_minute,
                tokens_returned,
                ..
            } = &self.running;
            term.give_back_unused(tokens_per_minute, tokens_returned, amount, place, now.ticks);
        }
    }

    /// Takes what was used beyond what had been taken, whether it is there or not. The day can still be counted to.
    pub(super) fn owe(&self, limit: Limit, amount: u64, then: Moment) {
        if let Some(term) = self.term(limit) {
            term.owe(self.counter(limit, then.today), amount, then.ticks);
        }
    }

    /// Counts a request that was served, on the day on which it was admitted.
    pub(super) fn charge(&self, used: &Totals, then: Today, calendar: &Calendar) {
        for span in [Span::Day, Span::Month] {
            if calendar.is_open(span, then) {
                self.period(span, then).charge(used);
            }
        }
    }

    /// What was used before the start.
    pub(super) fn restore(&self, span: Span, used: &Totals, today: Today) {
        let period = self.period(span, today);
        period.charge(used);
        add(&period.requests_taken, used.requests);
        let tokens = used.input_tokens.saturating_add(used.output_tokens);
        add(&period.tokens_taken, tokens);
        if span == Span::Month {
            add(self.counter(Limit::BudgetPerMonth, today), used.cost.nano());
        }
    }

    /// Clears the place of a day or month that is to come.
    pub(super) fn clear(&self, span: Span, number: u32) {
        let place = (number % PLACES) as usize;
        match span {
            Span::Day => self.days[place].clear(),
            Span::Month => {
                self.months[place].clear();
                self.running.money_taken[place].store(0, Ordering::Relaxed);
            }
        }
    }

    /// Is so much more than the limit ever allows?
    pub(super) fn never_fits(&self, limit: Limit, amount: u64) -> bool {
        self.term(limit).is_some_and(|term| amount > term.max)
    }

    /// When it is worth asking again for so much.
    pub(super) fn wait(
        &self,
        limit: Limit,
        amount: u64,
        now: Moment,
        calendar: &Calendar,
    ) -> Duration {
        if let Some(span) = span_of(limit) {
            return calendar.left(span);
        }
        let counter = self.counter(limit, now.today);
        self.term(limit)
            .and_then(|term| term.wait(counter, amount, now.ticks))
            // Nobody knows when one of the requests in flight will be over.
            .unwrap_or(Duration::from_secs(1))
    }

    /// How a limit stands; `None`: there is none that refuses.
    pub(super) fn standing(
        &self,
        limit: Limit,
        now: Moment,
        calendar: &Calendar,
    ) -> Option<Standing> {
        let share = self.share(limit, now)?;
        Some(self.standing_of(share, now, calendar))
    }

    /// What of a limit is left; `None`: there is none that refuses.
    #[inline]
    pub(super) fn share(&self, limit: Limit, now: Moment) -> Option<Share> {
        let term = self.term(limit).filter(|term| !term.is_shadow)?;
        let count = self.count(limit, now.today);
        Some(Share {
            limit,
            whole: term.max,
            remaining: term.remaining(count, now.ticks),
            count,
        })
    }

    /// How the limit of which so much is left stands.
    pub(super) fn standing_of(&self, share: Share, now: Moment, calendar: &Calendar) -> Standing {
        let reset = match (span_of(share.limit), self.term(share.limit)) {
            (Some(span), _) => calendar.left(span),
            (None, Some(term)) => term.reset(share.count, now.ticks),
            (None, None) => Duration::ZERO,
        };
        Standing {
            limit: share.whole,
            remaining: share.remaining,
            reset,
        }
    }

    /// Everything there is to tell.
    pub(super) fn state(&self, now: Moment, calendar: &Calendar) -> ScopeState {
        let limits = Limit::ALL.into_iter().filter_map(|limit| {
            let term = self.term(limit)?;
            let level = term.level(self.count(limit, now.today), now.ticks);
            Some(LimitState {
                limit,
                is_shadow: term.is_shadow,
                max: term.max,
                used: level.used,
                remaining: level.remaining,
                resets_at: span_of(limit).map(|span| calendar.ends(span)),
            })
        });
        ScopeState {
            limits: limits.collect(),
            day: self.period(Span::Day, now.today).totals(),
            month: self.period(Span::Month, now.today).totals(),
        }
    }

    #[inline]
    fn term(&self, limit: Limit) -> Option<&Term> {
        self.terms[limit as usize].as_ref()
    }

    #[inline]
    fn period(&self, span: Span, at: Today) -> &Period {
        let place = (at.number(span) % PLACES) as usize;
        match span {
            Span::Day => &self.days[place],
            Span::Month => &self.months[place],
        }
    }

    #[inline]
    fn count(&self, limit: Limit, at: Today) -> u64 {
        self.counter(limit, at).load(Ordering::Relaxed)
    }

    #[inline]
    fn counter(&self, limit: Limit, at: Today) -> &AtomicU64 {
        let money_place = (at.number(Span::Month) % PLACES) as usize;
        match limit {
            Limit::RequestsPerSecond => &self.running.requests_per_second,
            Limit::RequestsPerMinute => &self.running.requests_per_minute,
            Limit::TokensPerMinute => &self.running.tokens_per_minute,
            Limit::ConcurrentRequests => &self.running.in_flight,
            Limit::RequestsPerDay => &self.period(Span::Day, at).requests_taken,
            Limit::TokensPerDay => &self.period(Span::Day, at).tokens_taken,
            Limit::RequestsPerMonth => &self.period(Span::Month, at).requests_taken,
            Limit::TokensPerMonth => &self.period(Span::Month, at).tokens_taken,
            Limit::BudgetPerMonth => &self.running.money_taken[money_place],
        }
    }
}
