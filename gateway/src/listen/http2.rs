//! One HTTP/2 connection of a client: taking its streams, and ending it.
//!
//! Each stream becomes a connection in memory, on which its one request is served as on any other connection (`stream`). Here
//! stands what belongs to the whole: its limits and the watch over its frames, how long it may do nothing, and its end, before
//! which the client is told which streams were taken (GOAWAY).

mod session;
mod stream;

use crate::connections::Inbound;
use crate::worker::drain::DrainSleeper;
use crate::worker::protocols::{FloodKind, Protocol, StreamEnd};
use crate::worker::{ClientPlace, Worker};
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use relay_io::{Duplex, DuplexHandle, Ending, Lease, Stream};
use relay_wire::http2::{Flood, HEADER_BLOCK_BYTES_MAX};
use session::Session;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a client begins with that knows of HTTP/2 without having been told (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of one stream that wait in the protocol to be sent: what is on its way to a client that does not read.
const SEND_BUFFER_BYTES: usize = 32 * 1024;

/// Streams of one connection that have to be reset since the client breaks the protocol's rules, before it is ended.
const ERROR_RESETS_MAX: usize = 128;

/// What a field counts in a list of header fields besides its name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// The pseudo-header fields of a request (RFC 9113 section 8.3.1), which are no fields of a head.
const PSEUDO_FIELDS_MAX: usize = 4;

/// How long streams are still taken after the client was told that none should come: those that were on their way.
const GRACE: Duration = Duration::from_secs(1);

/// How long a connection that is being closed waits for its client to have read the last of it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The same where the client has earned no patience.
const CUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Could these bytes, the first on a connection, be the beginning of HTTP/2?
pub fn begins_with(bytes: &[u8]) -> bool {
    let shorter = bytes.len().min(PREFACE.len());
    bytes[..shorter] == PREFACE[..shorter]
}

/// Serves the connection until either side ends it. `begun`: what was read of it already.
pub async fn run(
    worker: &'static Worker,
    stream: Stream,
    begun: Option<Lease>,
    inbound: Inbound,
    place: ClientPlace,
) {
    worker.note_protocol(Protocol::Http2, stream.is_secured());
    let session = Session::new(worker, inbound, place);
    let stall_timeout = worker.policy.timeouts.write_stall;
    let (duplex, handle) =
        Duplex::over(stream, begun, &worker.pool, stall_timeout, session.watch());
    let was_orderly = serve(worker, &session, duplex, &handle).await;
    if handle.ending() == Some(Ending::Panicked) {
        worker.note_panic();
    }
    let within = if was_orderly {
        LINGER_TIMEOUT
    } else {
        CUT_TIMEOUT
    };
    handle.close(within).await;
}

/// Serves it. `false`: the client has broken rules.
async fn serve(
    worker: &'static Worker,
    session: &Rc<Session>,
    duplex: Duplex,
    handle: &DuplexHandle,
) -> bool {
    handle.set_deadline(worker.policy.timeouts.request_head);
    handle.stream().set_idle(true);
    let mut handshake = pin!(settings(worker).handshake(duplex));
    let begun = poll_fn(|context| match handle.poll_ended(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => handshake.as_mut().poll(context).map(Result::ok),
    });
    let Some(connection) = begun.await else {
        if let Some(flood) = session.flood() {
            note(worker, flood);
        }
        return false;
    };
    let mut served = Served {
        worker,
        session,
        handle,
        connection,
        drain: DrainSleeper::new(worker),
        phase: Phase::Open,
        clock: Clock::Head(0),
        is_busy: false,
    };
    match poll_fn(|context| served.poll(context)).await {
        Last::Finish(reason) => {
            served.finish(reason).await;
            reason == Reason::NO_ERROR
        }
        Last::Over(error) => {
            if error.as_ref().is_some_and(is_flood) {
                worker.note_flood(FloodKind::Protocol);
            }
            error.is_none()
        }
    }
}

/// Counts what the watch did not let pass; what the client is told of it.
fn note(worker: &Worker, flood: Flood) -> Reason {
    if flood == Flood::NotHttp2 {
        // RFC 9113 section 3.4: not too much, but the wrong thing.
        return Reason::PROTOCOL_ERROR;
    }
    worker.note_flood(FloodKind::Frames(flood));
    Reason::ENHANCE_YOUR_CALM
}

/// The protocol's own bounds were reached.
fn is_flood(error: &h2::Error) -> bool {
    error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
}

fn settings(worker: &Worker) -> Builder {
    let limits = &worker.policy.limits;
    let header_list_bytes_max =
        header_list_bytes_max(limits.head_bytes_max, limits.head_fields_max);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams_max)
        .initial_window_size(limits.http2_stream_window_bytes)
        .initial_connection_window_size(limits.http2_connection_window_bytes)
        .max_header_list_size(header_list_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        // All at once may be reset because a provider fails, while clients are still sending.
        .max_concurrent_reset_streams(2 * limits.http2_streams_max as usize)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX));
    builder
}

/// The largest list of header fields that is decoded. It is also what the client is told, though less may be taken of any one
/// request (RFC 9113 section 6.5.2): half as much again as what the limits let through, so that who is a little over them is
/// refused in the one error model (`request_head`), but no more than the watch lets through, since a list that is encoded is not
/// longer. What is larger than that is answered with a bare 431 by the protocol.
fn header_list_bytes_max(head_bytes_max: usize, head_fields_max: usize) -> u32 {
    let overhead_bytes = FIELD_OVERHEAD_BYTES * (head_fields_max + PSEUDO_FIELDS_MAX);
    let bytes = 3 * (head_bytes_max + overhead_bytes) / 2;
    u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .min(HEADER_BLOCK_BYTES_MAX)
}

/// A connection on which streams are taken.
struct Served<'s> {
    worker: &'static Worker,
    session: &'s Rc<Session>,
    handle: &'s DuplexHandle,
    connection: Connection<Duplex, Bytes>,
    drain: DrainSleeper,
    phase: Phase,
    clock: Clock,
    is_busy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client was told at this time that no streams should come any more.
    Leaving(Instant),
    /// Nothing is received any more.
    Shut,
}

impl Phase {
    /// Does a stream come too late? Not where nothing is received any more: it had come before.
    fn refuses_streams(self) -> bool {
        match self {
            Self::Open | Self::Shut => false,
            Self::Leaving(since) => since.elapsed() >= GRACE,
        }
    }
}

/// What the connection's deadline stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    None,
    /// No stream is open.
    Idle,
    /// No stream is open, and the client was told not to open any.
    Grace,
    /// A block of header fields is not complete, which began then.
    Head(u64),
}

/// How a connection comes to its end.
enum Last {
    /// Nothing more is to be done here: the client is told so, for this reason.
    Finish(Reason),
    /// It is over, for whatever reason.
    Over(Option<h2::Error>),
}

impl Served<'_> {
    /// Takes the streams that have come, and waits for what must be done besides.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Last> {
        self.session.sleep(context);
        self.handle.begin_turn(self.session.turn_bytes());
        loop {
            if let Some(reason) = self.must_finish(context) {
                return Poll::Ready(Last::Finish(reason));
            }
            if self.phase == Phase::Open && self.drain.poll(context).is_ready() {
                self.connection.graceful_shutdown();
                self.phase = Phase::Leaving(Instant::now());
            }
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond, context),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Last::Over(Some(error))),
                Poll::Ready(None) => return Poll::Ready(Last::Over(None)),
                Poll::Pending => return self.settle(),
            }
        }
    }

    /// Must the connection end, whatever is open on it?
    fn must_finish(&mut self, context: &mut Context<'_>) -> Option<Reason> {
        if let Some(flood) = self.session.flood() {
            return Some(note(self.worker, flood));
        }
        let Poll::Ready(ending) = self.handle.poll_ended(context) else {
            return None;
        };
        match ending {
            Ending::Deadline if matches!(self.clock, Clock::Head(_)) => {
                self.session.note_slow_head();
                Some(Reason::ENHANCE_YOUR_CALM)
            }
            // A stream that was begun at the last moment is still served.
            Ending::Shut | Ending::Deadline => {
                self.phase = Phase::Shut;
                None
            }
            // The protocol finds out by itself, and tells all streams.
            Ending::Peer
            | Ending::Refused
            | Ending::Stalled
            | Ending::Interrupted(_)
            | Ending::Failed(_)
            | Ending::Panicked => None,
        }
    }

    /// All that has come was looked at: for what is there to wait now, and for how long?
    fn settle(&mut self) -> Poll<Last> {
        let is_busy = self.connection.has_streams() || self.session.has_streams();
        if !is_busy && self.phase == Phase::Shut {
            return Poll::Ready(Last::Finish(Reason::NO_ERROR));
        }
        let clock = match self.session.unfinished_head_since() {
            Some(since_ms) => Clock::Head(since_ms),
            None if is_busy => Clock::None,
            None if self.phase == Phase::Open => Clock::Idle,
            None => Clock::Grace,
        };
        let stream = self.handle.stream();
        stream.set_idle(!is_busy && self.phase == Phase::Open);
        if clock != self.clock {
            self.clock = clock;
            let timeouts = &self.worker.policy.timeouts;
            match clock {
                Clock::None => self.handle.clear_deadline(),
                Clock::Idle => self.handle.set_deadline(timeouts.keep_alive_idle),
                Clock::Grace => self.handle.set_deadline(GRACE),
                Clock::Head(_) => self.handle.set_deadline(timeouts.request_head),
            }
        }
        if is_busy != self.is_busy {
            self.is_busy = is_busy;
            // As long as somebody waits for an answer: that the client has left is noticed even where nothing is received,
            // and the end of the process lets it come to its end.
            if is_busy {
                stream.watch_peer();
            } else {
                stream.unwatch_peer();
            }
        }
        Poll::Pending
    }

    fn begin(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        context: &mut Context<'_>,
    ) {
        if respond.poll_reset(context).is_ready() {
            return self.worker.note_stream_end(StreamEnd::ResetByClient);
        }
        if self.phase.refuses_streams() || self.session.is_full() {
            // Nothing was done for it: the client may send it again (RFC 9113 section 8.7).
            respond.send_reset(Reason::REFUSED_STREAM);
            return self.worker.note_stream_end(StreamEnd::Refused);
        }
        stream::begin(self.session, request, respond);
    }

    /// Tells the client why the connection ends, and that it does so now.
    async fn finish(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
        // What can be said is said at once; nothing is waited for.
        poll_fn(|context| {
            let _ = self.connection.poll_closed(context);
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_come_before_the_end_is_served() {
        assert!(!Phase::Open.refuses_streams());
        assert!(!Phase::Shut.refuses_streams());
        let now = Instant::now();
        assert!(!Phase::Leaving(now).refuses_streams());
        let before = now.checked_sub(GRACE).expect("a clock that has run");
        assert!(Phase::Leaving(before).refuses_streams());
    }

    #[test]
    fn what_a_client_is_told_that_it_may_send_is_no_flood_and_more_than_the_limits_let_through() {
        assert_eq!(header_list_bytes_max(32 << 10, 100), 54_144);
        // The largest that can be configured.
        let (head_bytes, head_fields) = (65_535, 1_000);
        let announced = header_list_bytes_max(head_bytes, head_fields);
        assert_eq!(announced, HEADER_BLOCK_BYTES_MAX);
        assert!(announced as usize > head_bytes + 32 * (head_fields + 4));
    }

    #[test]
    fn any_beginning_of_the_preface_may_become_one() {
        assert!((0..=PREFACE.len()).all(|bytes| begins_with(&PREFACE[..bytes])));
        assert!(begins_with(&[PREFACE, b"and more"].concat()));
        assert!(!begins_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"));
        assert!(!begins_with(b"POST / HTTP/1.1\r\n"));
    }
}
