//! What happens to one request, from top to bottom.
//!
//! ```text
//! serve ─┬─ reach: authenticate → admit → read body → candidates → reserve → loop { open a candidate, or the next one }
//!        ├─ forward: the answer's head, then its body as it comes      (only with an answer in hand)
//!        ├─ tunnel: both ways at once, until one side ends it           (only where that answer opens a WebSocket)
//!        ├─ settle the limits, or refuse in the one error model        (only without)
//!        └─ close the trail: one record of what happened
//! ```
//!
//! `reach` is only lent the client's reply, which answers nobody but its owner: whatever is tried again, the client has not seen a
//! byte of an answer. While a request waits for an account it may let its client hear that the stream is coming, and no more (`Early`).
//! `forward` does not hold the candidates, so once it runs nothing is tried again.
//!
//! `.await` moves a future to where it is kept, and moves it again to take it over: all of its bytes, most of which mean nothing yet.
//! On the path of every request what is large is therefore made where it stays (`pin!`), and what is seldom needed is boxed, so that
//! it is no part of what surrounds it.

pub mod audit;
pub mod authenticate;
pub mod body;
pub mod egress;
pub mod forward;
pub mod limit;
pub mod meter;
pub mod own_usage;
pub mod refusal;
pub mod reply;
pub mod route;
pub mod websocket;

use crate::connections::Inbound;
use crate::worker::Worker;
use audit::Trail;
use authenticate::Caller;
use body::RequestBody;
use egress::Answer;
use limit::Permit;
use refusal::Refusal;
use relay_io::Stream;
use relay_wire::dialect::Dialect;
use relay_wire::head::RequestHead;
use reply::{AwaitingHead, Done, Reply};
use std::pin::pin;
use std::time::Instant;
use websocket::Handshake;

/// A request as it stands when its head has been read.
pub struct Request<'c> {
    /// The connection it came on; the rest of its body is still to be read from there.
    pub client: &'c Stream,
    /// That connection as it is counted.
    pub inbound: &'c Inbound,
    /// The parsed head; its spans are places in `head_bytes()`.
    pub head: RequestHead,
    /// What it speaks, by its path.
    pub dialect: Dialect,
    /// Its name in logs, answers and errors.
    pub id: reply::RequestId,
    /// When the last byte of the head was read.
    pub received_at: Instant,
    /// When as much of the body was there as was waited for. Rates and breakers take it for now, which saves them the clock:
    /// between `read_body` and the first account that is looked for nothing may be awaited.
    pub held_at: Instant,
    /// The body, read as far as needed.
    pub body: RequestBody<'c>,
    /// It asks for a WebSocket, and may have one.
    pub websocket: Option<Handshake>,
}

impl Request<'_> {
    /// The bytes that the head's spans point into.
    pub fn head_bytes(&self) -> &[u8] {
        self.body.head_bytes()
    }

    /// The first field of this name (lower case).
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.head.value(self.head_bytes(), name)
    }

    /// The path, without the query.
    pub fn path(&self) -> &[u8] {
        self.head.path.of(self.head_bytes())
    }

    /// Where its provider looks for the model. Gemini's take it from the path alone, whatever the body says.
    pub fn names_model_in_body(&self) -> bool {
        self.dialect != Dialect::Gemini
    }

    /// Reads the body as far as needed to choose an account and to send it more than once. `model_needed`: whether the
    /// request is allowed depends on its model, wherever that stands.
    async fn read_body(
        &mut self,
        worker: &'static Worker,
        model_needed: bool,
    ) -> Result<(), Refusal> {
        let is_waited_for = !self.body.is_complete();
        let in_body = model_needed && self.names_model_in_body();
        pin!(self.body.hold(worker, in_body)).await?;
        if is_waited_for {
            self.held_at = Instant::now();
        }
        Ok(())
    }
}

/// Serves one request: reaches a provider and forwards its answer, or refuses.
pub async fn serve<'c>(
    worker: &'static Worker,
    request: &mut Request<'c>,
    mut client: Reply<'c, AwaitingHead>,
) -> Reply<'c, Done> {
    if reply::is_health_check(request) {
        return Box::pin(client.answer_health_check(worker, request)).await;
    }
    if own_usage::is_asked_for(request) {
        return Box::pin(own_usage::answer(worker, request, client)).await;
    }
    let mut trail = audit::open(worker, request);
    request.client.watch_peer();
    let reached = pin!(reach(worker, request, &mut client, &mut trail)).await;
    let (done, ended_at) = match reached {
        Ok((caller, permit, answer)) if answer.opens_tunnel() => {
            let tunnel =
                websocket::tunnel(worker, request, &caller, answer, client, permit, &mut trail);
            // What it needs for its two ways is no part of what every connection needs.
            let done = Box::pin(tunnel).await;
            (done, Instant::now())
        }
        Ok((_, permit, answer)) => {
            let (done, transcript) = pin!(forward::forward(
                worker, request, answer, client, &permit, &mut trail
            ))
            .await;
            trail.note_transcript(&transcript);
            let body_bytes = request.body.received_bytes();
            let ended_at = Instant::now();
            trail.note_charge(&meter::settle(permit, &transcript, body_bytes, ended_at));
            (done, ended_at)
        }
        Err(refusal) => {
            trail.note_refusal(&refusal, client.is_begun());
            let done = Box::pin(client.refuse(worker, request, &refusal, trail.attempts())).await;
            (done, Instant::now())
        }
    };
    request.client.unwatch_peer();
    request.client.untie();
    trail.close(worker, request, ended_at);
    done
}

/// Finds somebody who answers: a tenant that may ask, a place in its limits and what it will use, an account that is free, and an
/// upstream that begins a usable answer. As long as it runs, the client has seen nothing of an answer.
async fn reach(
    worker: &'static Worker,
    request: &mut Request<'_>,
    client: &mut Reply<'_, AwaitingHead>,
    trail: &mut Trail,
) -> Result<(Caller, Permit, Box<Answer>), Refusal> {
    let caller = authenticate::authenticate(worker, request)?;
    trail.note_caller(&caller);
    trail.note_model(route::model_so_far(request));
    trail.secure(worker, &caller)?;
    request.websocket = websocket::asked_for(worker, request, &caller)?;
    // A block of its own: where what it makes of `admitted` is kept, that is no more.
    let (mut candidates, permit) = {
        let admitted = limit::admit(worker, request, &caller)?;
        trail.note_shadowed(admitted.shadowed());
        pin!(request.read_body(worker, caller.must_name_model(worker))).await?;
        let model = route::model(worker, &caller, request)?;
        trail.note_model(model);
        let candidates = route::candidates(worker, &caller, request, model)?;
        let permit = limit::reserve(worker, request, &caller, admitted, model)?;
        (candidates, permit)
    };
    trail.note_shadowed(permit.shadowed());
    let mut early = client.early();
    loop {
        let mut candidate = pin!(candidates.next(worker, request, &mut early, trail)).await?;
        let asked = candidate.asked();
        trail.note_attempt(&candidate);
        let opened = pin!(egress::open(worker, request, candidate)).await;
        match opened {
            Ok(answer) => {
                let answer = candidates.answered(worker, asked, answer);
                return Ok((caller, permit, answer));
            }
            Err(failure) => {
                trail.note_failure(worker, &asked, &failure);
                let unpassed = failure.unpassed();
                if let Err(refusal) = candidates.after(asked, failure, worker, request) {
                    if let Some(unpassed) = unpassed {
                        let body_bytes = request.body.received_bytes();
                        let charge = meter::settle_unpassed(permit, unpassed, body_bytes);
                        trail.note_charge(&charge);
                    }
                    return Err(refusal);
                }
            }
        }
    }
}
