//! The client's end of a request: what may be sent to it, and when.
//!
//! Each step of a reply consumes it: no answer yet (`AwaitingHead`); nothing sent (`Unsent`), or the head is out and the body
//! follows (`Streaming`); over (`Done`). A second head, or a body without one, cannot be written. While there is no answer yet
//! a stream may be begun with [`Early`], which can do nothing else; whoever has an answer then must ask what is `Owed`.

mod early;
mod id;
mod own;
mod unparsed;

pub use early::{EARLY_STATUS, Early};
pub use id::RequestId;
pub use own::is_health_check;

use super::Request;
use super::refusal::Shape;
use crate::worker::Worker;
use relay_io::{IoError, Stream};
use relay_wire::dialect::Dialect;
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, HeadWriter, chunk_size_line};
use relay_wire::head::{Method, Version};
use std::io::IoSlice;
use std::pin::pin;
use std::time::Duration;

/// Bytes of a refused request's body that are read and thrown away, so that the connection can go on or the answer is
/// not lost to a reset (limits.md: an early answer drains at most 64 KiB, else closes).
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// How long a connection that is being closed waits for its client to have read the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client is still owed.
///
/// ```
/// # use codex_relay::{request::reply::{Done, Reply, Unsent}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn answer<'c>(
///     unsent: Reply<'c, Unsent>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Done> {
///     let (streaming, _) = unsent.begin(worker, parts).await;
///     streaming.complete()
/// }
/// ```
///
/// It cannot be begun twice:
///
/// ```compile_fail,E0382
/// # use codex_relay::{request::reply::{Done, Reply, Unsent}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn answer<'c>(
///     unsent: Reply<'c, Unsent>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Done> {
///     unsent.begin(worker, parts).await;
///     let (streaming, _) = unsent.begin(worker, parts).await;
///     streaming.complete()
/// }
/// ```
///
/// Nor again once its head is out:
///
/// ```compile_fail,E0599
/// # use codex_relay::{request::reply::{Done, Reply, Unsent}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn answer<'c>(
///     unsent: Reply<'c, Unsent>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Done> {
///     let (streaming, _) = unsent.begin(worker, parts).await;
///     let (streaming, _) = streaming.begin(worker, parts).await;
///     streaming.complete()
/// }
/// ```
///
/// Nor as long as nobody has asked whether its head is out already:
///
/// ```compile_fail,E0599
/// # use codex_relay::{request::reply::{AwaitingHead, Reply, Streaming}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn answer<'c>(
///     awaiting: Reply<'c, AwaitingHead>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Streaming> {
///     let (streaming, _) = awaiting.begin(worker, parts).await;
///     streaming
/// }
/// ```
///
/// It cannot be completed before it was begun:
///
/// ```compile_fail,E0599
/// # use codex_relay::{request::reply::{Done, Reply, Unsent}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn answer<'c>(
///     unsent: Reply<'c, Unsent>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Done> {
///     unsent.complete()
/// }
/// ```
pub struct Reply<'c, State> {
    client: &'c Stream,
    request_id: RequestId,
    version: Version,
    answers_head: bool,
    keep_alive: bool,
    state: State,
}

/// There is no answer yet.
pub struct AwaitingHead {
    /// A stream was begun early: its head is out, and perhaps heartbeats.
    is_begun: bool,
}

/// Nothing was sent.
pub struct Unsent;

/// What a client is still owed of an answer.
pub enum Owed<'c> {
    /// All of it.
    All(Reply<'c, Unsent>),
    /// What follows the head: a stream was begun early.
    Rest(Reply<'c, Streaming>),
}

/// The head is out, the body follows.
pub struct Streaming;

/// Everything that will be sent was sent.
pub struct Done {
    /// What was sent is visibly not all: the connection is cut.
    cut: bool,
}

impl<'c> Reply<'c, AwaitingHead> {
    /// The reply that this request is owed.
    pub fn new(request: &Request<'c>) -> Self {
        Self {
            client: request.client,
            request_id: request.id,
            version: request.head.version,
            answers_head: request.head.method == Method::Head,
            keep_alive: request.head.keep_alive,
            state: AwaitingHead { is_begun: false },
        }
    }

    /// For as long as there is no answer: the right to begin a stream without one.
    pub fn early(&mut self) -> Early<'_> {
        Early::new(self)
    }

    /// A stream was begun early: the client has seen its head.
    pub fn is_begun(&self) -> bool {
        self.state.is_begun
    }

    /// There is an answer: what of it does the client still get?
    pub fn owed(self) -> Owed<'c> {
        self.client.disarm_heartbeat();
        if self.state.is_begun {
            Owed::Rest(self.into_state(Streaming))
        } else {
            Owed::All(self.into_state(Unsent))
        }
    }
}

impl<'c> Reply<'c, Unsent> {
    /// Sends the head of a forwarded answer together with the part of its body that is already there.
    ///
    /// # Errors
    /// The client is gone or takes nothing.
    pub async fn begin(
        self,
        worker: &Worker,
        parts: &mut [IoSlice<'_>],
    ) -> (Reply<'c, Streaming>, Result<(), IoError>) {
        let stall_timeout = worker.policy.timeouts.write_stall;
        let sent = pin!(self.client.send(parts, stall_timeout)).await;
        (self.into_state(Streaming), sent)
    }
}

/// Why a stream ends before its end.
pub struct Break<'t> {
    /// For programs.
    pub code: &'t str,
    /// For people.
    pub message: &'t str,
    /// The member of the request that it is about.
    pub param: Option<&'t str>,
}

impl<'t> Break<'t> {
    fn of(shape: &'t Shape) -> Self {
        Self {
            code: shape.code,
            message: &shape.message,
            param: shape.param,
        }
    }
}

impl<'c> Reply<'c, Streaming> {
    /// The client's connection.
    pub fn client(&self) -> &'c Stream {
        self.client
    }

    /// Ends a stream that was begun early and has had nothing but heartbeats: says why in the dialect's own form, if it has one,
    /// and leaves out what would make it look complete.
    pub async fn break_off(
        self,
        worker: &Worker,
        dialect: Dialect,
        why: &Break<'_>,
    ) -> Reply<'c, Done> {
        let id = self.request_id.as_str();
        if let Some(event) = dialect.error_event(why.code, why.message, why.param, id) {
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let mut parts = chunk(&event, self.version == Version::Http11, &mut line);
            let stall_timeout = worker.policy.timeouts.write_stall;
            // A client that does not take it sees the break all the same.
            let _ = self.client.send(&mut parts, stall_timeout).await;
        }
        self.cut()
    }

    /// All of the answer was sent.
    pub fn complete(self) -> Reply<'c, Done> {
        self.into_state(Done { cut: false })
    }

    /// Not all of it was sent, and that must be seen.
    pub fn cut(self) -> Reply<'c, Done> {
        self.into_state(Done { cut: true })
    }
}

impl<'c> Reply<'c, Done> {
    /// Another request may be read from this connection.
    pub fn connection_goes_on(&self) -> bool {
        self.keep_alive && !self.state.cut
    }

    /// Closes the connection: visibly early where the answer was cut, and otherwise not before the client had time to
    /// read it (RFC 9112 section 9.6).
    pub async fn close(self, worker: &Worker, request: Request<'_>) {
        if self.state.cut {
            // In chunked framing the missing last chunk tells it; where the connection's end is the body's end only a
            // reset does.
            if self.version == Version::Http10 {
                self.client.reset_on_close();
            }
            return;
        }
        if request.body.is_complete() && !request.body.has_next() {
            return;
        }
        linger(worker, self.client).await;
    }
}

impl<'c, State> Reply<'c, State> {
    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// This connection will serve no further request.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// `Connection`, where it has to be said.
    pub fn connection_field(&self, head: &mut HeadWriter<'_>) {
        write_connection_field(head, self.version, self.keep_alive);
    }

    fn into_state<Next>(self, state: Next) -> Reply<'c, Next> {
        Reply {
            client: self.client,
            request_id: self.request_id,
            version: self.version,
            answers_head: self.answers_head,
            keep_alive: self.keep_alive,
            state,
        }
    }
}

/// Says that nothing more comes, and reads what the client still sends, for a moment: a close with unread bytes would
/// reset the connection and could take the answer with it.
async fn linger(worker: &Worker, client: &Stream) {
    client.finish_sending();
    client.set_deadline(LINGER_TIMEOUT);
    let mut drained_bytes = 0;
    while drained_bytes < DRAIN_BYTES_MAX {
        match client.receive(&worker.pool).await {
            Ok(Some(lease)) => drained_bytes += lease.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// `Connection`, where it differs from what the client's version takes for granted (RFC 9112 section 9.3).
fn write_connection_field(head: &mut HeadWriter<'_>, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (Version::Http11, true) | (Version::Http10, false) => {}
        (Version::Http11, false) => head.known("connection", "close"),
        (Version::Http10, true) => head.known("connection", "keep-alive"),
    }
}

/// One event as it goes out, in a chunk of its own where the client is sent chunks.
pub fn chunk<'l>(
    event: &'l [u8],
    is_chunked: bool,
    line: &'l mut [u8; CHUNK_SIZE_LINE_MAX],
) -> [IoSlice<'l>; 3] {
    if !is_chunked {
        return [IoSlice::new(&[]), IoSlice::new(event), IoSlice::new(&[])];
    }
    let taken = chunk_size_line(event.len(), line);
    [
        IoSlice::new(&line[CHUNK_SIZE_LINE_MAX - taken..]),
        IoSlice::new(event),
        IoSlice::new(b"\r\n"),
    ]
}
