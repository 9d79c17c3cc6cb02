//! Who may serve the request, and in which order they are tried.
//!
//! ```text
//! next ─┬─ survey: each upstream in the tenant's order, first among those who are well, then whoever is left
//!       ├─ queue: nobody has a place yet, so wait for one                                  (bounded and fair)
//!       └─ retry: a further attempt takes its time, and is paid for
//! after ── verdicts: whose failure it was; and whether another attempt may follow
//! both ─── told: what the client hears where nobody is left
//! ```

mod queue;
mod retry;
mod survey;
mod told;
mod verdicts;
mod wanted;

use super::Request;
use super::audit::Trail;
use super::authenticate::Caller;
use super::egress::{Answer, Failure};
use super::refusal::Refusal;
use super::reply::Early;
use crate::accounts::{Ask, Pick, Slot, Target, Tried};
use crate::config::policy::{AccountId, ModelPattern, TenantId, Upstream, UpstreamId};
use crate::health::{Fault, Moment, Standing, Trial};
use crate::worker::Worker;
use queue::Queue;
use relay_wire::dialect::{RequestScan, ScanError};
use retry::Retry;
use smallvec::SmallVec;
use std::pin::pin;
use std::time::Instant;
use survey::{Found, Lack, survey};
use told::Seen;
use verdicts::Verdicts;

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
    /// All that serve the request: where else could be stored what it refers to.
    serving: Upstreams,
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

    /// Whether the account has the stored response that the tenant means by this ID, as far as can be known.
    pub fn may_have(&self, worker: &Worker, response_id: &str) -> bool {
        let id = response_id.as_bytes();
        let owner = wanted::owner(worker, self.tenant, &self.serving, id);
        owner == Some(self.slot.account)
    }
}

/// Upstreams of a request, in the tenant's order of preference.
type Upstreams = SmallVec<[UpstreamId; 4]>;

/// Who may still be asked, and what came of those that were.
pub struct Candidates {
    tenant: TenantId,
    /// Those that serve the model.
    upstreams: Upstreams,
    /// Those of them that can still be asked.
    left: Upstreams,
    target: Target,
    tried: SmallVec<[Tried; 4]>,
    /// Upstreams that the request was sent to.
    reached: Upstreams,
    attempts: u32,
    queue: Queue,
    /// What the next attempt costs.
    retry: Option<Retry>,
    last_failure: Option<Failure>,
    verdicts: Verdicts,
}

/// The model that the request names.
///
/// # Errors
/// It has to name one, and does not.
pub fn model<'r>(
    worker: &Worker,
    caller: &Caller,
    request: &'r Request<'_>,
) -> Result<Option<&'r str>, Refusal> {
    if !request.names_model_in_body() {
        let in_path = request.dialect.model_in_path(request.path());
        return in_path.map(Some).ok_or(Refusal::ModelUnknown(
            "The path must name its model without percent-encoding.",
        ));
    }
    model_in_body(request, caller.must_name_model(worker))
}

/// The model that the request names as far as it has come: for the record, not to decide anything by it.
pub fn model_so_far<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    if request.names_model_in_body() {
        request.body.said().and_then(RequestScan::model)
    } else {
        request.dialect.model_in_path(request.path())
    }
}

/// Finds the accounts that may serve the request.
///
/// # Errors
/// The tenant may not use the model, nobody serves it, or nobody has what the request refers to.
pub fn candidates(
    worker: &Worker,
    caller: &Caller,
    request: &Request<'_>,
    model: Option<&str>,
) -> Result<Candidates, Refusal> {
    let tenant = worker.policy.tenant(caller.tenant());
    if let Some(model) = model
        && !tenant.models.is_empty()
        && !covers(&tenant.models, model)
    {
        return Err(Refusal::ModelNotAllowed);
    }
    let serves = |id: &UpstreamId| {
        let upstream = worker.policy.upstream(*id);
        (upstream.websocket || request.websocket.is_none())
            && model.is_none_or(|model| upstream_serves(upstream, model))
    };
    let upstreams: Upstreams = tenant.upstreams.iter().copied().filter(serves).collect();
    if upstreams.is_empty() {
        return Err(Refusal::NoUpstream);
    }
    Ok(Candidates {
        tenant: caller.tenant(),
        target: wanted::target(worker, caller.tenant(), request, &upstreams)?,
        left: Upstreams::from_slice(&upstreams),
        upstreams,
        tried: SmallVec::new(),
        reached: Upstreams::new(),
        attempts: 0,
        queue: Queue::new(worker.policy.timeouts.queue),
        retry: None,
        last_failure: None,
        verdicts: Verdicts::default(),
    })
}

fn upstream_serves(upstream: &Upstream, model: &str) -> bool {
    upstream.models.is_empty() || covers(&upstream.models, model)
}

/// Whether the tenant may have this model from this upstream.
///
/// # Errors
/// It may not.
pub fn check_model(
    worker: &Worker,
    tenant: TenantId,
    upstream: UpstreamId,
    model: &str,
) -> Result<(), Refusal> {
    let allowed = &worker.policy.tenant(tenant).models;
    if !allowed.is_empty() && !covers(allowed, model) {
        Err(Refusal::ModelNotAllowed)
    } else if !upstream_serves(worker.policy.upstream(upstream), model) {
        Err(Refusal::NoUpstream)
    } else {
        Ok(())
    }
}

/// Whether the account has the stored response that the tenant means by this ID, as far as can be known.
pub fn may_have(worker: &Worker, tenant: TenantId, account: AccountId, response_id: &str) -> bool {
    let upstreams = &worker.policy.tenant(tenant).upstreams;
    wanted::owner(worker, tenant, upstreams, response_id.as_bytes()) == Some(account)
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
            "A request with this API key must name its model: send JSON (plain, gzip or zstd) that does.",
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
        let found = pin!(self.find(worker, request, early, trail)).await;
        if found.is_err() {
            self.note_end(worker);
        }
        found
    }

    async fn find(
        &mut self,
        worker: &'static Worker,
        request: &Request<'_>,
        early: &mut Early<'_>,
        trail: &mut Trail,
    ) -> Result<Candidate, Refusal> {
        let clock = worker.accounts.health.clock();
        let mut now = if self.attempts == 0 {
            // A moment ago: health's times go by milliseconds, and none is assumed to be after what another worker has noted.
            clock.at(request.held_at)
        } else {
            clock.now()
        };
        loop {
            match self.look(worker, request, now) {
                Found::Taken(upstream, slot) => {
                    self.queue.leave();
                    trail.note_queued(self.queue.waited());
                    let pause = self.retry.as_mut().map(Retry::take_pause);
                    if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                        // Whoever is well now need not be so after it.
                        drop(slot);
                        Box::pin(retry::pause_while_present(worker, request.client, pause)).await?;
                    } else if self.pays(worker, upstream, now) {
                        return Ok(self.candidate(worker, request, upstream, slot));
                    } else {
                        self.left.retain(|left| *left != upstream);
                    }
                }
                Found::Wait(room) => {
                    let waited = Box::pin(self.wait(worker, request, early, room)).await;
                    trail.note_queued(self.queue.waited());
                    waited?;
                }
                Found::Nobody(lack) => return Err(self.refusal(worker, lack)),
            }
            now = clock.now();
        }
    }

    /// A further attempt at the same upstream is taken out of its budget; one at another upstream is the first there.
    fn pays(&self, worker: &Worker, upstream: UpstreamId, now: Moment) -> bool {
        let repeats = self.reached.contains(&upstream);
        let retry = self.retry.as_ref().filter(|_| repeats);
        retry.is_none_or(|retry| retry.pay(worker, upstream, now))
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
        self.retry = None;
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
            serving: Upstreams::from_slice(&self.upstreams),
        }
    }

    /// Looks once at all upstreams. Who comes anew has to wait behind those that wait already, unless there is enough for all; and so
    /// has who may not wait, which is then refused: otherwise whoever sends the most would be served first.
    fn look(&self, worker: &Worker, request: &Request<'_>, now: Moment) -> Found<Slot> {
        let patience = self.patience(worker, request);
        let comes_last =
            self.queue.is_turned_away() || self.attempts == 0 && !self.queue.is_entered();
        survey(&self.left, !patience.is_zero(), |upstream, may_panic| {
            let mut ask = self.ask(worker, request, upstream, now);
            ask.waits_until = now + patience;
            ask.may_panic = may_panic;
            // Where nobody is well there is nothing to lose by a trial.
            ask.may_try |= may_panic;
            if comes_last && queue::is_crowded(worker, upstream, may_panic, now) {
                return Pick::Wait { until: None };
            }
            worker.chooser.pick(&ask, &mut || worker.random_fraction())
        })
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
            tenant: self.tenant,
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
        let may_again = self.judge(worker, asked, &failure);
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
        self.last_failure = Some(failure);
        if !may_follow {
            self.note_end(worker);
            return Err(self.refusal(worker, Lack::None));
        }
        self.retry = Some(retry);
        Ok(())
    }

    /// They answer: how that ends decides the trial, and those who could not are to blame for it.
    pub fn answered(
        &mut self,
        worker: &Worker,
        asked: Asked,
        mut answer: Box<Answer>,
    ) -> Box<Answer> {
        let charge = |asked, fault| charge(worker, asked, fault);
        self.verdicts.note_answer(charge);
        answer.slot.trial = asked.trial;
        answer
    }

    /// Nobody answers the request.
    fn note_end(&mut self, worker: &Worker) {
        let charge = |asked, fault| charge(worker, asked, fault);
        self.verdicts.note_end(self.tried.len(), charge);
    }

    /// Puts the failure on record, once, where it counts against somebody. True if the account has too much to do, and is blocked
    /// for that now.
    fn judge(&mut self, worker: &Worker, asked: Asked, failure: &Failure) -> bool {
        let Some(fault) = failure.fault() else {
            return false;
        };
        let account = asked.account;
        let charge = |asked, fault| charge(worker, asked, fault);
        self.verdicts.note(asked, fault, charge);
        let has_too_much = matches!(
            fault,
            Fault::RateLimited { .. } | Fault::QuotaExhausted { .. }
        );
        let health = &worker.accounts.health;
        let standing = health.standing(account, health.clock().now());
        has_too_much && matches!(standing, Standing::Blocked { .. })
    }

    /// What the client is told where nobody is left, by how the accounts stand now.
    fn refusal(&mut self, worker: &Worker, lack: Lack) -> Refusal {
        if self.last_failure.is_none() && self.queue.is_above_share() {
            return Refusal::FairShareExceeded;
        }
        let health = &worker.accounts.health;
        let now = health.clock().now();
        let owner = match self.target {
            Target::Owner(owner) => Some(owner),
            Target::Any | Target::Conversation(_) => None,
        };
        let all = self.upstreams.iter();
        let accounts = all
            .flat_map(|id| &worker.policy.upstream(*id).accounts)
            .filter(|id| owner.is_none_or(|owner| owner == **id))
            .map(|&id| Seen {
                standing: health.standing(id, now),
                was_tried: self.tried.iter().any(|tried| tried.account == id),
            });
        told::refusal(
            self.last_failure.take(),
            lack,
            owner.is_some(),
            accounts,
            now,
        )
    }
}

fn charge(worker: &Worker, asked: Asked, fault: Fault) {
    let health = &worker.accounts.health;
    let Asked {
        account,
        address,
        trial,
    } = asked;
    let now = health.clock().now();
    let random = worker.random_fraction();
    health.failed(account, address, trial, fault, now, random);
}
