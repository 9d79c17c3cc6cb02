//! The limits of each tenant and each key, exact over all workers.

use super::in_flight::{Counter, Place};
use crate::config::Policy;
use crate::config::policy::{Allowance, KeyNumber, Limit, LimitSet, Money, Scope, TenantId};
use crate::usage::Totals;
use relay_wire::dialect::Usage;
use std::time::{Duration, Instant, SystemTime};

/// What all tenants and keys may use and have used. One per process; lives as long as the process.
pub struct Allowances {
    tenants: Box<[Ledger]>,
    keys: Box<[Ledger]>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The tenant.
    pub tenant: TenantId,
    /// Its key.
    pub key: KeyNumber,
}

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

/// A place in the limits of a tenant and its key. Dropped, what it has taken from concurrency, quotas and reservations is given back;
/// what it has taken from rates is not, since it was a request all the same.
pub struct Admission {
    _places: [Place; 2],
    shadowed: LimitSet,
}

/// A limit that refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// Whose.
    pub scope: Scope,
    /// When it is worth trying again.
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
    /// What may be used.
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
    /// What may be used.
    pub max: u64,
    /// What is used, with what is set aside for requests that run.
    pub used: u64,
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

/// On cache lines of its own: workers that serve different tenants do not disturb each other.
#[repr(align(128))]
struct Ledger {
    allowance: Allowance,
    in_flight: Counter,
}

impl Allowances {
    /// Nobody has used anything.
    pub fn new(policy: &Policy, _now: SystemTime) -> Self {
        let ledger = |allowance: &Allowance| Ledger {
            allowance: *allowance,
            in_flight: Counter::default(),
        };
        Self {
            tenants: policy
                .tenants
                .iter()
                .map(|one| ledger(&one.allowance))
                .collect(),
            keys: policy.key_allowances.iter().map(ledger).collect(),
        }
    }

    /// Takes what is known from earlier: what a tenant (`key: None`) or a key has used today or this month. Before the workers run.
    pub fn restore(&self, _tenant: TenantId, _key: Option<KeyNumber>, _span: Span, _used: &Totals) {
    }

    /// Begins a new day or month when it is time to. Called by the control thread every few milliseconds.
    pub fn turn(&self, _now: SystemTime) {}

    /// A place for one more request: of those in flight, and one of each rate and quota of requests.
    ///
    /// # Errors
    /// The first limit that has none left; nothing was taken from any then.
    pub fn admit(&'static self, who: Who, _now: Instant) -> Result<Admission, Exceeded> {
        let enter = |ledger: &'static Ledger, scope| {
            let cap = ledger.allowance.concurrent_requests.unwrap_or(u32::MAX);
            ledger.in_flight.enter(cap).ok_or(Exceeded {
                limit: Limit::ConcurrentRequests,
                scope,
                retry_after: Duration::from_secs(1),
                resets_at: None,
                never_fits: false,
                standing: Standing::default(),
            })
        };
        let key = enter(&self.keys[who.key.0 as usize], Scope::Key)?;
        let tenant = enter(&self.tenants[usize::from(who.tenant.0)], Scope::Tenant)?;
        Ok(Admission {
            _places: [key, tenant],
            shadowed: LimitSet::EMPTY,
        })
    }

    /// Requests of this tenant in flight.
    pub fn in_flight(&self, tenant: TenantId) -> u32 {
        self.tenants[usize::from(tenant.0)].in_flight.taken()
    }

    /// How a tenant (`key: None`) or a key stands.
    pub fn state(&self, _tenant: TenantId, _key: Option<KeyNumber>, _now: Instant) -> ScopeState {
        ScopeState::default()
    }
}

impl Admission {
    /// Sets aside what the request will use.
    ///
    /// # Errors
    /// The first limit on tokens or money that has not so much left; nothing was set aside then.
    pub fn reserve(&mut self, _estimate: Estimate, _now: Instant) -> Result<(), Exceeded> {
        Ok(())
    }

    /// Charges what the request has used, in place of what was set aside.
    pub fn settle(self, _used: &Consumption, _now: Instant) {}

    /// Limits that would have refused it, had they not been shadows.
    pub fn shadowed(&self) -> LimitSet {
        self.shadowed
    }

    /// How the limits on requests stand: the one of which least is left. `None`: there is none.
    pub fn requests(&self, _now: Instant) -> Option<Standing> {
        None
    }

    /// The same of the limits on tokens.
    pub fn tokens(&self, _now: Instant) -> Option<Standing> {
        None
    }
}
