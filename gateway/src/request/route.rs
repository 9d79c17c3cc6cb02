//! Who may serve the request, and in which order they are tried.
//!
//! ```text
//! next ─┬─ survey: each upstream in the tenant's order, first among those who are well, then whoever is left
//!       ├─ queue: nobody has a place yet, so wait for one                                  (bounded and fair)
//!       └─ retry: a further attempt is paid for, and takes its time
//! after ── blame: whose failure it was; and whether another attempt may follow
//! ```

mod queue;
mod retry;
mod survey;
mod wanted;

use super::Request;
use super::audit::Trail;
use super::authenticate::Caller;
use super::egress::{Answer, Failure};
use super::refusal::Refusal;
use super::reply::Early;
use crate::accounts::{Ask, Pick, Slot, Target, Tried};
use crate::config::policy::{AccountId, ModelPattern, TenantId, UpstreamId};
use crate::health::{Fault, Moment, Standing, Trial};
use crate::worker::Worker;
use queue::Queue;
use relay_wire::dialect::ScanError;
use retry::Retry;
use smallvec::SmallVec;
use std::time::Instant;
use survey::{Found, Lack, survey};

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
    /// It is asked to see whether it is well again.
    pub is_trial: bool,
    /// From then on it is the gateway that takes time, not the client, another attempt or a queue.
    pub since: Instant,
}

/// Who was asked: what has to be known when it turns out how they are. The candidate itself goes into the attempt.
pub struct Asked {
    /// The account.
    pub account: AccountId,
    /// Which of its addresses it was called from.
    pub address: usize,
    /// To see whether they are well again.
    trial: Option<Trial>,
}

impl Candidate {
    /// Who is asked. The trial, if it is one, goes with it.
    pub fn asked(&mut self) -> Asked {
        Asked {
            account: self.slot.account,
            address: self.slot.address,
            trial: self.slot.trial.take(),
        }
    }
}

impl Asked {
    /// They answer: how that ends decides the trial.
    pub fn answers(self, mut answer: Box<Answer>) -> Box<Answer> {
        answer.slot.trial = self.trial;
        answer
    }
}

/// Upstreams of a request, in the tenant's order of preference.
type Upstreams = SmallVec<[UpstreamId; 4]>;

/// Who may still be asked, and what came of those that were.
pub struct Candidates {
    tenant: TenantId,
    /// Those that serve the model.
    upstreams: Upstreams,
    target: Target,
    tried: SmallVec<[Tried; 4]>,
    /// Upstreams that the request was sent to.
    reached: Upstreams,
    attempts: u32,
    queue: Queue,
    /// What the next attempt costs.
    retry: Option<Retry>,
    last_failure: Option<Failure>,
    /// An account's credential was not taken for this request.
    was_refused: bool,
}

/// Finds the accounts that may serve the request.
///
/// # Errors
/// The tenant may not use the model, nobody serves it, or nobody has what the request refers to.
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
    let upstreams: Upstreams = tenant.upstreams.iter().copied().filter(serves).collect();
    if upstreams.is_empty() {
        return Err(Refusal::NoUpstream);
    }
    Ok(Candidates {
        tenant: caller.tenant(),
        target: wanted::target(worker, caller.tenant(), request, &upstreams)?,
        upstreams,
        tried: SmallVec::new(),
        reached: Upstreams::new(),
        attempts: 0,
        queue: Queue::new(worker.policy.timeouts.queue),
        retry: None,
        last_failure: None,
        was_refused: false,
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

impl Candidates {
    /// The next account that has a place free; waits for one if need be.
    ///
    /// # Errors
    /// There is none: what the last one said, or why nobody can be asked. Or the client has left.
    pub async fn next(
        &mut self,
        worker: &'static Worker,
        request: &Request<'_>,
        early: &mut Early<'_>,
        trail: &mut Trail,
    ) -> Result<Candidate, Refusal> {
        loop {
            let now = worker.accounts.health.clock().now();
            match self.look(worker, request, now) {
                Found::Taken(upstream, slot) => {
                    self.queue.leave();
                    trail.note_queued(self.queue.waited());
                    if let Some(retry) = self.retry.take() {
                        let repeats = self.reached.contains(&upstream);
                        if repeats && !retry.pay(worker, upstream, now) {
                            return Err(self.refusal(Lack::None, now));
                        }
                        if !retry.pause.is_zero() {
                            // Whoever is well now need not be so after it.
                            drop(slot);
                            retry::pause_while_present(request.client, retry.pause).await?;
                            continue;
                        }
                    }
                    return Ok(self.candidate(worker, request, upstream, slot));
                }
                Found::Wait(room) => {
                    let waited = self.wait(worker, request, early, room).await;
                    trail.note_queued(self.queue.waited());
                    waited?;
                }
                Found::Nobody(lack) => return Err(self.refusal(lack, now)),
            }
        }
    }

    fn candidate(
        &mut self,
        worker: &Worker,
        request: &Request<'_>,
        upstream: UpstreamId,
        slot: Slot,
    ) -> Candidate {
        if !self.reached.contains(&upstream) {
            self.reached.push(upstream);
            worker.accounts.budgets.note_request(upstream);
        }
        self.attempts += 1;
        let is_at_once = self.attempts == 1 && self.queue.waited().is_none();
        let since = if is_at_once {
            request.held_at
        } else {
            Instant::now()
        };
        let is_trial = slot.trial.is_some();
        Candidate {
            upstream,
            slot,
            tenant: self.tenant,
            attempt: self.attempts,
            is_trial,
            since,
        }
    }

    /// Looks once at all upstreams. Who comes anew has to wait behind those that wait already, unless there is enough for all.
    fn look(&self, worker: &Worker, request: &Request<'_>, now: Moment) -> Found<Slot> {
        let patience = self.patience(worker, request);
        let is_new = self.attempts == 0 && !self.queue.is_entered();
        survey(
            &self.upstreams,
            !patience.is_zero(),
            |upstream, may_panic| {
                let mut ask = self.ask(worker, request, upstream, now);
                ask.waits_until = now + patience;
                ask.may_panic = may_panic;
                // Where nobody is well there is nothing to lose by a trial.
                ask.may_try |= may_panic;
                if is_new && !patience.is_zero() && queue::is_crowded(worker, upstream, now) {
                    return Pick::Wait { until: None };
                }
                worker.chooser.pick(&ask, &mut || worker.random_fraction())
            },
        )
    }

    fn ask<'r>(
        &'r self,
        worker: &'r Worker,
        request: &Request<'_>,
        upstream: UpstreamId,
        now: Moment,
    ) -> Ask<'r> {
        let (policy, limits) = (&worker.policy, &worker.policy.limits);
        let region = policy.tenant(self.tenant).region.as_deref();
        Ask {
            upstream,
            target: self.target,
            region: region.unwrap_or(&policy.node.region),
            tried: &self.tried,
            may_try: retry::may_try(
                limits.attempts_max,
                self.attempts,
                request.body.is_complete(),
            ),
            may_panic: false,
            now,
            waits_until: now,
        }
    }

    /// Decides what a failure means: the next candidate is tried, or the request is refused.
    ///
    /// # Errors
    /// Nobody else could do better, or as many as allowed were tried.
    pub fn after(
        &mut self,
        asked: Asked,
        failure: Failure,
        worker: &Worker,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        let (account, was_trial) = (asked.account, asked.trial.is_some());
        let may_again = self.blame(worker, asked, &failure);
        self.tried.retain(|tried| tried.account != account);
        self.tried.push(Tried { account, may_again });
        let (limits, timeouts) = (&worker.policy.limits, &worker.policy.timeouts);
        let retry = Retry::after(
            &failure,
            was_trial,
            self.attempts,
            limits.retry_pause,
            || worker.random_fraction(),
        );
        let begins_after = request.held_at.elapsed() + retry.pause;
        let may_follow = self.attempts < limits.attempts_max
            && begins_after < timeouts.retry
            && failure.may_be_retried()
            && request.body.can_be_sent_again();
        if !may_follow {
            return Err(failure.into_refusal());
        }
        self.retry = Some(retry);
        self.last_failure = Some(failure);
        Ok(())
    }

    /// Puts the failure on record, once, where it counts against somebody. True if the account has too much to do, and is blocked
    /// for that now.
    fn blame(&mut self, worker: &Worker, asked: Asked, failure: &Failure) -> bool {
        let Some(fault) = failure.fault() else {
            return false;
        };
        // Where a second account is refused too, it may be the request that is.
        if fault == Fault::Refused && std::mem::replace(&mut self.was_refused, true) {
            return false;
        }
        let health = &worker.accounts.health;
        let now = health.clock().now();
        let Asked {
            account,
            address,
            trial,
        } = asked;
        health.failed(
            account,
            address,
            trial,
            fault,
            now,
            worker.random_fraction(),
        );
        let has_too_much = matches!(
            fault,
            Fault::RateLimited { .. } | Fault::QuotaExhausted { .. }
        );
        has_too_much && matches!(health.standing(account, now), Standing::Blocked { .. })
    }

    /// What the client is told where nobody is left.
    fn refusal(&mut self, lack: Lack, now: Moment) -> Refusal {
        let is_owned = matches!(self.target, Target::Owner(_));
        retry::refusal(self.last_failure.take(), lack, is_owned, now)
    }
}
