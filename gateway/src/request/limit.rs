//! Whether the tenant may ask for more now.

use super::Request;
use super::authenticate::Caller;
use super::refusal::Refusal;
use crate::connections::Denied;
use crate::limits::{Admission, Consumption, Who};
use crate::worker::Worker;
use std::time::Instant;

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
/// # use codex_relay::limits::Who;
/// # use codex_relay::worker::Worker;
/// fn permit(worker: &Worker, request: &Request<'_>, caller: &Caller) -> Result<Permit, Refusal> {
///     let who = Who { tenant: caller.tenant(), key: caller.key() };
///     let admission = worker.allowances.admit(who, request.received_at);
///     Ok(Permit { admission: admission.map_err(|_| Refusal::TenantConcurrencyExceeded)? })
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
    admission: Admission,
}

impl Permit {
    /// Charges what the request has used.
    pub(super) fn settle(self, used: &Consumption, now: Instant) {
        self.admission.settle(used, now);
    }
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
    let who = Who {
        tenant: caller.tenant(),
        key: caller.key(),
    };
    worker
        .allowances
        .admit(who, request.received_at)
        .map(|admission| Permit { admission })
        .map_err(|_| Refusal::TenantConcurrencyExceeded)
}
