//! Whether the tenant may ask for more now.

use super::Request;
use super::authenticate::Caller;
use super::refusal::Refusal;
use crate::connections::Denied;
use crate::limits::Place;
use crate::worker::Worker;

/// A checked fact: there was room for this request in its tenant's limits. Only `admit` makes one. Dropped, the room is
/// given back; so it is when it is settled (`meter::settle`), which every forwarded request is.
///
/// ```
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Permit, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Permit, Refusal> {
///     let permit = admit(worker, request, caller)?;
///     Ok(permit)
/// }
/// ```
///
/// A place in the limits does not make one:
///
/// ```compile_fail,E0451
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Permit, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Permit, Refusal> {
///     let place = worker.in_flight.enter_tenant(caller.tenant(), None);
///     Ok(Permit { _place: place.ok_or(Refusal::TenantConcurrencyExceeded)? })
/// }
/// ```
///
/// One permit does not become two:
///
/// ```compile_fail,E0599
/// # use codex_relay::request::{Request, authenticate::Caller, limit::{Permit, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn permit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Permit, Refusal> {
///     let permit = admit(worker, request, caller)?;
///     Ok(permit.clone())
/// }
/// ```
pub struct Permit {
    _place: Place,
}

/// Takes a place in the tenant's limits: for the connection, which keeps it, and for the request.
///
/// # Errors
/// 429 with the limit that is used up.
///
/// ```
/// # use codex_relay::request::{Request, authenticate::authenticate, limit::{Permit, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn checked(worker: &Worker, request: &Request<'_>) -> Result<Permit, Refusal> {
///     let caller = authenticate(worker, request)?;
///     admit(worker, request, &caller)
/// }
/// ```
///
/// The name of a tenant is not enough, its key must have been checked:
///
/// ```compile_fail,E0308
/// # use codex_relay::request::{Request, authenticate::authenticate, limit::{Permit, admit}, refusal::Refusal};
/// # use codex_relay::worker::Worker;
/// fn unchecked(worker: &Worker, request: &Request<'_>) -> Result<Permit, Refusal> {
///     let caller = authenticate(worker, request)?.tenant();
///     admit(worker, request, &caller)
/// }
/// ```
pub fn admit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Permit, Refusal> {
    request
        .inbound
        .claim(request.client, caller.tenant())
        .map_err(|denied| match denied {
            Denied::TenantFull => Refusal::TenantConnectionLimit,
            _ => Refusal::Overloaded,
        })?;
    let cap = worker.policy.tenant(caller.tenant()).concurrent_requests;
    worker
        .in_flight
        .enter_tenant(caller.tenant(), cap)
        .map(|place| Permit { _place: place })
        .ok_or(Refusal::TenantConcurrencyExceeded)
}
