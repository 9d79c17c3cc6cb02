//! `[kernel]`, `[timeouts]`, `[limits]` and `[log]`: each knob with its bounds and its default.

use super::super::forms::{AbsolutePath, Output, Text};
use super::super::units::{Auto, Bytes, GIB, HOUR, KIB, MIB, MINUTE, MS, Period, SECOND};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the kernel enforces: connections of an account leave from its own addresses and from no
/// other, and nobody has more connections than the cap.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Kernel {
    /// `required`: the gateway does not start without it; `auto`: as far as it can be had;
    /// `off`: the kernel is left alone.
    pub(in crate::config) mode: KernelMode,
    /// The gateway's own cgroup (v2), made if it is missing; without it, `codex-relay` below that in
    /// which the gateway was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) cgroup: Option<Text<AbsolutePath>>,
    /// Where programs and maps are pinned: a directory on a bpffs, made if it is missing.
    pub(in crate::config) bpffs: Text<AbsolutePath>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            mode: KernelMode::default(),
            cgroup: None,
            bpffs: Text("/sys/fs/bpf/codex-relay".into()),
        }
    }
}

/// Whether the kernel is used.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum KernelMode {
    /// The gateway does not start without it.
    Required,
    /// As far as it can be had; user space does the rest.
    #[default]
    Auto,
    /// The kernel is left alone.
    Off,
}

/// How long things may take.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// From the first byte of a request head to its last.
    pub(in crate::config) request_head: Period<{ 10 * MS }, { 10 * MINUTE }>,
    /// Between two reads of a request body.
    pub(in crate::config) request_body_idle: Period<{ 10 * MS }, HOUR>,
    /// The whole request body.
    pub(in crate::config) request_body_total: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// The TLS handshake of a client, from the connection on.
    pub(in crate::config) tls_handshake: Period<{ 10 * MS }, { 10 * MINUTE }>,
    /// Between two requests on a client connection.
    pub(in crate::config) keep_alive_idle: Period<{ 10 * MS }, HOUR>,
    /// A write, to either side, that makes no progress.
    pub(in crate::config) write_stall: Period<{ 10 * MS }, HOUR>,
    /// Waiting for streams at shutdown; `0s` waits for the last one.
    pub(in crate::config) drain: Period<0, { 24 * HOUR }>,
    /// TCP connect to an upstream.
    pub(in crate::config) upstream_connect: Period<{ 10 * MS }, MINUTE>,
    /// The TLS handshake with an upstream, behind the TCP connect.
    pub(in crate::config) upstream_tls: Period<{ 10 * MS }, MINUTE>,
    /// From the last byte of the request to the head of the response.
    pub(in crate::config) response_head: Period<{ 10 * MS }, HOUR>,
    /// From the head of a stream to its first event.
    pub(in crate::config) first_event: Period<{ 10 * MS }, HOUR>,
    /// Between two reads of a stream.
    pub(in crate::config) event_idle: Period<{ 10 * MS }, HOUR>,
    /// A whole answer that is not a stream.
    pub(in crate::config) answer_total: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// A whole stream.
    pub(in crate::config) stream_total: Period<{ 10 * MS }, { 168 * HOUR }>,
    /// An upstream connection without a request, until it is closed.
    pub(in crate::config) pool_idle: Period<{ 10 * MS }, HOUR>,
    /// An upstream connection since it was opened; each one varies by up to 20 %.
    pub(in crate::config) pool_age: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// Silence of an upstream after which a harmless event is sent to the client, in dialects that
    /// have one; `0s`: never.
    pub(in crate::config) heartbeat: Period<0, { 10 * MINUTE }>,
    /// From the end of a request on: after this, no further account is asked.
    pub(in crate::config) retry: Period<{ 10 * MS }, HOUR>,
    /// Waiting for an account while all of them are busy; `0s`: not at all.
    pub(in crate::config) queue: Period<0, { 10 * MINUTE }>,
    /// The beginning of a stream is held back until its first output, for so long at most, so that an overload
    /// that is reported only then still leads to another account; `0s`: not at all.
    pub(in crate::config) commit: Period<0, MINUTE>,
    /// A WebSocket on which neither side has sent anything.
    pub(in crate::config) websocket_idle: Period<{ 10 * MS }, { 24 * HOUR }>,
    /// A whole WebSocket.
    pub(in crate::config) websocket_total: Period<{ 10 * MS }, { 168 * HOUR }>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_head: Period::ms(10 * SECOND),
            request_body_idle: Period::ms(15 * SECOND),
            request_body_total: Period::ms(300 * SECOND),
            tls_handshake: Period::ms(10 * SECOND),
            keep_alive_idle: Period::ms(60 * SECOND),
            write_stall: Period::ms(30 * SECOND),
            drain: Period::ms(300 * SECOND),
            upstream_connect: Period::ms(3 * SECOND),
            upstream_tls: Period::ms(5 * SECOND),
            response_head: Period::ms(60 * SECOND),
            first_event: Period::ms(180 * SECOND),
            event_idle: Period::ms(120 * SECOND),
            answer_total: Period::ms(600 * SECOND),
            stream_total: Period::ms(3_600 * SECOND),
            pool_idle: Period::ms(55 * SECOND),
            pool_age: Period::ms(10 * MINUTE),
            heartbeat: Period::ms(15 * SECOND),
            retry: Period::ms(90 * SECOND),
            queue: Period::ms(10 * SECOND),
            commit: Period::ms(5 * SECOND),
            websocket_idle: Period::ms(5 * MINUTE),
            websocket_total: Period::ms(HOUR),
        }
    }
}

/// How large things may be.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Bytes of a request or response head.
    pub(in crate::config) head_bytes_max: Bytes<KIB, 65_535>,
    /// Fields of a head.
    #[schemars(range(min = 8, max = 1_000))]
    pub(in crate::config) head_fields_max: usize,
    /// Bytes of a request target.
    pub(in crate::config) target_bytes_max: Bytes<64, 65_535>,
    /// Bytes of a request body.
    pub(in crate::config) body_bytes_max: Bytes<KIB, { 16 * GIB }>,
    /// Bytes of a request body that are kept so that it can be sent again to another account;
    /// a longer body is sent to one account only.
    pub(in crate::config) retry_body_bytes_max: Bytes<0, GIB>,
    /// Bytes of a request body after decoding, where it is compressed.
    pub(in crate::config) decoded_body_bytes_max: Bytes<KIB, { 64 * GIB }>,
    /// Bytes of all request bodies held at one time, per worker.
    pub(in crate::config) held_body_bytes_max: Bytes<MIB, { 64 * GIB }>,
    /// Bytes of one server-sent event that are looked at for metering; longer ones pass unmetered.
    pub(in crate::config) event_bytes_max: Bytes<KIB, GIB>,
    /// Depth of JSON that is looked at.
    #[schemars(range(min = 8, max = 1_024))]
    pub(in crate::config) json_depth_max: usize,
    /// Accounts tried for one request.
    #[schemars(range(min = 1, max = 10))]
    pub(in crate::config) attempts_max: u32,
    /// Pause before the second attempt; doubles with every attempt, with jitter.
    pub(in crate::config) retry_pause: Period<MS, { 10 * SECOND }>,
    /// Client connections per worker; more are not accepted until one closes. `auto`: as many as the
    /// limit on open files leaves room for.
    pub(in crate::config) connections_per_worker_max: Auto<1, 1_048_576>,
    /// Client connections from one address, over all workers; 0: any number.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) connections_per_source: u32,
    /// Idle upstream connections kept per worker, account, address and authority.
    #[schemars(range(min = 0, max = 65_536))]
    pub(in crate::config) pool_idle_max: usize,
    /// Further attempts of an upstream, in percent of its requests.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) retry_budget_percent: u32,
    /// Further attempts of an upstream that are allowed in any second, however few requests it has.
    #[schemars(range(min = 0, max = 10_000))]
    pub(in crate::config) retry_budget_per_second_min: u32,
    /// Requests that may wait for an account of one upstream; 0: none.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) queue_max: usize,
    /// The same of one tenant.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) queue_per_tenant_max: usize,
    /// Stored responses whose account is remembered, over restarts the latest 65,536 at most; a power of two.
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub(in crate::config) stored_responses_max: usize,
    /// Unfinished TLS handshakes of clients, per worker; more wait.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) tls_handshakes_max: usize,
    /// Streams of one HTTP/2 connection of a client that are open at one time.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) http2_streams_max: u32,
    /// Bytes of a request body that a client may send ahead on one stream. RFC 9113 section 6.5.2.
    pub(in crate::config) http2_stream_window_bytes: Bytes<{ 16 * KIB }, { 16 * MIB }>,
    /// The same on all streams of one connection. RFC 9113 section 6.9.2: it begins with 65,535 and cannot be smaller.
    pub(in crate::config) http2_connection_window_bytes: Bytes<65_535, GIB>,
    /// Requests at one time on one HTTP/2 connection to an upstream; more take a further connection.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) upstream_http2_streams_max: u32,
    /// WebSockets of one tenant, over all workers.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) websockets_per_tenant_max: u32,
    /// Bytes of one WebSocket message.
    pub(in crate::config) websocket_message_bytes_max: Bytes<KIB, GIB>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: Bytes::new(32 * KIB),
            head_fields_max: 100,
            target_bytes_max: Bytes::new(4 * KIB),
            body_bytes_max: Bytes::new(32 * MIB),
            retry_body_bytes_max: Bytes::new(MIB),
            decoded_body_bytes_max: Bytes::new(128 * MIB),
            held_body_bytes_max: Bytes::new(256 * MIB),
            event_bytes_max: Bytes::new(MIB),
            json_depth_max: 64,
            attempts_max: 3,
            retry_pause: Period::ms(100 * MS),
            connections_per_worker_max: Auto::default(),
            connections_per_source: 256,
            pool_idle_max: 64,
            retry_budget_percent: 10,
            retry_budget_per_second_min: 10,
            queue_max: 1_000,
            queue_per_tenant_max: 100,
            stored_responses_max: 65_536,
            tls_handshakes_max: 512,
            http2_streams_max: 100,
            http2_stream_window_bytes: Bytes::new(64 * KIB),
            http2_connection_window_bytes: Bytes::new(MIB),
            upstream_http2_streams_max: 32,
            websockets_per_tenant_max: 100,
            websocket_message_bytes_max: Bytes::new(16 * MIB),
        }
    }
}

/// Where the log goes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// `stdout`, `stderr`, or the path of a file that is appended to.
    pub(in crate::config) output: Text<Output>,
    /// One line per request.
    pub(in crate::config) requests: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            output: Text("stdout".to_owned()),
            requests: true,
        }
    }
}
