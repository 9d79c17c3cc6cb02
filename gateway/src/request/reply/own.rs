//! Answers of the gateway's own: refusals, and what it tells of itself.

use super::{AwaitingHead, Break, DRAIN_BYTES_MAX, Done, Reply, Streaming};
use crate::request::Request;
use crate::request::limit::fields::Unit;
use crate::request::refusal::{Refusal, Shape};
use crate::worker::Worker;
use relay_wire::encode::HeadWriter;
use relay_wire::head::Method;
use relay_wire::websocket;
use std::io::IoSlice;
use std::time::Duration;

impl<'c> Reply<'c, AwaitingHead> {
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

    pub(super) fn error_head(
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

    pub(super) async fn send_whole(
        self,
        worker: &Worker,
        head: &[u8],
        body: &[u8],
    ) -> Reply<'c, Done> {
        let body = if self.answers_head { &[][..] } else { body };
        let mut parts = [IoSlice::new(head), IoSlice::new(body)];
        let sent = self
            .client
            .send(&mut parts, worker.policy.timeouts.write_stall)
            .await;
        self.into_state(Done { cut: sent.is_err() })
    }
}

/// `GET /health`, asked by load balancers without a key.
pub fn is_health_check(request: &Request<'_>) -> bool {
    matches!(request.head.method, Method::Get | Method::Head) && request.path() == b"/health"
}
