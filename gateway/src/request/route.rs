//! Who may serve the request, and in which order they are tried.

use super::Request;
use super::audit::Trail;
use super::authenticate::Caller;
use super::egress::Failure;
use super::refusal::Refusal;
use crate::accounts::Slot;
use crate::config::policy::{AccountId, ModelPattern, TenantId, UpstreamId};
use crate::worker::Worker;
use relay_io::{Stream, pause};
use relay_wire::dialect::ScanError;
use smallvec::SmallVec;
use std::time::Duration;

/// An account that will be asked, from one of its own addresses.
pub struct Candidate {
    /// The upstream it belongs to.
    pub upstream: UpstreamId,
    /// The account, with a place in it.
    pub slot: Slot,
    /// For whom it is asked.
    pub tenant: TenantId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// Accounts that were not asked yet, and what the last one said.
pub struct Candidates {
    tenant: TenantId,
    /// The upstreams that serve the model, in the tenant's order of preference.
    upstreams: SmallVec<[UpstreamId; 4]>,
    tried: Vec<AccountId>,
    attempts: u32,
    last_failure: Option<Failure>,
    pause: Option<Duration>,
}

/// Finds the accounts that may serve the request.
///
/// # Errors
/// The tenant may not use the model, or nobody serves it.
pub fn candidates(
    worker: &Worker,
    caller: &Caller,
    request: &Request<'_>,
    trail: &mut Trail,
) -> Result<Candidates, Refusal> {
    let model = match request.dialect.model_in_path(request.path()) {
        Some(model) => Some(model),
        None => model_in_body(request, caller.must_name_model(worker))?,
    };
    trail.note_model(model);
    let tenant = worker.policy.tenant(caller.tenant());
    if let Some(model) = model
        && !tenant.models.is_empty()
        && !covers(&tenant.models, model)
    {
        return Err(Refusal::ModelNotAllowed);
    }
    let serves = |id: &UpstreamId| {
        let models = &worker.policy.upstream(*id).models;
        models.is_empty() || model.is_none_or(|model| covers(models, model))
    };
    let upstreams: SmallVec<_> = tenant.upstreams.iter().copied().filter(serves).collect();
    if upstreams.is_empty() {
        return Err(Refusal::NoUpstream);
    }
    Ok(Candidates {
        tenant: caller.tenant(),
        upstreams,
        tried: Vec::new(),
        attempts: 0,
        last_failure: None,
        pause: None,
    })
}

fn covers(patterns: &[ModelPattern], model: &str) -> bool {
    patterns.iter().any(|pattern| pattern.covers(model))
}

/// The model that the body names. Where it decides whether the request is allowed, a body from which it cannot be read
/// for certain is refused.
fn model_in_body<'r>(request: &'r Request<'_>, needed: bool) -> Result<Option<&'r str>, Refusal> {
    let body = &request.body;
    if !needed {
        return Ok(if body.scan_error().is_none() {
            body.model()
        } else {
            None
        });
    }
    match body.scan_error() {
        Some(ScanError::AmbiguousModel) => Err(Refusal::ModelUnknown(
            "The body must name its model once, as a string.",
        )),
        Some(ScanError::DecodedTooLarge) => Err(Refusal::ModelUnknown(
            "The decoded body is too large to find its model.",
        )),
        Some(ScanError::Compression) => Err(Refusal::ModelUnknown("The body cannot be decoded.")),
        Some(ScanError::Json(_)) => Err(Refusal::ModelUnknown("The body is not a JSON object.")),
        None if body.model().is_some() => Ok(body.model()),
        None if body.received_bytes() == 0 && body.is_complete() => Ok(None),
        None if body.is_scanned() => Err(Refusal::ModelUnknown("The body must name its model.")),
        None => Err(Refusal::ModelUnknown(
            "This API key may only use certain models: send JSON (plain, gzip or zstd) that names one.",
        )),
    }
}

/// Longest stretch of a pause in which a client that leaves is not noticed.
const PAUSE_STEP: Duration = Duration::from_millis(100);

/// Waits, but not for a client that is gone.
async fn pause_while_present(client: &Stream, duration: Duration) -> Result<(), Refusal> {
    let mut left = duration;
    while !left.is_zero() {
        let step = left.min(PAUSE_STEP);
        pause(step).await;
        left -= step;
        if client.interrupted().is_some() {
            return Err(Refusal::ClientGone);
        }
    }
    Ok(())
}

impl Candidates {
    /// The next account that has a place free.
    ///
    /// # Errors
    /// There is none: what the last one said, or that all are busy. Or the client has left.
    pub async fn next(
        &mut self,
        worker: &'static Worker,
        client: &Stream,
    ) -> Result<Candidate, Refusal> {
        for &upstream in &self.upstreams {
            let accounts = &worker.policy.upstream(upstream).accounts;
            let slot =
                worker
                    .turns
                    .take_slot(&worker.policy, worker.in_flight, accounts, &self.tried);
            if let Some(slot) = slot {
                if let Some(duration) = self.pause.take() {
                    pause_while_present(client, duration).await?;
                }
                self.attempts += 1;
                return Ok(Candidate {
                    upstream,
                    slot,
                    tenant: self.tenant,
                    attempt: self.attempts,
                });
            }
        }
        Err(self
            .last_failure
            .take()
            .map_or(Refusal::NoAccountAvailable, Failure::into_refusal))
    }

    /// Decides what a failure means: the next candidate is tried, or the request is refused.
    ///
    /// # Errors
    /// Nobody else could do better, or as many as allowed were tried.
    pub fn after(
        &mut self,
        account: AccountId,
        failure: Failure,
        worker: &Worker,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        let exhausted = self.attempts >= worker.policy.limits.attempts_max;
        if exhausted || !failure.may_be_retried() || !request.body.can_be_sent_again() {
            return Err(failure.into_refusal());
        }
        if !failure.blames_account() {
            let doubled = worker.policy.limits.retry_pause * 2u32.saturating_pow(self.attempts - 1);
            self.pause = Some(doubled.mul_f64(0.5 + worker.random_fraction()));
        }
        self.tried.push(account);
        self.last_failure = Some(failure);
        Ok(())
    }
}
