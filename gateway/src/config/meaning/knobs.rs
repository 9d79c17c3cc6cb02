//! `[timeouts]` and `[limits]`: each value was checked against its own bounds; here they are checked
//! against each other.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::policy::{Limits, Timeouts};
use crate::config::raw::knobs;
use crate::config::units::{show_bytes, show_period};
use std::time::Duration;

/// Shorter heartbeats would be most of the stream.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

impl Meaning<'_> {
    pub(super) fn timeouts(&mut self, raw: &knobs::Timeouts) -> Timeouts {
        let timeouts = Timeouts {
            request_head: raw.request_head.get(),
            request_body_idle: raw.request_body_idle.get(),
            request_body_total: raw.request_body_total.get(),
            tls_handshake: raw.tls_handshake.get(),
            keep_alive_idle: raw.keep_alive_idle.get(),
            write_stall: raw.write_stall.get(),
            drain: raw.drain.get(),
            upstream_connect: raw.upstream_connect.get(),
            upstream_tls: self.written_or_at_most(
                "timeouts.upstream_tls",
                raw.upstream_tls.get(),
                raw.retry.get() / 2,
            ),
            response_head: raw.response_head.get(),
            first_event: raw.first_event.get(),
            event_idle: raw.event_idle.get(),
            answer_total: raw.answer_total.get(),
            stream_total: raw.stream_total.get(),
            pool_idle: raw.pool_idle.get(),
            pool_age: raw.pool_age.get(),
            heartbeat: raw.heartbeat.get(),
            retry: raw.retry.get(),
            queue: raw.queue.get(),
            commit: self.written_or_at_most(
                "timeouts.commit",
                raw.commit.get(),
                raw.first_event.get(),
            ),
            websocket_idle: self.written_or_at_most(
                "timeouts.websocket_idle",
                raw.websocket_idle.get(),
                raw.websocket_total.get(),
            ),
            websocket_total: raw.websocket_total.get(),
        };
        let t = &timeouts;
        let within = [
            (
                "request_body_idle",
                t.request_body_idle,
                "request_body_total",
                t.request_body_total,
            ),
            (
                "upstream_connect",
                t.upstream_connect,
                "answer_total",
                t.answer_total,
            ),
            (
                "response_head",
                t.response_head,
                "answer_total",
                t.answer_total,
            ),
            (
                "response_head",
                t.response_head,
                "stream_total",
                t.stream_total,
            ),
            ("first_event", t.first_event, "stream_total", t.stream_total),
            ("event_idle", t.event_idle, "stream_total", t.stream_total),
            ("commit", t.commit, "first_event", t.first_event),
            ("pool_idle", t.pool_idle, "pool_age", t.pool_age),
            (
                "websocket_idle",
                t.websocket_idle,
                "websocket_total",
                t.websocket_total,
            ),
        ];
        for (short, short_value, long, long_value) in within {
            if short_value > long_value {
                let shown = [show_period(short_value), show_period(long_value)];
                let table = KeyPath::of("timeouts");
                self.must(&table, [short, long], "must not be longer than", shown);
            }
        }
        if !t.heartbeat.is_zero() && t.heartbeat < HEARTBEAT_MIN {
            let hint = Some("`0s` switches it off".to_owned());
            self.error(
                &KeyPath::of("timeouts.heartbeat"),
                "must be 0s or at least 100ms",
                hint,
            );
        }
        // An upstream is given up after `event_idle`: a heartbeat after that would never be sent.
        if t.heartbeat >= t.event_idle {
            let shown = [show_period(t.heartbeat), show_period(t.event_idle)];
            self.must(
                &KeyPath::of("timeouts"),
                ["heartbeat", "event_idle"],
                "must be shorter than",
                shown,
            );
        }
        // Where nobody answers a connection attempt, there would be no time left for another account.
        for (key, value) in [
            ("upstream_connect", t.upstream_connect),
            ("upstream_tls", t.upstream_tls),
        ] {
            if value >= t.retry {
                let shown = [show_period(value), show_period(t.retry)];
                self.must(
                    &KeyPath::of("timeouts"),
                    [key, "retry"],
                    "must be shorter than",
                    shown,
                );
            }
        }
        timeouts
    }

    pub(super) fn limits(&mut self, raw: &knobs::Limits) -> Limits {
        let limits = Limits {
            head_bytes_max: raw.head_bytes_max.in_memory(),
            head_fields_max: raw.head_fields_max,
            target_bytes_max: raw.target_bytes_max.in_memory(),
            body_bytes_max: raw.body_bytes_max.get(),
            retry_body_bytes_max: raw.retry_body_bytes_max.in_memory(),
            decoded_body_bytes_max: raw.decoded_body_bytes_max.get(),
            held_body_bytes_max: raw.held_body_bytes_max.in_memory(),
            event_bytes_max: raw.event_bytes_max.get(),
            json_depth_max: raw.json_depth_max,
            attempts_max: raw.attempts_max,
            retry_pause: raw.retry_pause.get(),
            connections_per_worker_max: raw.connections_per_worker_max.get(),
            connections_per_source: Some(raw.connections_per_source).filter(|max| *max > 0),
            pool_idle_max: raw.pool_idle_max,
            retry_budget_percent: raw.retry_budget_percent,
            retry_budget_per_second_min: raw.retry_budget_per_second_min,
            queue_max: raw.queue_max,
            queue_per_tenant_max: self.written_or_at_most(
                "limits.queue_per_tenant_max",
                raw.queue_per_tenant_max,
                raw.queue_max,
            ),
            stored_responses_max: raw.stored_responses_max,
            tls_handshakes_max: raw.tls_handshakes_max,
            http2_streams_max: raw.http2_streams_max,
            http2_stream_window_bytes: raw.http2_stream_window_bytes.in_window(),
            http2_connection_window_bytes: raw.http2_connection_window_bytes.in_window(),
            upstream_http2_streams_max: raw.upstream_http2_streams_max,
            websockets_per_tenant_max: raw.websockets_per_tenant_max,
            websocket_message_bytes_max: raw.websocket_message_bytes_max.get(),
        };
        let (head, target) = (raw.head_bytes_max.get(), raw.target_bytes_max.get());
        let (body, retry) = (raw.body_bytes_max.get(), raw.retry_body_bytes_max.get());
        let (decoded, held) = (
            raw.decoded_body_bytes_max.get(),
            raw.held_body_bytes_max.get(),
        );
        let within = [
            ("target_bytes_max", target, "head_bytes_max", head),
            ("retry_body_bytes_max", retry, "body_bytes_max", body),
            ("retry_body_bytes_max", retry, "held_body_bytes_max", held),
            // A body that is not compressed has the same length before and after.
            ("body_bytes_max", body, "decoded_body_bytes_max", decoded),
            (
                "http2_stream_window_bytes",
                raw.http2_stream_window_bytes.get(),
                "http2_connection_window_bytes",
                raw.http2_connection_window_bytes.get(),
            ),
        ];
        for (small, small_value, large, large_value) in within {
            if small_value > large_value {
                let shown = [show_bytes(small_value), show_bytes(large_value)];
                let table = KeyPath::of("limits");
                self.must(&table, [small, large], "must not be greater than", shown);
            }
        }
        if limits.queue_per_tenant_max > limits.queue_max {
            let shown = [limits.queue_per_tenant_max, limits.queue_max].map(|max| max.to_string());
            self.must(
                &KeyPath::of("limits"),
                ["queue_per_tenant_max", "queue_max"],
                "must not be greater than",
                shown,
            );
        }
        let stored = limits.stored_responses_max;
        if !stored.is_power_of_two() {
            let above = stored.next_power_of_two();
            let hint = format!("{} and {above} are the nearest", above / 2);
            let path = KeyPath::of("limits.stored_responses_max");
            self.error(&path, "must be a power of two", Some(hint));
        }
        limits
    }

    /// A default that yields to another setting, so that a file which sets that one alone stays valid.
    fn written_or_at_most<T: Ord>(&self, key: &str, value: T, max: T) -> T {
        if self.document.holds(&KeyPath::of(key)) {
            value
        } else {
            value.min(max)
        }
    }

    /// Reports a broken relation at the key that the file sets; the other may be a default.
    pub(super) fn must(
        &mut self,
        table: &KeyPath,
        keys: [&str; 2],
        relation: &str,
        shown: [String; 2],
    ) {
        let [first, second] = keys;
        let paths = keys.map(|key| table.key(key));
        if paths.iter().any(|path| self.is_refused(path)) {
            return;
        }
        let [at, other] = &paths;
        let at = if self.document.holds(at) || !self.document.holds(other) {
            at
        } else {
            other
        };
        let [one, other] = shown;
        let message = format!("`{first}` ({one}) {relation} `{second}` ({other})");
        self.error(at, message, None);
    }
}
