//! What one request has taken of the limits of its tenant and its key.

use super::allowances::Allowances;
use super::calendar::{Calendar, Today};
use super::ledger::{Ledger, Moment, Share};
use super::pace::Place;
use super::standing::{Consumption, Estimate, Exceeded, Standing};
use super::term::{Verdict, span_of};
use crate::config::policy::{Limit, LimitSet, Scope};
use crate::usage::Totals;
use std::time::{Duration, Instant};

/// What every request takes one of, in this order.
const OF_REQUESTS: [Limit; 5] = [
    Limit::ConcurrentRequests,
    Limit::RequestsPerDay,
    Limit::RequestsPerMonth,
    Limit::RequestsPerSecond,
    Limit::RequestsPerMinute,
];

/// What a request takes one of that has its place in one that is in flight already.
const OF_FURTHER_REQUESTS: [Limit; 4] = [
    Limit::RequestsPerDay,
    Limit::RequestsPerMonth,
    Limit::RequestsPerSecond,
    Limit::RequestsPerMinute,
];

/// What does not come back before a day or a month has ended.
const QUOTAS: [Limit; 5] = [
    Limit::RequestsPerDay,
    Limit::RequestsPerMonth,
    Limit::TokensPerDay,
    Limit::TokensPerMonth,
    Limit::BudgetPerMonth,
];

/// What is set aside by estimate, in this order.
const OF_USE: [Limit; 4] = [
    Limit::TokensPerDay,
    Limit::TokensPerMonth,
    Limit::BudgetPerMonth,
    Limit::TokensPerMinute,
];

/// Those about which the fields `x-ratelimit-*-requests` tell.
const SHOWN_OF_REQUESTS: [Limit; 4] = [
    Limit::RequestsPerSecond,
    Limit::RequestsPerMinute,
    Limit::RequestsPerDay,
    Limit::RequestsPerMonth,
];

/// Those about which the fields `x-ratelimit-*-tokens` tell.
const SHOWN_OF_TOKENS: [Limit; 3] = [
    Limit::TokensPerMinute,
    Limit::TokensPerDay,
    Limit::TokensPerMonth,
];

/// A place in the limits of a tenant and its key. Dropped, what it has taken from concurrency, quotas and reservations is
/// given back; what it has taken from rates of requests is not, since it was a request all the same.
pub struct Admission {
    allowances: &'static Allowances,
    /// Of the key, then of the tenant: a key that has used up its own limits takes nothing from its tenant, not even for a
    /// moment.
    stakes: [Stake; 2],
    /// When it was admitted.
    admitted: Moment,
    /// What is set aside.
    aside: Option<Estimate>,
    /// When something was set aside last.
    aside_on: Today,
    is_settled: bool,
}

/// What one request has taken in one ledger.
struct Stake {
    ledger: &'static Ledger,
    scope: Scope,
    taken: LimitSet,
    /// Where the tokens of a minute stand that were set aside.
    tokens: Option<Place>,
    /// Shadows that would have refused.
    exceeded: LimitSet,
}

impl Admission {
    /// A place for one more request.
    pub(super) fn new(
        allowances: &'static Allowances,
        ledgers: [(Scope, &'static Ledger); 2],
        now: Instant,
    ) -> Result<Self, Exceeded> {
        Self::taking(&OF_REQUESTS, allowances, ledgers, now)
    }

    /// The same for a request that is part of one in flight.
    pub(super) fn further(
        allowances: &'static Allowances,
        ledgers: [(Scope, &'static Ledger); 2],
        now: Instant,
    ) -> Result<Self, Exceeded> {
        Self::taking(&OF_FURTHER_REQUESTS, allowances, ledgers, now)
    }

    fn taking(
        limits: &[Limit],
        allowances: &'static Allowances,
        ledgers: [(Scope, &'static Ledger); 2],
        now: Instant,
    ) -> Result<Self, Exceeded> {
        let moment = allowances.moment(now);
        let mut admission = Self {
            allowances,
            stakes: ledgers.map(|(scope, ledger)| Stake {
                ledger,
                scope,
                taken: LimitSet::EMPTY,
                tokens: None,
                exceeded: LimitSet::EMPTY,
            }),
            admitted: moment,
            aside: None,
            aside_on: moment.today,
            is_settled: false,
        };
        let one = |_| 1;
        match admission.take(limits, one, moment) {
            Ok(()) => Ok(admission),
            Err(exceeded) => {
                admission.undo(limits, one, moment);
                Err(exceeded)
            }
        }
    }

    /// Sets aside what the request will use, in place of what was set aside before.
    ///
    /// # Errors
    /// The first limit on tokens or money that has not so much left; nothing is set aside then.
    pub fn reserve(&mut self, estimate: Estimate, now: Instant) -> Result<(), Exceeded> {
        let moment = self.allowances.moment(now);
        self.release(moment);
        let amount = |limit| estimate.amount(limit);
        match self.take(&OF_USE, amount, moment) {
            Ok(()) => {
                self.aside = Some(estimate);
                self.aside_on = moment.today;
                Ok(())
            }
            Err(exceeded) => {
                self.undo(&OF_USE, amount, moment);
                Err(exceeded)
            }
        }
    }

    /// Charges what the request has used, in place of what was set aside.
    pub fn settle(mut self, used: &Consumption, now: Instant) {
        let now = self.allowances.moment(now);
        let admitted_on = self.admitted.today;
        let then = Moment {
            today: self.aside_on,
            ..now
        };
        let aside = self.aside.unwrap_or_default();
        let calendar = self.allowances.calendar();
        let closed = calendar.closed(then.today);
        let charged = Estimate::from(used);
        let mut totals = Totals::default();
        totals.add(&used.usage, used.cost);
        for stake in &self.stakes {
            stake.ledger.charge(&totals, admitted_on, calendar);
            for limit in OF_USE {
                if closed.contains(limit) {
                    continue;
                }
                let (before, after) = match (stake.taken.contains(limit), charged.amount(limit)) {
                    (true, after) => (aside.amount(limit), after),
                    // The rate would have refused it: nothing was taken, nothing is.
                    (false, _) if stake.exceeded.contains(limit) => continue,
                    (false, after) => (0, after),
                };
                if after >= before {
                    stake.ledger.owe(limit, after - before, then);
                } else {
                    stake.give_back(limit, before - after, then);
                }
            }
        }
        self.is_settled = true;
    }

    /// Limits that would have refused it, had they not been shadows.
    pub fn shadowed(&self) -> LimitSet {
        let [key, tenant] = &self.stakes;
        key.exceeded.union(tenant.exceeded)
    }

    /// How the limits on requests stand, and how those on tokens: of each kind the one of which least is left. `None`: there is
    /// none.
    pub fn standings(&self, now: Instant) -> [Option<Standing>; 2] {
        let now = self.allowances.moment(now);
        [
            self.scarcest(&SHOWN_OF_REQUESTS, now),
            self.scarcest(&SHOWN_OF_TOKENS, now),
        ]
    }

    fn scarcest(&self, limits: &[Limit], now: Moment) -> Option<Standing> {
        let mut scarcest: Option<(&Ledger, Share)> = None;
        for Stake { ledger, .. } in &self.stakes {
            for &limit in limits {
                if let Some(share) = ledger.share(limit, now)
                    && scarcest.is_none_or(|(_, least)| share.is_scarcer(least))
                {
                    scarcest = Some((ledger, share));
                }
            }
        }
        let calendar = self.allowances.calendar();
        scarcest.map(|(ledger, share)| ledger.standing_of(share, now, calendar))
    }

    /// Takes from each of these limits, until one refuses.
    fn take(
        &mut self,
        limits: &[Limit],
        amount: impl Fn(Limit) -> u64,
        now: Moment,
    ) -> Result<(), Exceeded> {
        for stake in &mut self.stakes {
            for &limit in limits {
                if !stake.take(limit, amount(limit), now) {
                    let calendar = self.allowances.calendar();
                    return Err(stake.refusal(limit, amount(limit), now, calendar));
                }
            }
        }
        Ok(())
    }

    /// As if it had never been asked for.
    fn undo(&mut self, limits: &[Limit], amount: impl Fn(Limit) -> u64, then: Moment) {
        let closed = self.allowances.calendar().closed(then.today);
        for stake in &mut self.stakes {
            for &limit in limits {
                if stake.taken.contains(limit) {
                    if !closed.contains(limit) {
                        stake.give_back(limit, amount(limit), then);
                    }
                    stake.taken = stake.taken.without(limit);
                }
                stake.exceeded = stake.exceeded.without(limit);
            }
        }
    }

    /// Gives back what was set aside.
    fn release(&mut self, now: Moment) {
        if let Some(aside) = self.aside.take() {
            let then = Moment {
                today: self.aside_on,
                ..now
            };
            self.undo(&OF_USE, |limit| aside.amount(limit), then);
        }
    }
}

impl Stake {
    /// Takes from one limit, or notes that it would not have been there. `false`: it is not there.
    fn take(&mut self, limit: Limit, amount: u64, now: Moment) -> bool {
        if limit == Limit::TokensPerMinute {
            return self.take_tokens(amount, now);
        }
        let verdict = self.ledger.take(limit, amount, now);
        self.note(limit, verdict)
    }

    fn take_tokens(&mut self, amount: u64, now: Moment) -> bool {
        // Before they are taken: see `Pace::give_back_unused`.
        let returned = self.ledger.tokens_returned();
        let verdict = self.ledger.take(Limit::TokensPerMinute, amount, now);
        if let Verdict::Taken { end } = verdict {
            self.tokens = Some(Place {
                at: now.ticks,
                end,
                returned,
            });
        }
        self.note(Limit::TokensPerMinute, verdict)
    }

    fn note(&mut self, limit: Limit, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Unlimited => {}
            Verdict::Taken { .. } => self.taken = self.taken.with(limit),
            Verdict::TakenBeyond => {
                self.taken = self.taken.with(limit);
                self.exceeded = self.exceeded.with(limit);
            }
            Verdict::PassedBeyond => self.exceeded = self.exceeded.with(limit),
            Verdict::Refused => return false,
        }
        true
    }

    /// Gives back so much of what was taken from one limit: on the day on which that was, at this moment.
    fn give_back(&self, limit: Limit, amount: u64, then: Moment) {
        match &self.tokens {
            Some(place) if limit == Limit::TokensPerMinute => {
                self.ledger.give_back_tokens(amount, place, then);
            }
            _ => self.ledger.give_back(limit, amount, then.today),
        }
    }

    fn refusal(&self, limit: Limit, amount: u64, now: Moment, calendar: &Calendar) -> Exceeded {
        refusal((self.scope, self.ledger), limit, amount, now, calendar)
    }
}

#[cold]
fn refusal(
    (scope, ledger): (Scope, &Ledger),
    limit: Limit,
    amount: u64,
    now: Moment,
    calendar: &Calendar,
) -> Exceeded {
    let standing = ledger.standing(limit, now, calendar);
    let wait = ledger.wait(limit, amount, now, calendar);
    Exceeded {
        limit,
        scope,
        // It may have become free in this very moment.
        retry_after: wait.max(Duration::from_millis(1)),
        resets_at: span_of(limit).map(|span| calendar.ends(span)),
        never_fits: ledger.never_fits(limit, amount),
        standing: standing.unwrap_or_default(),
    }
}

/// A limit of a day or a month of which nothing is left. Shadows are none.
pub(super) fn used_up(
    ledgers: [(Scope, &Ledger); 2],
    now: Moment,
    calendar: &Calendar,
) -> Option<Exceeded> {
    ledgers.into_iter().find_map(|(scope, ledger)| {
        let is_used_up = |limit: &&Limit| {
            let standing = ledger.standing(**limit, now, calendar);
            standing.is_some_and(|standing| standing.remaining == 0)
        };
        let limit = *QUOTAS.iter().find(is_used_up)?;
        Some(refusal((scope, ledger), limit, 1, now, calendar))
    })
}

impl Drop for Admission {
    fn drop(&mut self) {
        let one = |_| 1;
        self.undo(&[Limit::ConcurrentRequests], one, self.admitted);
        if !self.is_settled {
            let quotas = [Limit::RequestsPerDay, Limit::RequestsPerMonth];
            self.undo(&quotas, one, self.admitted);
            self.release(self.allowances.moment(Instant::now()));
        }
    }
}
