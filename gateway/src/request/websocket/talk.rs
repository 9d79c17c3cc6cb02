//! What is said in a WebSocket of the Responses API: what the client asks for, and what comes of it.
//!
//! A message asks for a response, the provider's messages that follow are its events, as they would be of a stream. Each response is
//! admitted before the last byte of its message goes on, charged when its last event has come, and put on record then.

use crate::config::policy::{AccountId, TenantId};
use crate::health::Fault;
use crate::request::audit::Trail;
use crate::request::authenticate::Caller;
use crate::request::forward::{Ending, fault_of_report};
use crate::request::limit::{self, Permit};
use crate::request::meter::{self, Tariff, Transcript};
use crate::request::refusal::Refusal;
use crate::request::route;
use crate::worker::Worker;
use relay_wire::dialect::{
    ContentCoding, Dialect, MessageObserver, RequestScan, Seen, Terminal, Told,
};
use std::collections::VecDeque;
use std::time::Instant;

/// Responses that may be asked for before the first of them is over. The provider makes one at a time.
const WAITING_MAX: usize = 16;

/// Responses of this connection whose identifiers are remembered: what the client goes on from is nearly always the last one.
const KNOWN_MAX: usize = 16;

const UNREADABLE: &str = "The message must be a JSON object that names its model once, if it does.";

/// The status on record of what the provider has refused to begin. What it says itself is not read.
const REFUSED_STATUS: u16 = 400;

/// One connection's responses.
pub(super) struct Talk<'t> {
    worker: &'static Worker,
    caller: &'t Caller,
    place: Place,
    must_be_read: bool,
    /// Of the client's message that has begun.
    asking: Option<Asking>,
    /// What has been asked for and is not over, in order: the first is what the provider is at.
    waiting: VecDeque<Running>,
    /// What the provider seems to have refused. An error does not say which message it is about: if a response begins though
    /// nothing waits, it is one of these.
    refused: VecDeque<Running>,
    /// The last one that a response was asked of.
    model: Option<Box<str>>,
    observer: MessageObserver,
    known: VecDeque<Box<str>>,
    /// The response that the provider is at has been remembered.
    is_known: bool,
}

/// Where the connection leads to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub account: AccountId,
    /// Which of the account's addresses it was called from.
    pub address: usize,
}

/// A message of the client's, as far as it was read.
struct Asking {
    scan: RequestScan,
    bytes: u64,
}

/// A response that was asked for.
struct Running {
    permit: Permit,
    trail: Trail,
    text_bytes: u64,
    /// It may be referred to on other connections.
    is_stored: bool,
}

impl<'t> Talk<'t> {
    /// `must_be_read`: what cannot be read must not go on.
    pub(super) fn new(
        worker: &'static Worker,
        caller: &'t Caller,
        place: Place,
        must_be_read: bool,
    ) -> Self {
        let event_bytes_max = worker.policy.limits.event_bytes_max;
        Self {
            worker,
            caller,
            place,
            must_be_read,
            asking: None,
            waiting: VecDeque::new(),
            refused: VecDeque::new(),
            model: None,
            observer: MessageObserver::new(Dialect::Responses, event_bytes_max),
            known: VecDeque::new(),
            is_known: false,
        }
    }

    /// Nothing is asked for that is not over.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asking.is_none()
    }

    /// Reads what the client says.
    pub(super) fn hear_client(&mut self, payload: &[u8]) {
        let limits = &self.worker.policy.limits;
        let asking = self.asking.get_or_insert_with(|| Asking {
            scan: RequestScan::new(ContentCoding::Identity, limits.json_depth_max, u64::MAX),
            bytes: 0,
        });
        asking.bytes += payload.len() as u64;
        // The scan keeps its error.
        let _ = asking.scan.feed(payload);
    }

    /// The client's message is over. `whole`: the connection's own trail.
    ///
    /// # Errors
    /// It must not go on.
    pub(super) fn end_of_client(&mut self, whole: &Trail) -> Result<(), Refusal> {
        let Some(Asking { mut scan, bytes }) = self.asking.take() else {
            return Ok(());
        };
        if scan.finish().is_err() {
            // To a provider it mostly means nothing either, but that cannot be known.
            return match self.must_be_read {
                true => Err(Refusal::ModelUnknown(UNREADABLE)),
                false => Ok(()),
            };
        }
        match scan.message_type() {
            Some("response.create") => {}
            Some("response.cancel" | "response.processed") => return Ok(()),
            // What comes of it cannot be known. A response that begins all the same is charged.
            _ if self.must_be_read => return Err(Refusal::MessageNotSupported),
            _ => return Ok(()),
        }
        self.caller.check_expiry()?;
        self.give_up_refused();
        let model = scan.model();
        let (worker, tenant) = (self.worker, self.caller.tenant());
        match model {
            Some(model) => {
                let upstream = worker.policy.account(self.place.account).upstream;
                route::check_model(worker, tenant, upstream, model)?;
            }
            None if self.caller.must_name_model(worker) => {
                return Err(Refusal::ModelUnknown("The message must name its model."));
            }
            None => {}
        }
        self.check_reference(tenant, &scan)?;
        if self.waiting.len() >= WAITING_MAX {
            return Err(Refusal::Overloaded);
        }
        let running = self.admit(whole, &scan, model, bytes)?;
        self.model = model.map(Into::into);
        self.waiting.push_back(running);
        Ok(())
    }

    /// A response that was made here is known here; any other must be one of the tenant's own, at this account.
    fn check_reference(&self, tenant: TenantId, scan: &RequestScan) -> Result<(), Refusal> {
        let Some(id) = scan.previous_response_id().filter(|id| !id.is_empty()) else {
            return Ok(());
        };
        let was_made_here = self.known.iter().any(|known| &**known == id);
        if was_made_here || route::may_have(self.worker, tenant, self.place.account, id) {
            Ok(())
        } else {
            Err(Refusal::ResponseNotFound { in_path: false })
        }
    }

    fn admit(
        &self,
        whole: &Trail,
        scan: &RequestScan,
        model: Option<&str>,
        text_bytes: u64,
    ) -> Result<Running, Refusal> {
        let tariff = Tariff::of_message(self.worker, scan, model, text_bytes);
        Ok(Running {
            text_bytes,
            is_stored: scan.stores_response(),
            ..self.begin(whole, model, tariff)?
        })
    }

    fn begin(
        &self,
        whole: &Trail,
        model: Option<&str>,
        tariff: Tariff,
    ) -> Result<Running, Refusal> {
        let (worker, caller) = (self.worker, self.caller);
        let mut trail = whole.of_response(worker, model);
        let admitted = trail.secure(worker, caller).and_then(|()| {
            let admitted = limit::admit_further(worker, caller)?;
            limit::reserve_by(worker, caller, admitted, tariff, Instant::now())
        });
        match admitted {
            Ok(permit) => {
                trail.note_shadowed(permit.shadowed());
                Ok(Running {
                    permit,
                    trail,
                    text_bytes: 0,
                    is_stored: true,
                })
            }
            Err(refusal) => {
                trail.note_refusal(&refusal, false);
                trail.report(worker, Instant::now());
                Err(refusal)
            }
        }
    }

    /// Reads what the provider says.
    pub(super) fn hear_provider(&mut self, payload: &[u8]) {
        self.observer.observe(payload);
    }

    /// The provider's message is over. `whole`: the connection's own trail.
    ///
    /// # Errors
    /// It was a response's last, and with it the tenant has used all that it may use; or a response has begun that was not asked
    /// for and may not be: nothing may follow.
    pub(super) fn end_of_provider(&mut self, whole: &Trail) -> Result<(), Refusal> {
        let told = self.observer.end_message();
        if let Some(seen) = self.observer.take_earlier() {
            self.settle_earlier(&seen);
        }
        if self.waiting.is_empty()
            && (self.observer.response_id().is_some() || matches!(told, Told::Over(_)))
        {
            let unasked = self.unasked(whole)?;
            self.waiting.push_back(unasked);
        }
        self.remember();
        if self.observer.messages() == 1
            && let Some(running) = self.waiting.front_mut()
        {
            running.trail.note_first_byte(Instant::now());
        }
        match told {
            Told::Nothing => Ok(()),
            Told::Over(terminal) => {
                self.learn(terminal);
                if let Some(mut running) = self.waiting.pop_front() {
                    if let Some(model) = self.observer.model() {
                        running.permit.was_answered_by(self.worker, model);
                    }
                    self.settle(running, Ending::Complete, true);
                }
                self.start_over();
                limit::used_up(self.worker, self.caller).map_or(Ok(()), Err)
            }
            Told::Failure => {
                self.note_failure();
                Ok(())
            }
        }
    }

    /// What the response belongs to that has begun though nothing waits: to what seems to have been refused, or to nothing that
    /// is known.
    fn unasked(&mut self, whole: &Trail) -> Result<Running, Refusal> {
        if let Some(running) = self.refused.pop_front() {
            return Ok(running);
        }
        let model = self.model.as_deref();
        self.begin(whole, model, Tariff::of_unasked(self.worker, model))
    }

    /// A response was followed by another one without an event that is known to end it.
    fn settle_earlier(&mut self, seen: &Seen) {
        self.is_known = false;
        if let Some(running) = self.waiting.pop_front() {
            let transcript = Transcript {
                events: seen.events,
                usage: seen.usage,
                estimated_output_tokens: seen.estimated_output_tokens,
                ..self.transcript(Ending::Unfinished, false)
            };
            self.close(running, &transcript);
        }
    }

    /// What seems to have been refused has been.
    fn give_up_refused(&mut self) {
        while let Some(running) = self.refused.pop_front() {
            let transcript = Transcript {
                status: REFUSED_STATUS,
                events: 1,
                usage: None,
                estimated_output_tokens: 0,
                ..self.transcript(Ending::Complete, false)
            };
            self.close(running, &transcript);
        }
    }

    /// Something has failed. Where a response has begun it goes on until it says itself that it is over, and what was refused is
    /// what was asked for last; else it is what was to begin; or it was about a message that has asked for nothing.
    fn note_failure(&mut self) {
        let has_begun = self.observer.response_id().is_some();
        let refused = match has_begun {
            true if self.waiting.len() > 1 => self.waiting.pop_back(),
            true => None,
            false => self.waiting.pop_front(),
        };
        if !has_begun {
            self.learn(Terminal::Failed);
        }
        self.refused.extend(refused);
        if !has_begun {
            self.start_over();
        }
    }

    /// The connection is over, and what was asked for in it is not. `fault`: what that says of the account.
    pub(super) fn end(&mut self, ending: Ending, fault: Option<Fault>) {
        if let Some(fault) = fault.filter(|_| !self.waiting.is_empty()) {
            let health = &self.worker.accounts.health;
            let now = health.clock().now();
            let Place { account, address } = self.place;
            let random = self.worker.random_fraction();
            health.failed(account, address, None, fault, now, random);
        }
        self.give_up_refused();
        while let Some(running) = self.waiting.pop_front() {
            self.settle(running, ending, false);
            self.start_over();
        }
    }

    fn settle(&self, running: Running, ending: Ending, is_final: bool) {
        self.close(running, &self.transcript(ending, is_final));
    }

    /// What is known of the response that the provider is at.
    fn transcript(&self, ending: Ending, is_final: bool) -> Transcript {
        let observer = &self.observer;
        Transcript {
            ending,
            status: 200,
            body_bytes: 0,
            events: observer.messages(),
            usage: observer.usage(),
            is_final,
            estimated_output_tokens: observer.estimated_output_tokens(),
            streamed: true,
        }
    }

    /// Charges for a response and puts it on record.
    fn close(&self, running: Running, transcript: &Transcript) {
        let Running {
            permit,
            mut trail,
            text_bytes,
            ..
        } = running;
        trail.note_transcript(transcript);
        let ended_at = Instant::now();
        trail.note_charge(&meter::settle(permit, transcript, text_bytes, ended_at));
        trail.report(self.worker, ended_at);
    }

    fn start_over(&mut self) {
        self.observer.start_over();
        self.is_known = false;
    }

    /// Keeps the identifier of the response that the provider is at, as soon as it is known: the client may refer to it.
    fn remember(&mut self) {
        let Some(id) = self.observer.response_id().filter(|_| !self.is_known) else {
            return;
        };
        self.is_known = true;
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(id.into());
        if self
            .waiting
            .front()
            .is_some_and(|running| running.is_stored)
        {
            let tenant = &self.worker.policy.tenant(self.caller.tenant()).name;
            let affinity = &self.worker.accounts.affinity;
            affinity.learn(tenant, id.as_bytes(), self.place.account);
        }
    }

    /// Tells the account's health how a response has ended.
    fn learn(&self, terminal: Terminal) {
        let health = &self.worker.accounts.health;
        let now = health.clock().now();
        let Place { account, address } = self.place;
        // Whatever was reported on the way was about something else if the response is complete.
        let reported = self
            .observer
            .failure()
            .filter(|_| terminal == Terminal::Failed);
        match reported.and_then(|report| fault_of_report(&report, None, now)) {
            Some(fault) => {
                let random = self.worker.random_fraction();
                health.failed(account, address, None, fault, now, random);
            }
            None => health.succeeded(account, address, None, now),
        }
    }
}
