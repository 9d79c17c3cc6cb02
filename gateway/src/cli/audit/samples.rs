//! Requests to test with.

use codex_relay::config::policy::{Limit, LimitSet, Money, Scope};
use codex_relay::journal::Entry;
use codex_relay::usage::Known;
use relay_wire::dialect::{Dialect, Usage};
use std::time::Duration;

/// Streamed to its end, by the second account.
pub(super) fn answered() -> Entry<&'static str> {
    Entry {
        sequence: 7,
        time_us: 1_772_366_400_000_042,
        request_id: "req_0123456789abcdef01234567".into(),
        tenant: Some("team-a"),
        key: Some([0xc0, 0xff, 0xee, 0x01]),
        route: Some(Dialect::Responses),
        model: Some("gpt-5"),
        upstream: Some("openai"),
        account: Some("openai-1"),
        region: Some("eu"),
        egress: Some([203, 0, 113, 10].into()),
        status: 200,
        failed_status: Some(429),
        code: None,
        attempts: 2,
        chosen: Some("balanced"),
        queued: Some(Duration::from_micros(3_001)),
        first_byte: Some(Duration::from_micros(820_500)),
        duration: Duration::from_millis(4_200),
        overhead: Some(Duration::from_micros(61)),
        bytes_in: 900,
        bytes_out: 40_000,
        events: 120,
        streamed: true,
        charged: true,
        usage: Some(Usage {
            input_tokens: 1_000,
            cached_tokens: 400,
            output_tokens: 100,
            reasoning_tokens: 64,
        }),
        known: Some(Known::Final),
        cost: Money::from_nano(1_800_000),
        limit: None,
        shadowed: LimitSet::EMPTY
            .with(Limit::RequestsPerDay)
            .with(Limit::TokensPerDay),
        closed: None,
        ended: "complete",
    }
}

/// What was sent was no request.
pub(super) fn unparsed() -> Entry<&'static str> {
    Entry {
        sequence: 8,
        time_us: 0,
        request_id: "req_x".into(),
        tenant: None,
        key: None,
        route: None,
        model: None,
        upstream: None,
        account: None,
        region: None,
        egress: None,
        status: 400,
        failed_status: None,
        code: Some("malformed_request"),
        attempts: 0,
        chosen: None,
        queued: None,
        first_byte: None,
        duration: Duration::ZERO,
        overhead: None,
        bytes_in: 0,
        bytes_out: 0,
        events: 0,
        streamed: false,
        charged: false,
        usage: None,
        known: None,
        cost: Money::ZERO,
        limit: None,
        shadowed: LimitSet::EMPTY,
        closed: None,
        ended: "refused",
    }
}

/// Its key had used up what it may use in a minute.
pub(super) fn limited() -> Entry<&'static str> {
    Entry {
        tenant: Some("team-a"),
        key: Some([0, 0, 0, 1]),
        route: Some(Dialect::ChatCompletions),
        status: 429,
        code: Some("tenant_rate_limited"),
        limit: Some((Scope::Key, Limit::TokensPerMinute)),
        ..unparsed()
    }
}
