//! The limits of each tenant and each key, exact over all workers.

use super::admission::{Admission, used_up};
use super::calendar::Calendar;
use super::ledger::{Ledger, Moment};
use super::pace::Ticks;
use super::standing::{Exceeded, ScopeState, Span};
use crate::config::Policy;
use crate::config::policy::{Allowance, KeyNumber, Scope, TenantId};
use crate::usage::Totals;
use jiff::tz::TimeZone;
use std::time::{Instant, SystemTime};

/// What all tenants and keys may use and have used. One per process; lives as long as the process.
pub struct Allowances {
    tenants: Box<[Ledger]>,
    keys: Box<[Ledger]>,
    calendar: Calendar,
    /// Rates are counted from here.
    origin: Instant,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The tenant.
    pub tenant: TenantId,
    /// Its key.
    pub key: KeyNumber,
}

impl Allowances {
    /// Nobody has used anything.
    pub fn new(policy: &Policy, now: SystemTime) -> Self {
        let tenants = policy.tenants.iter().map(|tenant| &tenant.allowance);
        let zone = policy.usage.time_zone.clone();
        Self::of(tenants, &policy.key_allowances, zone, now)
    }

    pub(super) fn of<'a>(
        tenants: impl IntoIterator<Item = &'a Allowance>,
        keys: impl IntoIterator<Item = &'a Allowance>,
        zone: TimeZone,
        now: SystemTime,
    ) -> Self {
        Self {
            tenants: tenants.into_iter().map(Ledger::new).collect(),
            keys: keys.into_iter().map(Ledger::new).collect(),
            calendar: Calendar::new(zone, now),
            origin: Instant::now(),
        }
    }

    /// Takes what is known from earlier: what a tenant (`key: None`) or a key has used today or this month. Before the
    /// workers run.
    pub fn restore(&self, tenant: TenantId, key: Option<KeyNumber>, span: Span, used: &Totals) {
        let today = self.calendar.today();
        self.ledger(tenant, key).restore(span, used, today);
    }

    /// Begins a new day or month when it is time to. Called by the control thread alone, every few milliseconds.
    pub fn turn(&self, now: SystemTime) {
        let Some(turn) = self.calendar.due(now) else {
            return;
        };
        for span in [Span::Day, Span::Month] {
            let before = self.calendar.today().number(span);
            let after = turn.to.number(span);
            // After days without a look at the clock (the host slept) the day before has no place that is its own yet.
            for number in (after - 1).max(before + 1)..=after {
                for ledger in self.tenants.iter().chain(&self.keys) {
                    ledger.clear(span, number);
                }
            }
        }
        self.calendar.turn(&turn);
    }

    /// A place for one more request: of those in flight, and one of each rate and quota of requests.
    ///
    /// # Errors
    /// The first limit that has none left; nothing was taken from any then.
    pub fn admit(&'static self, who: Who, now: Instant) -> Result<Admission, Exceeded> {
        Admission::new(self, self.ledgers(who), now)
    }

    /// The same for a request that is part of one in flight, which keeps the place for both: one of each rate and quota of
    /// requests.
    ///
    /// # Errors
    /// As for `admit`.
    pub fn admit_further(&'static self, who: Who, now: Instant) -> Result<Admission, Exceeded> {
        Admission::further(self, self.ledgers(who), now)
    }

    /// A limit of a day or a month of which nothing is left for the next request.
    pub fn used_up(&'static self, who: Who, now: Instant) -> Option<Exceeded> {
        used_up(self.ledgers(who), self.moment(now), &self.calendar)
    }

    /// Of the key, then of the tenant.
    fn ledgers(&'static self, who: Who) -> [(Scope, &'static Ledger); 2] {
        let key = (Scope::Key, self.ledger(who.tenant, Some(who.key)));
        let tenant = (Scope::Tenant, self.ledger(who.tenant, None));
        [key, tenant]
    }

    /// Requests of this tenant in flight.
    pub fn in_flight(&self, tenant: TenantId) -> u32 {
        let count = self.ledger(tenant, None).in_flight();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How a tenant (`key: None`) or a key stands.
    pub fn state(&self, tenant: TenantId, key: Option<KeyNumber>, now: Instant) -> ScopeState {
        self.ledger(tenant, key)
            .state(self.moment(now), &self.calendar)
    }

    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment {
            today: self.calendar.today(),
            ticks: Ticks::at(now, self.origin),
        }
    }

    pub(super) fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    fn ledger(&self, tenant: TenantId, key: Option<KeyNumber>) -> &Ledger {
        match key {
            Some(key) => &self.keys[key.0 as usize],
            None => &self.tenants[usize::from(tenant.0)],
        }
    }
}
