//! `[timeouts]` and `[limits]`

use std::time::Duration;

/// `[timeouts]`; zero means "no limit" only where the field says so.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request head to its last.
    pub request_head: Duration,
    /// Between two reads of a request body.
    pub request_body_idle: Duration,
    /// The whole request body.
    pub request_body_total: Duration,
    /// The TLS handshake of a client, from the connection on.
    pub tls_handshake: Duration,
    /// Between two requests on a client connection.
    pub keep_alive_idle: Duration,
    /// A write, to either side, that makes no progress.
    pub write_stall: Duration,
    /// Waiting for streams at shutdown; zero waits for the last one.
    pub drain: Duration,
    /// TCP connect to an upstream.
    pub upstream_connect: Duration,
    /// The TLS handshake with an upstream, behind the TCP connect.
    pub upstream_tls: Duration,
    /// From the last byte of the request to the response head.
    pub response_head: Duration,
    /// From a stream's response head to its first event.
    pub first_event: Duration,
    /// Between two reads of a stream.
    pub event_idle: Duration,
    /// A whole answer that is not a stream.
    pub answer_total: Duration,
    /// A whole stream.
    pub stream_total: Duration,
    /// A pooled upstream connection without a request.
    pub pool_idle: Duration,
    /// A pooled upstream connection since it was opened (each varies by ± 20 %).
    pub pool_age: Duration,
    /// Silence of an upstream after which a harmless event is sent, in dialects that have one; zero: never.
    pub heartbeat: Duration,
    /// From the end of the request on: after this, no further attempt is begun.
    pub retry: Duration,
    /// Waiting for an account while all of them are busy; zero: not at all.
    pub queue: Duration,
    /// Events before a stream's first output are held back for so long at most, so that another account can be asked if an
    /// overload is reported behind them; zero: not at all.
    pub commit: Duration,
    /// A WebSocket on which neither side has sent anything.
    pub websocket_idle: Duration,
    /// A whole WebSocket.
    pub websocket_total: Duration,
}

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request or response head.
    pub head_bytes_max: usize,
    /// Fields of a head.
    pub head_fields_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
    /// Bytes of a request body.
    pub body_bytes_max: u64,
    /// Bytes of a request body that are kept so that it can be sent again to another account.
    pub retry_body_bytes_max: usize,
    /// Bytes of a request body after decoding, where it is compressed.
    pub decoded_body_bytes_max: u64,
    /// Request bodies held at one time, per worker, in bytes.
    pub held_body_bytes_max: usize,
    /// Bytes of one server-sent event that are looked at for metering.
    pub event_bytes_max: u64,
    /// Depth of JSON that is looked at.
    pub json_depth_max: usize,
    /// Accounts tried for one request, 1 to 10.
    pub attempts_max: u32,
    /// Pause before the second attempt; doubles, with jitter.
    pub retry_pause: Duration,
    /// Client connections per worker; more are not accepted until one closes. `None`: as many as
    /// the limit on open files leaves room for.
    pub connections_per_worker_max: Option<usize>,
    /// Client connections from one address at most, over all workers; `None`: any number.
    pub connections_per_source: Option<u32>,
    /// Idle upstream connections kept per worker, account, address and authority.
    pub pool_idle_max: usize,
    /// Further attempts per upstream, in percent of its requests, 0 to 100.
    pub retry_budget_percent: u32,
    /// Further attempts per upstream and second that are always allowed.
    pub retry_budget_per_second_min: u32,
    /// Requests that may wait for an account of one upstream.
    pub queue_max: usize,
    /// The same of one tenant.
    pub queue_per_tenant_max: usize,
    /// Stored responses whose account is remembered; a power of two.
    pub stored_responses_max: usize,
    /// Unfinished TLS handshakes of clients, per worker.
    pub tls_handshakes_max: usize,
    /// Streams of one HTTP/2 connection of a client that are open at one time.
    pub http2_streams_max: u32,
    /// SETTINGS_INITIAL_WINDOW_SIZE towards clients.
    pub http2_stream_window_bytes: u32,
    /// The window of a whole HTTP/2 connection of a client; not smaller than that of a stream.
    pub http2_connection_window_bytes: u32,
    /// Requests at one time on one HTTP/2 connection to an upstream.
    pub upstream_http2_streams_max: u32,
    /// WebSockets of one tenant, over all workers.
    pub websockets_per_tenant_max: u32,
    /// Bytes of one WebSocket message.
    pub websocket_message_bytes_max: u64,
}
