//! Whether the tenant may ask for more now.

use super::authenticate::Caller;
use super::refusal::Refusal;
use crate::limits::Place;
use crate::worker::Worker;

/// A checked fact: there was room for this request in its tenant's limits. Only `admit` makes one. Dropped, the room is
/// given back; settled (`meter::settle`), it is given back and what was used is charged.
pub struct Permit {
    _place: Place,
}

/// Takes a place in the tenant's limits.
///
/// # Errors
/// 429 with the limit that is used up.
pub fn admit(worker: &Worker, caller: &Caller) -> Result<Permit, Refusal> {
    let cap = worker.policy.tenant(caller.tenant()).concurrent_requests;
    worker
        .in_flight
        .enter_tenant(caller.tenant(), cap)
        .map(|place| Permit { _place: place })
        .ok_or(Refusal::TenantConcurrencyExceeded)
}
