//! The trail of one request: what is noted on the way, and the one record that is made of it at the end.
//!
//! The trail is closed by `serve`, not when it is dropped: a request that ends without a record is a bug to be seen.

use super::Request;
use super::authenticate::Caller;
use super::egress::Failure;
use super::forward::Ending;
use super::meter::{Charge, Transcript};
use super::refusal::Refusal;
use super::reply::{EARLY_STATUS, RequestId};
use super::route::{Asked, Candidate};
use crate::config::policy::{Allowance, LimitSet, Money, TenantId};
use crate::journal::{Closed, Record, RecordPlace, Report, Withheld};
use crate::worker::Worker;
use relay_wire::dialect::Dialect;
use std::time::{Duration, Instant, SystemTime};

/// Bytes of a model's name that are kept.
const MODEL_BYTES_MAX: usize = 256;

/// What is known so far.
pub struct Trail {
    record: Record,
    began_at: Instant,
    /// Where the record goes, if none may be lost.
    place: Option<RecordPlace>,
}

/// Begins the trail.
pub fn open(worker: &Worker, request: &Request<'_>) -> Trail {
    worker.count_request();
    let time = worker.wall_clock(request.received_at);
    let record = blank(request.id, Some(request.dialect), time);
    Trail {
        record,
        began_at: request.received_at,
        place: None,
    }
}

/// Records something that was refused before it was a request.
pub fn record_unparsed(worker: &Worker, id: RequestId, refusal: &Refusal) {
    worker.count_request();
    let mut record = blank(id, None, SystemTime::now());
    record.status = refusal.shape(0).status;
    record.code = Some(refusal.code());
    record.ended = "refused";
    worker.journal.report(Report::Request(record));
}

fn blank(request_id: RequestId, route: Option<Dialect>, time: SystemTime) -> Record {
    Record {
        time,
        request_id,
        tenant: None,
        key_id: None,
        route,
        model: None,
        account: None,
        egress: None,
        status: 0,
        code: None,
        attempts: 0,
        chosen: None,
        failed_status: None,
        queued: None,
        first_byte: None,
        duration: Duration::ZERO,
        overhead: None,
        bytes_in: 0,
        bytes_out: 0,
        events: 0,
        streamed: false,
        charged: false,
        usage: None,
        known: None,
        cost: Money::ZERO,
        limit: None,
        shadowed: LimitSet::EMPTY,
        closed: None,
        ended: "",
    }
}

impl Trail {
    /// Who asks.
    pub fn note_caller(&mut self, caller: &Caller) {
        self.record.tenant = Some(caller.tenant());
        self.record.key_id = Some(caller.key_id());
    }

    /// The trail of a response that is one of several on a connection, of which this is the trail.
    pub fn of_response(&self, worker: &Worker, model: Option<&str>) -> Self {
        worker.count_request();
        let began_at = Instant::now();
        let time = worker.wall_clock(began_at);
        let whole = &self.record;
        let mut response = Self {
            record: Record {
                tenant: whole.tenant,
                key_id: whole.key_id,
                account: whole.account,
                egress: whole.egress,
                attempts: whole.attempts,
                chosen: whole.chosen,
                ..blank(whole.request_id, whole.route, time)
            },
            began_at,
            place: None,
        };
        response.note_model(model);
        response
    }

    /// Makes sure that the request can go on record, as far as the operator wants that: every request, or every one of those
    /// whose use is limited.
    ///
    /// # Errors
    /// It cannot.
    pub fn secure(&mut self, worker: &'static Worker, caller: &Caller) -> Result<(), Refusal> {
        let is_metered = || {
            caller
                .allowances(worker)
                .into_iter()
                .any(Allowance::is_metered)
        };
        worker
            .acceptance
            .check(is_metered)
            .map_err(|withheld| match withheld {
                Withheld::Audit => Refusal::AuditUnavailable,
                Withheld::Usage => Refusal::UsageUnavailable,
            })?;
        if worker.acceptance.is_strict() {
            let place = worker.journal.keep_place();
            self.place = Some(place.ok_or(Refusal::AuditUnavailable)?);
        }
        Ok(())
    }

    /// The request's name.
    pub fn request_id(&self) -> &str {
        self.record.request_id.as_str()
    }

    /// The tenant that asks.
    pub fn tenant(&self) -> Option<TenantId> {
        self.record.tenant
    }

    /// For which model.
    pub fn note_model(&mut self, model: Option<&str>) {
        let kept = model.map(|name| &name[..name.floor_char_boundary(MODEL_BYTES_MAX)]);
        if self.record.model.as_deref() != kept {
            self.record.model = kept.map(Into::into);
        }
    }

    /// Who is asked now.
    pub fn note_attempt(&mut self, candidate: &Candidate) {
        self.record.attempts = candidate.attempt;
        self.record.account = Some(candidate.slot.account);
        self.record.egress = Some(candidate.slot.source);
        self.record.chosen = Some(candidate.slot.reason.as_str());
    }

    /// It did not work out.
    pub fn note_failure(&mut self, worker: &Worker, asked: &Asked, failure: &Failure) {
        self.record.failed_status = failure.status().or(self.record.failed_status);
        if matches!(
            failure,
            Failure::Client(_) | Failure::Abandoned(_) | Failure::Shutdown
        ) {
            return;
        }
        worker.journal.report(Report::AttemptFailed {
            account: asked.account,
            kind: failure.kind(),
        });
    }

    /// How long it has waited for an account so far, if it has.
    pub fn note_queued(&mut self, waited: Option<Duration>) {
        self.record.queued = waited;
    }

    /// Accounts asked so far.
    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    /// What the gateway added before the answer's head went out.
    pub fn note_overhead(&mut self, overhead: Duration) {
        self.record.overhead = Some(overhead);
    }

    /// When the answer's first bytes came.
    pub fn note_first_byte(&mut self, at: Instant) {
        self.record.first_byte = Some(at.saturating_duration_since(self.began_at));
    }

    /// What was forwarded.
    pub fn note_transcript(&mut self, transcript: &Transcript) {
        self.record.status = transcript.status;
        self.record.bytes_out = transcript.body_bytes;
        self.record.events = transcript.events;
        self.record.streamed = transcript.streamed;
        self.record.ended = transcript.ending.as_str();
    }

    /// What was charged for it.
    pub fn note_charge(&mut self, charge: &Charge) {
        self.record.charged = true;
        self.record.usage = charge.known.map(|_| charge.used.usage);
        self.record.known = charge.known;
        self.record.cost = charge.used.cost;
    }

    /// Limits that would have refused it, had they not been shadows.
    pub fn note_shadowed(&mut self, shadowed: LimitSet) {
        self.record.shadowed = shadowed;
    }

    /// It was answered by the gateway itself, which nobody is charged for.
    pub fn note_own_answer(&mut self, body_bytes: u64) {
        self.record.status = 200;
        self.record.bytes_out = body_bytes;
        self.record.ended = Ending::Complete.as_str();
    }

    /// The provider's status, where that is not what the client saw.
    pub fn note_failed_status(&mut self, status: u16) {
        self.record.failed_status = Some(status);
    }

    /// Why nothing was forwarded. `is_begun`: the client had seen the head of a stream by then.
    pub fn note_refusal(&mut self, refusal: &Refusal, is_begun: bool) {
        self.record.status = if is_begun {
            EARLY_STATUS
        } else {
            refusal.shape(self.record.attempts).status
        };
        self.record.code = Some(refusal.code());
        self.record.limit = refusal.limit();
        self.record.ended = match refusal {
            Refusal::ClientGone => "client_gone",
            Refusal::ShuttingDown => "shutdown",
            _ if self.record.attempts > 0 => "failed",
            _ => "refused",
        };
    }

    /// What has become of a connection that was no longer one of requests and answers: how many bytes have gone each way, how it
    /// ended, and why the gateway has ended it, if it was a refusal.
    pub fn note_tunnel(
        &mut self,
        [bytes_in, bytes_out]: [u64; 2],
        ended: &'static str,
        code: Option<&'static str>,
        closed: Option<Closed>,
    ) {
        self.record.status = 101;
        self.record.bytes_in = bytes_in;
        self.record.bytes_out = bytes_out;
        self.record.ended = ended;
        self.record.code = code;
        self.record.closed = closed;
    }

    /// The request is over: reports it.
    pub fn close(mut self, worker: &Worker, request: &Request<'_>, ended_at: Instant) {
        self.record.bytes_in += request.body.received_bytes();
        self.report(worker, ended_at);
    }

    /// The same of a response whose bytes are counted with the connection's.
    pub fn report(mut self, worker: &Worker, ended_at: Instant) {
        self.record.duration = ended_at.saturating_duration_since(self.began_at);
        let report = Report::Request(self.record);
        match self.place {
            Some(place) => place.report(report),
            None => worker.journal.report(report),
        }
    }
}
