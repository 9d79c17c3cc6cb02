//! The client's end of a request: what may be sent to it, and when.
//!
//! Each step of a reply consumes it: no answer yet (`AwaitingHead`); nothing sent (`Unsent`), or the head is out and the body
//! follows (`Streaming`); over (`Done`). A second head, or a body without one, cannot be written. While there is no answer yet
//! a stream may be begun with [`Early`], which can do nothing else; whoever has an answer then must ask what is `Owed`.

mod early;
mod id;
mod unparsed;

pub use early::{EARLY_STATUS, Early};
pub use id::RequestId;

use super::Request;
use super::limit::fields::Unit;
use super::refusal::{Refusal, Shape};
use crate::worker::Worker;
use relay_io::{IoError, Stream};
use relay_wire::dialect::Dialect;
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, HeadWriter, chunk_size_line};
use relay_wire::head::{Method, Version};
use relay_wire::websocket;
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

    /// Refuses the request in the one error model; in a stream that was begun early, by an event and a visible break.
    ///
    /// ```
    /// # use codex_relay::request::{Request, refusal::Refusal, reply::{AwaitingHead, Done, Reply, Streaming}};
    /// # use codex_relay::worker::Worker;
    /// async fn refuse<'c>(
    ///     reply: Reply<'c, AwaitingHead>,
    ///     worker: &'static Worker,
    ///     request: &mut Request<'_>,
    /// ) -> Reply<'c, Done> {
    ///     reply.refuse(worker, request, &Refusal::KeyMissing, 0).await
    /// }
    /// ```
    ///
    /// What the client has seen the end of cannot be refused any more:
    ///
    /// ```compile_fail,E0599
    /// # use codex_relay::request::{Request, refusal::Refusal, reply::{AwaitingHead, Done, Reply, Streaming}};
    /// # use codex_relay::worker::Worker;
    /// async fn refuse<'c>(
    ///     reply: Reply<'c, Done>,
    ///     worker: &'static Worker,
    ///     request: &mut Request<'_>,
    /// ) -> Reply<'c, Done> {
    ///     reply.refuse(worker, request, &Refusal::KeyMissing, 0).await
    /// }
    /// ```
    ///
    /// Nor what it has seen the beginning of:
    ///
    /// ```compile_fail,E0599
    /// # use codex_relay::request::{Request, refusal::Refusal, reply::{AwaitingHead, Done, Reply, Streaming}};
    /// # use codex_relay::worker::Worker;
    /// async fn refuse<'c>(
    ///     reply: Reply<'c, Streaming>,
    ///     worker: &'static Worker,
    ///     request: &mut Request<'_>,
    /// ) -> Reply<'c, Done> {
    ///     reply.refuse(worker, request, &Refusal::KeyMissing, 0).await
    /// }
    /// ```
    pub async fn refuse(
        mut self,
        worker: &'static Worker,
        request: &mut Request<'_>,
        refusal: &Refusal,
        attempts: u32,
    ) -> Reply<'c, Done> {
        self.client.disarm_heartbeat();
        if matches!(refusal, Refusal::ClientGone) {
            return self.into_state(Done { cut: true });
        }
        if self.state.is_begun {
            let shape = refusal.shape(attempts);
            return self
                .into_state(Streaming)
                .break_off(worker, request.dialect, &Break::of(&shape))
                .await;
        }
        // The answer may wait as long as its client likes to let it: what the client has sent does not wait with it.
        request.body.let_go();
        // What is left of the body is read only where that is certain to be little.
        let drained =
            !refusal.ends_connection() && request.body.drain(worker, DRAIN_BYTES_MAX).await;
        self.client.forgive_deadline();
        self.keep_alive &= drained && !worker.is_draining();
        let shape = refusal.shape(attempts);
        let body = shape.body(self.request_id.as_str());
        let head = self.error_head(&shape, body.len(), attempts, request.received_at.elapsed());
        self.send_whole(worker, &head, &body).await
    }

    fn error_head(
        &self,
        shape: &Shape,
        body_bytes: usize,
        attempts: u32,
        elapsed: Duration,
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let mut head = HeadWriter::response(&mut bytes, shape.status);
        head.known("content-type", "application/json");
        head.number("content-length", body_bytes as u64);
        head.known("x-request-id", self.request_id.as_str());
        head.known("x-relay-request-id", self.request_id.as_str());
        head.known("x-relay-error-source", shape.source.as_str());
        head.known(
            "x-should-retry",
            if shape.retryable { "true" } else { "false" },
        );
        head.number("x-relay-attempts", u64::from(attempts));
        if attempts == 0 {
            head.number("x-relay-overhead-us", elapsed.as_micros() as u64);
        }
        if let Some(seconds) = shape.retry_after_seconds {
            head.number("retry-after", u64::from(seconds));
        }
        if let Some(methods) = shape.allow {
            head.known("allow", methods);
        }
        if let Some(exceeded) = &shape.exceeded
            && let Some(unit) = Unit::of(exceeded.limit)
        {
            unit.write(&mut head, &exceeded.standing);
        }
        match shape.upgrade {
            Some(protocol) => self.upgrade_fields(&mut head, protocol),
            None => self.connection_field(&mut head),
        }
        head.finish();
        bytes
    }

    /// `Upgrade` stands for this hop alone, which `Connection` has to say (RFC 9110 section 7.8).
    fn upgrade_fields(&self, head: &mut HeadWriter<'_>, protocol: &str) {
        head.known("upgrade", protocol);
        if protocol == "websocket" {
            head.known("sec-websocket-version", websocket::VERSION);
        }
        let connection = if self.keep_alive {
            "upgrade"
        } else {
            "upgrade, close"
        };
        head.known("connection", connection);
    }

    /// The fixed answer of `/health`.
    pub async fn answer_health_check(
        self,
        worker: &'static Worker,
        request: &mut Request<'_>,
    ) -> Reply<'c, Done> {
        self.answer(worker, request, &worker.health_body()).await
    }

    /// An answer of the gateway's own: JSON, as it is now.
    pub async fn answer(
        self,
        worker: &'static Worker,
        request: &mut Request<'_>,
        body: &str,
    ) -> Reply<'c, Done> {
        let mut reply = self;
        request.body.let_go();
        let drained = request.body.drain(worker, DRAIN_BYTES_MAX).await;
        reply.client.forgive_deadline();
        reply.keep_alive &= drained && !worker.is_draining();
        let mut bytes = Vec::with_capacity(256);
        let mut head = HeadWriter::response(&mut bytes, 200);
        head.known("content-type", "application/json");
        head.number("content-length", body.len() as u64);
        head.known("cache-control", "no-store");
        head.known("x-request-id", reply.request_id.as_str());
        head.known("x-relay-request-id", reply.request_id.as_str());
        reply.connection_field(&mut head);
        head.finish();
        reply.send_whole(worker, &bytes, body.as_bytes()).await
    }

    async fn send_whole(self, worker: &Worker, head: &[u8], body: &[u8]) -> Reply<'c, Done> {
        let body = if self.answers_head { &[][..] } else { body };
        let mut parts = [IoSlice::new(head), IoSlice::new(body)];
        let sent = self
            .client
            .send(&mut parts, worker.policy.timeouts.write_stall)
            .await;
        self.into_state(Done { cut: sent.is_err() })
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

/// `GET /health`, asked by load balancers without a key.
pub fn is_health_check(request: &Request<'_>) -> bool {
    matches!(request.head.method, Method::Get | Method::Head) && request.path() == b"/health"
}
