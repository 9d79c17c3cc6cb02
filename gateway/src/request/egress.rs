//! Calling the provider: a connection from the account's own address, the request with the account's credential, and the
//! beginning of an answer that is worth forwarding.

mod commit;
pub(crate) mod connect;
pub(crate) mod error_answer;
mod failure;
pub(crate) mod head;
mod retry_time;

pub use failure::{Failure, Reset};
pub use head::{connection_values, names_field};
pub use retry_time::Told;

use super::Request;
use super::body::Interrupted;
use super::meter::{Observer, Unpassed};
use super::refusal::{Refusal, UpgradeRefusal};
use super::route::Candidate;
use super::websocket;
use crate::accounts::Slot;
use crate::config::policy::UpstreamId;
use crate::tls::Offer;
use crate::upstreams::Connection;
use crate::worker::{HeldBytes, Worker};
use connect::Wanted;
use relay_io::{Interrupt, IoError, Lease, Received, Stream};
use relay_wire::body::{BodyParser, Sender};
use relay_wire::dialect::{Dialect, Edit, RequestScan};
use relay_wire::head::{FramingError, Method, ResponseHead};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Informational answers that are skipped before the final one (RFC 9110 section 15.2); more are a storm.
pub(crate) const INFORMATIONAL_MAX: u32 = 8;

/// A stream begins soon where all is well, so whoever only tries an account does not wait for it as long as for others.
const TRIAL_TIMEOUT_MAX: Duration = Duration::from_secs(15);

/// Times that a request is repeated at once which the provider has not begun with, by its own word.
const REPEATS_MAX: u32 = 3;

/// An answer whose head, and of a stream as much as decides whether it is worth forwarding, have been read; nothing of it was
/// sent to the client yet. Boxed where it is handed on: it goes through many hands, and is large.
pub struct Answer {
    /// The head; its spans point into `lease`.
    pub head: ResponseHead,
    /// The head, and the part of the body that was read with it.
    pub lease: Lease,
    /// What was read behind `lease` before the stream's first output, oldest first: to be forwarded after it, as it is. The
    /// parser has seen none of the body; the observer of a stream has seen all that is in `lease` and here, and that of
    /// another answer nothing.
    pub held: Vec<Lease>,
    /// Counts that for as long as it waits: for output to come, and then for the client to take it.
    pub held_bytes: HeldBytes,
    /// Finds the end of the body; stands behind the head.
    pub parser: BodyParser,
    /// Looks at the body as it passes.
    pub observer: Observer,
    /// The upstream it comes from.
    pub upstream: UpstreamId,
    /// Its dialect is not known, so nothing is known of how its streams end.
    pub is_opaque: bool,
    /// The connection it comes on.
    pub connection: Connection,
    /// The account's place, kept until the answer is over.
    pub slot: Slot,
    /// Its usage was asked for by the gateway and not by the client, which is not to see it.
    pub hides_usage: bool,
    /// All of the request was sent before the answer came; otherwise the connection cannot serve another one.
    pub request_was_sent: bool,
    /// What the gateway itself took until the request was sent.
    pub overhead: Duration,
    /// When as much of the request was sent as goes out before an answer.
    pub asked_at: Instant,
    /// When its head had come.
    pub head_at: Instant,
    /// When it was found worth forwarding: a stream mostly at its first output, unless that was long in coming
    /// (`observer.progress()` tells), another answer with its head.
    pub answered_at: Instant,
}

impl Answer {
    /// From here on both sides speak WebSocket.
    pub fn opens_tunnel(&self) -> bool {
        self.head.status == 101
    }

    /// A stream in which a chunk with the usage is to be expected that its client does not expect.
    pub fn has_hidden_usage(&self) -> bool {
        self.hides_usage && self.observer.is_stream()
    }
}

/// Asks the candidate.
///
/// Not an `async fn`: it would keep the candidate twice, and so would all that waits for it.
///
/// # Errors
/// See `Failure`. The client has seen nothing then.
#[expect(clippy::manual_async_fn, reason = "see above")]
pub fn open(
    worker: &'static Worker,
    request: &mut Request<'_>,
    candidate: Candidate,
) -> impl Future<Output = Result<Box<Answer>, Failure>> {
    async move {
        let account = worker.policy.account(candidate.slot.account);
        let upstream = worker.policy.upstream(candidate.upstream);
        let mut buffer = worker.head_buffer();
        let asks_for_usage = upstream.include_usage && request.dialect == Dialect::ChatCompletions;
        let edit = asks_for_usage
            .then(|| request.body.usage_request_edit())
            .flatten();
        head::write_head(
            &mut buffer,
            worker,
            request,
            &candidate,
            upstream,
            edit.as_ref(),
        );
        // HTTP/2 has no upgrade of this kind (RFC 9113 section 8.6).
        let offer = match &request.websocket {
            Some(_) => Offer::Http1,
            None => Offer::Configured,
        };
        let mut wanted = Wanted {
            offer,
            behind: None,
        };
        let mut repeats = 0;
        let outcome = loop {
            let (connection, waited) =
                match pin!(connect::connect(worker, request.client, &candidate, wanted)).await {
                    Ok(connected) => connected,
                    Err(failure) => break Err(failure),
                };
            request.client.tie(&connection.stream);
            let message = Message {
                head: head::with_credential(&buffer, upstream, account),
                edit,
            };
            let asked = pin!(ask(worker, request, &candidate, &connection, &message)).await;
            match asked {
                Ok(begun) => {
                    let overhead = begun
                        .asked_at
                        .saturating_duration_since(candidate.since + waited);
                    break Ok((begun, connection, overhead));
                }
                Err(Failure::Broken)
                    if repeats < connection.repeats_max(REPEATS_MAX)
                        && request.body.can_be_sent_again() =>
                {
                    repeats += 1;
                    // What other connections will take is not known either, but that of a new one.
                    let is_last = repeats == REPEATS_MAX;
                    wanted.behind = Some(if is_last {
                        u64::MAX
                    } else {
                        connection.number()
                    });
                    connection.close();
                }
                Err(failure) => break Err(connection.explain(failure)),
            }
        };
        worker.keep_head_buffer(buffer);
        let (begun, connection, overhead) = outcome?;
        check_opening(request, &begun)?;
        if error_answer::is_error_status(begun.head.status) {
            return Err(Box::pin(error_answer::read(worker, request, begun, connection)).await);
        }
        let first_event_timeout = patience(worker.policy.timeouts.first_event, request, &candidate);
        let hides_usage = edit.is_some();
        let mut answer = answer_begun(
            worker,
            request,
            begun,
            connection,
            candidate,
            hides_usage,
            overhead,
        );
        if answer.observer.is_stream() {
            let committed = pin!(commit::await_commit(
                worker,
                request,
                &mut answer,
                first_event_timeout
            ))
            .await;
            committed.map_err(|failure| {
                let failure = answer.connection.explain(failure);
                failure.when_asked(answer.observer.unpassed())
            })?;
            answer.answered_at = Instant::now();
        }
        Ok(answer)
    }
}

/// A request as this upstream is sent it.
struct Message<'m> {
    head: [&'m [u8]; 4],
    /// What changes in the body.
    edit: Option<Edit>,
}

/// How long is waited for what begins an answer, by the time-out that goes for everybody.
fn patience(timeout: Duration, request: &Request<'_>, candidate: &Candidate) -> Duration {
    let wants_stream = request.body.said().is_some_and(RequestScan::stream);
    shortened(timeout, candidate.is_trial, wants_stream)
}

fn shortened(timeout: Duration, is_trial: bool, wants_stream: bool) -> Duration {
    if is_trial && wants_stream {
        timeout.min(TRIAL_TIMEOUT_MAX)
    } else {
        timeout
    }
}

/// An answer's head and what came with it.
struct Begun {
    head: ResponseHead,
    lease: Lease,
    request_was_sent: bool,
    asked_at: Instant,
}

/// Sends the request and reads the head of its answer.
async fn ask(
    worker: &'static Worker,
    request: &mut Request<'_>,
    candidate: &Candidate,
    connection: &Connection,
    message: &Message<'_>,
) -> Result<Begun, Failure> {
    let upstream = &connection.stream;
    let unsent = |client: &Stream, error| connection.explain_unsent(broken(client, error));
    let mut lease = worker.pool.small();
    let Message { head, edit } = message;
    let sent = pin!(
        request
            .body
            .send_held(worker, upstream, head, edit.as_ref())
    )
    .await;
    let mut request_was_sent = match sent {
        Ok(()) => request.body.is_complete(),
        // Where the upstream takes no more, it has perhaps said why.
        Err(IoError::Socket(_)) => false,
        Err(error) => return Err(unsent(request.client, &error)),
    };
    let asked_at = Instant::now();
    let mut informational = 0;
    loop {
        if !request.body.is_complete() && lease.is_empty() {
            let is_response = request.dialect == Dialect::Responses;
            let is_stored_there = |id: &str| !is_response || candidate.may_have(worker, id);
            let passed_on = request.body.pass_on(worker, upstream, is_stored_there);
            match Box::pin(passed_on).await {
                Ok(()) => request_was_sent = true,
                Err(Interrupted::EarlyAnswer | Interrupted::Upstream(IoError::Socket(_))) => {}
                Err(Interrupted::Upstream(error)) => return Err(unsent(request.client, &error)),
                Err(Interrupted::Client(refusal)) => return Err(Failure::Client(refusal)),
            }
        }
        let head_timeout = worker.policy.timeouts.response_head;
        upstream.set_deadline(patience(head_timeout, request, candidate));
        let head = pin!(read_head(worker, request, upstream, &mut lease)).await;
        let head = head.map_err(|failure| {
            if request_was_sent {
                failure.when_asked(Unpassed::default())
            } else {
                failure
            }
        })?;
        upstream.clear_deadline();
        let opens_tunnel = head.status == 101 && request.websocket.is_some();
        if head.status >= 200 || opens_tunnel {
            return Ok(Begun {
                head,
                lease,
                request_was_sent,
                asked_at,
            });
        }
        // 101 would hand the connection over to a protocol that nobody asked for.
        informational += 1;
        if head.status == 101 || informational > INFORMATIONAL_MAX {
            return Err(Failure::Unexpected);
        }
        lease.consume(head.head_bytes);
    }
}

async fn read_head(
    worker: &Worker,
    request: &Request<'_>,
    upstream: &Stream,
    lease: &mut Lease,
) -> Result<ResponseHead, Failure> {
    let is_head_request = request.head.method == Method::Head;
    loop {
        if !lease.is_empty() {
            match ResponseHead::parse(lease.filled(), &worker.head_limits, is_head_request) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => return Err(Failure::Malformed(error)),
            }
        }
        if lease.spare_bytes() == 0 {
            *lease = lease.take().widen();
        }
        let (received, filled) = pin!(upstream.read(lease.take())).await;
        *lease = filled;
        match received {
            Ok(Received::Bytes(_)) => {}
            Ok(Received::End) if lease.is_empty() => return Err(Failure::Broken),
            Ok(Received::End) => return Err(Failure::Malformed(FramingError::Malformed)),
            Err(error) => return Err(broken(request.client, &error)),
        }
    }
}

/// Does the answer say what there was to agree on, where a WebSocket is to be opened?
fn check_opening(request: &Request<'_>, begun: &Begun) -> Result<(), Failure> {
    let status = begun.head.status;
    if status == 101 && !websocket::is_agreed(request, &begun.head, begun.lease.filled()) {
        return Err(Failure::Unexpected);
    }
    // It says nothing of how requests go, which may do well where no WebSocket is opened.
    if request.websocket.is_some() && status != 101 && !websocket::may_be_tried_again(status) {
        return Err(Failure::Client(Refusal::Upgrade(
            UpgradeRefusal::NotOffered,
        )));
    }
    Ok(())
}

/// The answer as it stands when its head has been read.
fn answer_begun(
    worker: &'static Worker,
    request: &Request<'_>,
    begun: Begun,
    connection: Connection,
    candidate: Candidate,
    hides_usage: bool,
    overhead: Duration,
) -> Box<Answer> {
    let Begun {
        head,
        lease,
        request_was_sent,
        asked_at,
    } = begun;
    let limits = &worker.policy.limits;
    let content_type = head.value(lease.filled(), "content-type");
    let is_encoded = head.value(lease.filled(), "content-encoding").is_some();
    let observer = if is_encoded || head.status == 101 || head.status >= 300 {
        Observer::blind()
    } else {
        Observer::new(
            request.dialect,
            content_type,
            limits.event_bytes_max,
            limits.json_depth_max,
        )
    };
    let parser = BodyParser::new(head.framing, Sender::Upstream);
    let head_at = Instant::now();
    Box::new(Answer {
        head,
        lease,
        held: Vec::new(),
        held_bytes: worker.hold_nothing(),
        parser,
        observer,
        upstream: candidate.upstream,
        is_opaque: matches!(request.dialect, Dialect::Opaque | Dialect::Gemini),
        connection,
        slot: candidate.slot,
        hides_usage,
        request_was_sent,
        overhead,
        asked_at,
        head_at,
        answered_at: head_at,
    })
}

/// What an error on the upstream's connection means: its own time-out, its end, ours, or that the client has left.
fn broken(client: &Stream, error: &IoError) -> Failure {
    match error {
        IoError::Interrupted(Interrupt::Deadline) => Failure::Timeout,
        IoError::Interrupted(Interrupt::Shutdown) => Failure::Shutdown,
        IoError::Interrupted(Interrupt::Tied) => match client.interrupted() {
            Some(Interrupt::Shutdown) => Failure::Shutdown,
            Some(Interrupt::Deadline) => Failure::Client(Refusal::BodyTooSlow),
            _ => Failure::Client(Refusal::ClientGone),
        },
        _ => Failure::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trial_of_a_stream_is_given_less_time() {
        let (long, short) = (Duration::from_secs(60), Duration::from_secs(3));
        for (timeout, is_trial, wants_stream, wanted) in [
            (long, true, true, TRIAL_TIMEOUT_MAX),
            (short, true, true, short),
            (long, true, false, long),
            (long, false, true, long),
            (long, false, false, long),
        ] {
            let found = shortened(timeout, is_trial, wants_stream);
            assert_eq!(found, wanted, "{timeout:?}, {is_trial}, {wants_stream}");
        }
    }
}
