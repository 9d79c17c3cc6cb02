//! Whether the tenant may ask for more now.

pub mod fields;

use super::Request;
use super::authenticate::Caller;
use super::meter::Tariff;
use super::refusal::Refusal;
use crate::config::policy::{Allowance, Limit, LimitSet};
use crate::connections::Denied;
use crate::limits::{Admission, Consumption, Who};
use crate::worker::Worker;
use fields::Standings;
use std::time::Instant;

/// A checked fact: there was room for one more request in its tenant's limits. What it will use is not set aside yet, so that
/// it may not be served yet either. Only `admit` makes one. Dropped, the room is given back.
///
/// ```
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Admitted, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn admitted(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Admitted, Refusal> {
///     let admitted = admit(worker, request, caller)?;
///     Ok(admitted)
/// }
/// ```
///
/// A place in the limits does not make one:
///
/// ```compile_fail,E0451
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Admitted, admit}, refusal::Refusal};
/// # use codex_relay::limits::Who;
/// # use codex_relay::worker::Worker;
/// fn admitted(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Admitted, Refusal> {
///     let who = Who { tenant: caller.tenant(), key: caller.key() };
///     let admission = worker.allowances.admit(who, request.received_at);
///     Ok(Admitted { admission: admission.map_err(|error| Refusal::LimitExceeded(Box::new(error)))? })
/// }
/// ```
pub struct Admitted {
    admission: Admission,
}

impl Admitted {
    /// Limits that would have refused it, had they not been shadows.
    pub fn shadowed(&self) -> LimitSet {
        self.admission.shadowed()
    }
}

/// A checked fact: there was room for this request in its tenant's limits, and for what it will use. Only `reserve` makes one.
/// Dropped, the room is given back; settled (`meter::settle`), as every forwarded request is, what it has used is charged.
///
/// ```
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Admitted, Permit, reserve}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(
///     worker: &'static Worker,
///     request: &Request<'_>,
///     caller: &Caller,
///     admitted: Admitted,
/// ) -> Result<Permit, Refusal> {
///     let permit = reserve(worker, request, caller, admitted, None)?;
///     Ok(permit)
/// }
/// ```
///
/// To be admitted is not enough, what it will use must have been set aside:
///
/// ```compile_fail,E0308
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Admitted, Permit, reserve}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(
///     worker: &'static Worker,
///     request: &Request<'_>,
///     caller: &Caller,
///     admitted: Admitted,
/// ) -> Result<Permit, Refusal> {
///     Ok(admitted)
/// }
/// ```
///
/// One permit does not become two:
///
/// ```compile_fail,E0599
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Admitted, Permit, reserve}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(
///     worker: &'static Worker,
///     request: &Request<'_>,
///     caller: &Caller,
///     admitted: Admitted,
/// ) -> Result<Permit, Refusal> {
///     let permit = reserve(worker, request, caller, admitted, None)?;
///     Ok(permit.clone())
/// }
/// ```
pub struct Permit {
    admission: Admission,
    tariff: Tariff,
}

impl Permit {
    /// How what it has used is found.
    pub(super) fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// It was another model that has answered: what that costs is charged, if it is known.
    pub(super) fn was_answered_by(&mut self, worker: &'static Worker, model: &str) {
        self.tariff.was_answered_by(worker, model);
    }

    /// Charges what the request has used.
    pub(super) fn settle(self, used: &Consumption, now: Instant) {
        self.admission.settle(used, now);
    }

    /// Limits that would have refused it, had they not been shadows.
    pub fn shadowed(&self) -> LimitSet {
        self.admission.shadowed()
    }

    /// How the limits stand, as far as the client is told.
    pub fn standings(&self, now: Instant) -> Standings {
        let [requests, tokens] = self.admission.standings(now);
        Standings { requests, tokens }
    }
}

/// Takes a place in the tenant's limits: for the connection, which keeps it, and for the request.
///
/// # Errors
/// 429 with the limit that is used up.
///
/// ```
/// # use codex_relay::request::{Request, authenticate::authenticate, limit::{Admitted, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn checked(worker: &Worker, request: &Request<'_>) -> Result<Admitted, Refusal> {
///     let caller = authenticate(worker, request)?;
///     admit(worker, request, &caller)
/// }
/// ```
///
/// The name of a tenant is not enough, its key must have been checked:
///
/// ```compile_fail,E0308
/// # use codex_relay::request::{Request, authenticate::authenticate, limit::{Admitted, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn unchecked(worker: &Worker, request: &Request<'_>) -> Result<Admitted, Refusal> {
///     let caller = authenticate(worker, request)?.tenant();
///     admit(worker, request, &caller)
/// }
/// ```
pub fn admit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Admitted, Refusal> {
    claim_connection(request, caller)?;
    worker
        .allowances
        .admit(who(caller), request.received_at)
        .map(|admission| Admitted { admission })
        .map_err(|exceeded| Refusal::LimitExceeded(Box::new(exceeded)))
}

/// Takes a place for a request that is part of one in flight (a message of a WebSocket), whose place in what may be in flight serves
/// for both.
///
/// # Errors
/// The limit that is used up.
pub(super) fn admit_further(worker: &Worker, caller: &Caller) -> Result<Admitted, Refusal> {
    worker
        .allowances
        .admit_further(who(caller), Instant::now())
        .map(|admission| Admitted { admission })
        .map_err(|exceeded| Refusal::LimitExceeded(Box::new(exceeded)))
}

/// A limit of a day or a month of which the caller has nothing left.
pub(super) fn used_up(worker: &Worker, caller: &Caller) -> Option<Refusal> {
    let exceeded = worker.allowances.used_up(who(caller), Instant::now())?;
    Some(Refusal::LimitExceeded(Box::new(exceeded)))
}

fn who(caller: &Caller) -> Who {
    Who {
        tenant: caller.tenant(),
        key: caller.key(),
    }
}

/// Counts the connection as the tenant's.
///
/// # Errors
/// The tenant has as many as it may have.
pub fn claim_connection(request: &Request<'_>, caller: &Caller) -> Result<(), Refusal> {
    request
        .inbound
        .claim(caller.tenant())
        .map_err(|denied| match denied {
            Denied::TenantFull => Refusal::TenantConnectionLimit,
            _ => Refusal::Overloaded,
        })
}

/// Sets aside what the request will use, where a limit asks for that.
///
/// # Errors
/// 429 with the limit of which not so much is left; 403 where there is a budget and nobody knows what the model costs.
pub fn reserve(
    worker: &'static Worker,
    request: &Request<'_>,
    caller: &Caller,
    admitted: Admitted,
    model: Option<&str>,
) -> Result<Permit, Refusal> {
    let tariff = Tariff::of(worker, request, model);
    // A moment ago, but not before it was admitted. Others may have been taken at later times since: by an earlier one a rate has
    // a little less left, and nothing is counted backwards.
    reserve_by(worker, caller, admitted, tariff, request.held_at)
}

/// The same by what is known of what the request will use.
pub(super) fn reserve_by(
    worker: &'static Worker,
    caller: &Caller,
    mut admitted: Admitted,
    tariff: Tariff,
    now: Instant,
) -> Result<Permit, Refusal> {
    let allowances = caller.allowances(worker);
    if tariff.costs() && allowances.into_iter().any(Allowance::needs_estimate) {
        if tariff.is_without_price() && allowances.into_iter().any(has_budget) {
            return Err(Refusal::ModelNotPriced);
        }
        admitted
            .admission
            .reserve(tariff.estimate(), now)
            .map_err(|exceeded| Refusal::LimitExceeded(Box::new(exceeded)))?;
    }
    Ok(Permit {
        admission: admitted.admission,
        tariff,
    })
}

/// Its money is limited: what a request costs has to be known.
pub fn has_budget(allowance: &Allowance) -> bool {
    allowance.budget_per_month.is_some() && !allowance.shadow.contains(Limit::BudgetPerMonth)
}
