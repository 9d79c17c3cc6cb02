//! Both ways at once, until one side ends it: what the two ways share, and how the tunnel ends.
//!
//! Each way is the only one that sends to its receiver, so a close of the gateway's own can only be put in where a way stands between
//! two frames and is not just sending. Where it is, it does so itself as soon as it can.

use super::Handshake;
use super::direction::{Direction, Way};
use super::talk::{Place, Talk};
use crate::health::Fault;
use crate::journal::{Closed, ClosedBy};
use crate::request::Request;
use crate::request::audit::Trail;
use crate::request::authenticate::Caller;
use crate::request::egress::Answer;
use crate::request::forward::{self, Ending, OwnFields};
use crate::request::limit::Permit;
use crate::request::meter::{self, Transcript};
use crate::request::refusal::{Refusal, Shape};
use crate::request::reply::{AwaitingHead, Done, Owed, Reply};
use crate::worker::Worker;
use relay_io::{Interrupt, Stream, both};
use relay_wire::websocket::{Violation, close_frame, code, text_frame};
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// How long a side that has been sent a close may take to answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(750);

/// The same of a side that has been passed the other one's close, which may have to read on before it comes to it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How a tunnel has `ended` in which nothing was said for too long.
const IDLE_TIMEOUT: &str = "idle_timeout";

/// Two connections that have become one.
pub(super) struct Tunnel<'t> {
    pub worker: &'static Worker,
    pub client: &'t Stream,
    pub upstream: &'t Stream,
    pub talk: RefCell<Talk<'t>>,
    pub trail: &'t Trail,
    /// From the client, and from the provider.
    pub directions: [Direction; 2],
    /// How it ends, once that is decided.
    end: Cell<Option<End>>,
    /// The close that the gateway sends to both.
    closing: RefCell<Option<Closing>>,
    /// The point in time at which it must be over.
    total_deadline: u64,
    /// The same once the gateway has begun to close it.
    close_deadline: Cell<Option<u64>>,
}

/// How a tunnel ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// What that means for responses that are not over.
    pub ending: Ending,
    /// On record.
    pub name: &'static str,
    /// Why the gateway ends it, if it is a refusal.
    pub code: Option<&'static str>,
    /// Who has closed it, if anybody has.
    pub closed: Option<Closed>,
}

impl End {
    pub(super) fn of(ending: Ending) -> Self {
        Self {
            ending,
            name: ending.as_str(),
            code: None,
            closed: None,
        }
    }
}

impl End {
    /// It lasted as long as it may, or nothing was said for too long.
    pub(super) fn of_deadline(has_lasted_too_long: bool) -> Self {
        let name = if has_lasted_too_long {
            "total_timeout"
        } else {
            IDLE_TIMEOUT
        };
        Self {
            name,
            ..Self::of(Ending::Deadline)
        }
    }

    /// What it says of the account if a response was asked for that is not over. That it was open for long is nobody's fault.
    fn fault(&self) -> Option<Fault> {
        match self.ending {
            Ending::UpstreamBroken => Some(Fault::BrokenOff),
            Ending::Deadline if self.name == IDLE_TIMEOUT => Some(Fault::TimedOut),
            _ => None,
        }
    }
}

/// A close of the gateway's own.
pub(super) struct Closing {
    code: u16,
    reason: String,
    /// What the client is told before it, in the dialect's own form.
    message: Option<String>,
}

/// Tells the client that its provider has agreed, and passes on what either of them says until one of them ends it.
pub async fn tunnel<'c>(
    worker: &'static Worker,
    request: &mut Request<'c>,
    caller: &Caller,
    mut answer: Box<Answer>,
    mut client: Reply<'c, AwaitingHead>,
    permit: Permit,
    trail: &mut Trail,
) -> Reply<'c, Done> {
    client.close_after();
    let client = match client.owed() {
        Owed::All(client) => client,
        // A stream is begun early for those that want one, and nobody does that asks for a WebSocket.
        Owed::Rest(client) => return client.cut(),
    };
    trail.note_first_byte(answer.answered_at);
    let now = Instant::now();
    let overhead = answer.overhead + now.saturating_duration_since(answer.answered_at);
    trail.note_overhead(overhead);
    let own = OwnFields {
        attempts: trail.attempts(),
        overhead,
        standings: permit.standings(now),
    };
    let head = forward::switching_head(worker, request, &answer, &client, &own);
    let must_be_read = request
        .websocket
        .as_ref()
        .is_none_or(Handshake::must_be_read);
    let early = request.body.take_next();
    request.body.let_go();
    request.client.untie();
    let (client, sent) = client.begin(worker, &mut [IoSlice::new(&head)]).await;
    worker.keep_head_buffer(head);
    let mut behind = answer.lease.take();
    behind.consume(answer.head.head_bytes);
    let health = &worker.accounts.health;
    let (account, address) = (answer.slot.account, answer.slot.address);
    let trial = answer.slot.trial.take();
    health.succeeded(account, address, trial, health.clock().now());

    let message_bytes_max = worker.policy.limits.websocket_message_bytes_max;
    let place = Place { account, address };
    let tunnel = Tunnel {
        worker,
        client: request.client,
        upstream: &answer.connection.stream,
        talk: RefCell::new(Talk::new(worker, caller, place, must_be_read)),
        trail,
        directions: Direction::both(message_bytes_max),
        end: Cell::new(None),
        closing: RefCell::new(None),
        total_deadline: request
            .client
            .deadline_at(worker.policy.timeouts.websocket_total),
        close_deadline: Cell::new(None),
    };
    let _open = worker.count_open_stream();
    if sent.is_ok() {
        tunnel.touch();
        both(
            tunnel.pass(Way::FromClient, early),
            tunnel.pass(Way::FromProvider, Some(behind)),
        )
        .await;
    } else {
        tunnel.conclude(End::of(Ending::ClientGone));
    }
    let (end, bytes) = tunnel.over();
    trail.note_tunnel(bytes, end.name, end.code, end.closed);
    trail.note_charge(&meter::settle(
        permit,
        &Transcript::of_tunnel(),
        0,
        Instant::now(),
    ));
    let Answer { connection, .. } = *answer;
    connection.close();
    client.cut()
}

impl Tunnel<'_> {
    /// How it has ended, and how many bytes have gone each way.
    fn over(self) -> (End, [u64; 2]) {
        let end = self.end.get().unwrap_or(End::of(Ending::Complete));
        self.talk.borrow_mut().end(end.ending, end.fault());
        self.client.clear_deadline();
        (end, [0, 1].map(|way: usize| self.directions[way].bytes()))
    }

    /// Decides how it ends. What was decided first counts.
    pub(super) fn conclude(&self, end: End) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
        }
    }

    /// The gateway is about to end it, or one side has.
    pub(super) fn is_ending(&self) -> bool {
        self.end.get().is_some()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// The point in time at which it must be over, once it is being closed. Each send puts the deadline back that was there before
    /// it, which may be one from before the close.
    pub(super) fn close_deadline(&self) -> Option<u64> {
        self.close_deadline.get()
    }

    pub(super) fn has_lasted_too_long(&self) -> bool {
        self.client.has_passed(self.total_deadline)
    }

    /// Nothing is asked for that is not over, and nothing is being said.
    fn is_idle(&self) -> bool {
        self.talk.borrow().is_idle() && self.directions.iter().all(Direction::is_between_messages)
    }

    /// Something has passed: the time without anything begins anew.
    pub(super) fn touch(&self) {
        if self.is_ending() {
            return;
        }
        let is_idle = self.is_idle();
        self.client.set_idle(is_idle);
        if self.worker.is_draining() {
            if is_idle {
                return self.shut_down();
            }
            // At the end of the process whoever is watched can still be told.
            self.upstream.watch_peer();
        }
        let idle_timeout = self.worker.policy.timeouts.websocket_idle;
        for (stream, towards) in [
            (self.client, Way::FromProvider),
            (self.upstream, Way::FromClient),
        ] {
            // While something is sent there, the time in which it must be taken runs.
            if !self.directions[towards as usize].is_sending() {
                stream.set_deadline_within(idle_timeout, self.total_deadline);
            }
        }
    }

    /// One side has sent its close, which was passed on: the other one has a moment to answer it.
    pub(super) fn note_closed(&self, way: Way, code: Option<u16>) {
        let by = match way {
            Way::FromClient => ClosedBy::Client,
            Way::FromProvider => ClosedBy::Provider,
        };
        self.conclude(End {
            closed: Some(Closed {
                by,
                code: code.unwrap_or(code::NO_STATUS),
            }),
            ..End::of(Ending::Complete)
        });
        self.client.set_idle(false);
        match way {
            Way::FromClient => {
                self.upstream.set_deadline(ANSWER_TIMEOUT);
                // Nobody reads from the client any more: whether it is still there only the wheel sees.
                self.client.tie(self.upstream);
            }
            Way::FromProvider => self.client.set_deadline(ANSWER_TIMEOUT),
        }
    }

    /// Ends it for a refusal: the client is told why, in a message and in the close.
    pub(super) fn refuse(&self, refusal: &Refusal) {
        let shape = refusal.shape(0);
        let event = error_event(&shape, self.trail.request_id());
        // What has to be changed before another attempt may do better, and what only takes time.
        let comes_back_soon = shape.retryable;
        let code = if comes_back_soon {
            code::TRY_AGAIN_LATER
        } else {
            code::POLICY_VIOLATION
        };
        let end = End {
            name: "refused",
            code: Some(shape.code),
            ..End::of(Ending::Complete)
        };
        let closing = Closing {
            code,
            reason: format!("{}: {}", shape.code, shape.message),
            message: Some(event.to_string()),
        };
        self.close(end, closing);
    }

    /// Ends it: both sides are sent a close, at once where that can be.
    pub(super) fn close_with(&self, end: End, code: u16, reason: &str) {
        let closing = Closing {
            code,
            reason: reason.to_owned(),
            message: None,
        };
        self.close(end, closing);
    }

    fn close(&self, end: End, closing: Closing) {
        if self.is_closing() {
            return;
        }
        let by = ClosedBy::Gateway;
        self.conclude(End {
            closed: Some(Closed {
                by,
                code: closing.code,
            }),
            ..end
        });
        self.client.set_idle(false);
        self.closing.replace(Some(closing));
        for stream in [self.client, self.upstream] {
            // Where only reading was ended, the reason can still be told.
            stream.forgive_deadline();
            stream.set_deadline(CLOSE_TIMEOUT);
        }
        self.close_deadline
            .set(Some(self.client.deadline_at(CLOSE_TIMEOUT)));
        for way in [Way::FromClient, Way::FromProvider] {
            self.send_close(way);
        }
    }

    /// Sends the gateway's close this way, if there is one and it can be sent now.
    pub(super) fn send_close(&self, way: Way) {
        let direction = &self.directions[way as usize];
        let closing = self.closing.borrow();
        let Some(closing) = closing.as_ref().filter(|_| direction.may_be_closed()) else {
            return;
        };
        direction.note_closed();
        match way {
            // A server's frames go out as they are; those of a client need a mask, whatever it is: these bytes are ours, nobody has
            // chosen them so that something else would be read in them (RFC 6455 section 10.3).
            Way::FromClient => {
                let mask = (self.worker.random_u128() as u32).to_ne_bytes();
                let frame = close_frame(closing.code, &closing.reason, Some(mask));
                self.upstream.send_without_waiting(&[IoSlice::new(&frame)]);
            }
            Way::FromProvider => {
                let message = closing.message.as_deref();
                let message = message.filter(|_| direction.is_between_messages());
                let message = message.map(text_frame).unwrap_or_default();
                let frame = close_frame(closing.code, &closing.reason, None);
                let parts = [IoSlice::new(&message), IoSlice::new(&frame)];
                self.client.send_without_waiting(&parts);
            }
        }
    }

    /// Ends it since somebody has broken the protocol.
    pub(super) fn break_off(&self, violation: Violation) {
        let (code, reason, name) = match violation {
            Violation::Protocol(how) => (code::PROTOCOL_ERROR, how, "websocket_protocol_error"),
            Violation::TooBig => (
                code::TOO_BIG,
                "the message is too large",
                "websocket_message_too_large",
            ),
        };
        let end = End {
            name: "refused",
            code: Some(name),
            ..End::of(Ending::Complete)
        };
        self.close_with(end, code, reason);
    }

    /// Ends it together with the gateway.
    pub(super) fn shut_down(&self) {
        let why = "the gateway is being stopped";
        self.close_with(End::of(Ending::Shutdown), code::GOING_AWAY, why);
    }

    /// The provider is gone without a close.
    pub(super) fn provider_is_gone(&self) {
        let why = "the provider has broken off";
        self.close_with(End::of(Ending::UpstreamBroken), code::INTERNAL_ERROR, why);
    }

    /// The client is gone without a close, as many do when they have what they wanted: the provider hears of it, as far as it can be
    /// told, and is not waited for.
    pub(super) fn client_is_gone(&self, ending: Ending) {
        let ending = match ending {
            Ending::ClientGone if self.is_idle() => Ending::Complete,
            other => other,
        };
        // Nobody has closed it.
        self.conclude(End::of(ending));
        self.close_with(End::of(ending), code::GOING_AWAY, "the client has left");
        for stream in [self.upstream, self.client] {
            stream.interrupter().interrupt(Interrupt::Tied);
        }
    }
}

/// A refusal as a message: what its body would be, and as `headers` those fields of its head by which a client knows whether to
/// come again, and when. Codex reads them there as it reads those of an answer.
fn error_event(shape: &Shape, request_id: &str) -> serde_json::Value {
    let mut event = serde_json::json!({
        "type": "error",
        "status": shape.status,
        "headers": {
            "x-relay-error-source": shape.source.as_str(),
            "x-should-retry": shape.retryable.to_string(),
        },
    });
    if let Some(seconds) = shape.retry_after_seconds {
        event["headers"]["retry-after"] = seconds.to_string().into();
    }
    if let Ok(mut body) = serde_json::from_slice::<serde_json::Value>(&shape.body(request_id)) {
        event["error"] = body["error"].take();
    }
    event
}
