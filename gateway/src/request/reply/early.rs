//! A stream that is begun before there is an answer, so that a client whose request waits does not give up.

use super::{AwaitingHead, Reply, RequestId, write_connection_field};
use crate::config::policy::UpstreamId;
use crate::request::Request;
use crate::request::refusal::Refusal;
use crate::worker::Worker;
use relay_io::Stream;
use relay_wire::dialect::RequestScan;
use relay_wire::encode::HeadWriter;
use relay_wire::head::Version;
use std::io::IoSlice;
use std::time::{Duration, Instant};

/// The status that the client of such a stream sees, whatever comes of it.
pub const EARLY_STATUS: u16 = 200;

/// The right to begin a stream while there is no answer. It cannot do anything else to the reply: neither answer, nor refuse,
/// nor end it.
///
/// ```
/// # use codex_relay::{config::policy::UpstreamId, request::{Request, refusal::Refusal, reply::Early}, worker::Worker};
/// async fn wait(
///     early: &mut Early<'_>,
///     worker: &Worker,
///     request: &Request<'_>,
/// ) -> Result<(), Refusal> {
///     early.begin_if_due(worker, request, UpstreamId(0)).await
/// }
/// ```
///
/// It cannot end the reply:
///
/// ```compile_fail,E0599
/// # use codex_relay::request::reply::{Done, Early, Reply};
/// fn end<'c>(early: Early<'c>) -> Reply<'c, Done> {
///     early.complete()
/// }
/// ```
///
/// Nor write a head of its own:
///
/// ```compile_fail,E0599
/// # use codex_relay::{request::reply::{Early, Reply, Streaming}, worker::Worker};
/// # use std::io::IoSlice;
/// async fn begin<'c>(
///     early: Early<'c>,
///     worker: &Worker,
///     parts: &mut [IoSlice<'_>],
/// ) -> Reply<'c, Streaming> {
///     early.begin(worker, parts).await.0
/// }
/// ```
///
/// And it is over before the reply is answered:
///
/// ```compile_fail,E0505
/// # use codex_relay::{config::policy::UpstreamId, request::{Request, reply::{AwaitingHead, Owed, Reply}}, worker::Worker};
/// async fn answer<'c>(
///     mut reply: Reply<'c, AwaitingHead>,
///     worker: &Worker,
///     request: &Request<'_>,
/// ) -> Owed<'c> {
///     let mut early = reply.early();
///     let owed = reply.owed();
///     let _ = early.begin_if_due(worker, request, UpstreamId(0)).await;
///     owed
/// }
/// ```
pub struct Early<'r> {
    client: &'r Stream,
    request_id: RequestId,
    version: Version,
    answers_head: bool,
    keep_alive: &'r mut bool,
    is_begun: &'r mut bool,
    waits_since: Option<Instant>,
}

impl<'r> Early<'r> {
    pub(super) fn new(reply: &'r mut Reply<'_, AwaitingHead>) -> Self {
        Self {
            client: reply.client,
            request_id: reply.request_id,
            version: reply.version,
            answers_head: reply.answers_head,
            keep_alive: &mut reply.keep_alive,
            is_begun: &mut reply.state.is_begun,
            waits_since: None,
        }
    }

    /// To be called again and again while the request waits for an account of `upstream`. Once it has waited for as long as the
    /// client is to hear nothing, the stream that it wants is begun, if a heartbeat can be sent in it; from then on heartbeats go
    /// out by themselves until the reply is answered.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn begin_if_due(
        &mut self,
        worker: &Worker,
        request: &Request<'_>,
        upstream: UpstreamId,
    ) -> Result<(), Refusal> {
        let every = worker.policy.timeouts.heartbeat;
        if *self.is_begun || every == Duration::ZERO || !self.wants_stream(request) {
            return Ok(());
        }
        let now = Instant::now();
        let waits_since = *self.waits_since.get_or_insert(now);
        if now.saturating_duration_since(waits_since) < every {
            return Ok(());
        }
        let is_chunked = self.version == Version::Http11;
        let Some(heartbeat) = worker.heartbeats.of(request.dialect, is_chunked) else {
            return Ok(());
        };
        *self.is_begun = true;
        *self.keep_alive &= is_chunked && !worker.is_draining();
        let mut bytes = worker.head_buffer();
        let set = worker.policy.headers.response(upstream).set();
        let head = Head {
            version: self.version,
            keep_alive: *self.keep_alive,
            request_id: self.request_id.as_str(),
            set,
        };
        head.write(&mut bytes);
        let mut parts = [IoSlice::new(&bytes), IoSlice::new(heartbeat)];
        let stall_timeout = worker.policy.timeouts.write_stall;
        let sent = self.client.send(&mut parts, stall_timeout).await;
        worker.keep_head_buffer(bytes);
        if sent.is_err() {
            return Err(Refusal::ClientGone);
        }
        self.client.arm_heartbeat(heartbeat, every);
        Ok(())
    }

    /// Of a body that is not complete the client still expects to send the rest, perhaps to be invited to; only then is it told
    /// how the answer begins.
    fn wants_stream(&self, request: &Request<'_>) -> bool {
        !self.answers_head
            && request.body.is_complete()
            && request.body.said().is_some_and(RequestScan::stream)
    }
}

/// The head of a stream of which nothing else is known.
struct Head<'h> {
    version: Version,
    keep_alive: bool,
    request_id: &'h str,
    /// What the operator adds to every answer of this upstream.
    set: &'h [(String, String)],
}

impl Head<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut head = HeadWriter::response(out, EARLY_STATUS);
        head.known("content-type", "text/event-stream");
        for (name, value) in self.set {
            if !name.eq_ignore_ascii_case("content-type") {
                head.known(name, value);
            }
        }
        if self.version == Version::Http11 {
            head.known("transfer-encoding", "chunked");
        }
        head.known("x-request-id", self.request_id);
        head.known("x-relay-request-id", self.request_id);
        write_connection_field(&mut head, self.version, self.keep_alive);
        head.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_promises_a_stream_and_no_more() {
        let set = [
            ("X-Accel-Buffering".to_owned(), "no".to_owned()),
            ("Content-Type".to_owned(), "text/plain".to_owned()),
        ];
        let mut out = b"left over".to_vec();
        let mut written = |version, keep_alive| {
            let head = Head {
                version,
                keep_alive,
                request_id: "req-1",
                set: &set,
            };
            head.write(&mut out);
            String::from_utf8(out.clone()).unwrap()
        };
        let start =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nX-Accel-Buffering: no\r\n";
        let ids = "x-request-id: req-1\r\nx-relay-request-id: req-1\r\n";
        let chunked = "transfer-encoding: chunked\r\n";
        assert_eq!(
            written(Version::Http11, true),
            format!("{start}{chunked}{ids}\r\n")
        );
        assert_eq!(
            written(Version::Http11, false),
            format!("{start}{chunked}{ids}connection: close\r\n\r\n")
        );
        // The end of the connection is the end of the body, which this version takes for granted.
        assert_eq!(written(Version::Http10, false), format!("{start}{ids}\r\n"));
    }
}
