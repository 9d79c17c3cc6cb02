//! Lines of requests say what the plain way of writing them says, byte for byte.

use super::super::super::journal::tests::policy;
use super::super::super::line::TimeOfDay;
use super::*;
use crate::config::policy::{AccountId, LimitSet, Money, Scope, TenantId};
use crate::journal::{Closed, ClosedBy};
use crate::usage::Known;
use fastrand::Rng;
use relay_wire::dialect::Usage;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn number(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(..64)
}

fn duration(rng: &mut Rng) -> Duration {
    Duration::from_nanos(number(rng))
}

fn maybe<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| value(rng))
}

fn address(rng: &mut Rng) -> IpAddr {
    match rng.bool() {
        true => [10, rng.u8(..), rng.u8(..4), rng.u8(..4)].into(),
        false => [0x2001, 0xdb8, 0, 0, 0, 0, rng.u16(..4), rng.u16(..)].into(),
    }
}

/// Any record, as chance will have it.
pub(in crate::control) fn record(rng: &mut Rng) -> Record {
    let words = ["complete", "client_gone", "cut"];
    Record {
        time: SystemTime::UNIX_EPOCH + duration(rng).min(Duration::from_secs(9_999_999_999)),
        request_id: format!("req:{:x}", rng.u128(..)).as_str().into(),
        tenant: maybe(rng, |_| TenantId(0)),
        key_id: maybe(rng, |rng| (rng.u32(..) >> rng.u32(..32)).to_be_bytes()),
        route: maybe(rng, |rng| rng.choice(Dialect::ALL).unwrap()),
        model: maybe(rng, |rng| {
            let models = ["model-1", "a \"model\"", "modèle\n\u{1b}\\", ""];
            let model = rng.choice(models).unwrap();
            model.repeat(rng.usize(1..60)).into()
        }),
        account: maybe(rng, |_| AccountId(0)),
        egress: maybe(rng, address),
        status: rng.u16(..),
        code: maybe(rng, |rng| rng.choice(words).unwrap()),
        attempts: rng.u32(..),
        chosen: maybe(rng, |rng| rng.choice(words).unwrap()),
        failed_status: maybe(rng, |rng| rng.u16(..)),
        queued: maybe(rng, duration),
        first_byte: maybe(rng, duration),
        duration: duration(rng),
        overhead: maybe(rng, duration),
        bytes_in: number(rng),
        bytes_out: number(rng),
        events: number(rng),
        streamed: rng.bool(),
        charged: rng.bool(),
        usage: maybe(rng, |rng| Usage {
            input_tokens: number(rng),
            cached_tokens: number(rng),
            output_tokens: number(rng),
            reasoning_tokens: number(rng),
        }),
        known: maybe(rng, |rng| rng.choice(Known::ALL).unwrap()),
        cost: Money::from_nano(number(rng)),
        limit: maybe(rng, |rng| {
            let scope = rng.choice([Scope::Tenant, Scope::Key]).unwrap();
            (scope, rng.choice(Limit::ALL).unwrap())
        }),
        shadowed: LimitSet::from_bits(rng.u16(..) & rng.u16(..)),
        closed: maybe(rng, |rng| Closed {
            by: rng.choice(ClosedBy::ALL).unwrap(),
            code: rng.u16(..),
        }),
        ended: rng.choice(words).unwrap(),
    }
}

/// Members with what there is to be said about each, as JSON.
type Members = Vec<(&'static str, Option<String>)>;

fn text(value: &str) -> String {
    let kept: String = value.chars().take(256).collect();
    serde_json::to_string(&kept)
        .unwrap()
        .replace("\\n", "\\u000a")
}

fn milliseconds(value: Duration) -> String {
    let micros = value.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn parties(policy: &Policy, record: &Record) -> Members {
    let account = record.account.map(|id| policy.account(id));
    let upstream = account.map(|account| policy.upstream(account.upstream));
    let route = record.route.map_or("none", Dialect::as_str);
    let key = record.key_id.map(u32::from_be_bytes);
    vec![
        ("level", Some(text("info"))),
        ("event", Some(text("request"))),
        ("node", Some(text(&policy.node.name))),
        ("request_id", Some(text(record.request_id.as_str()))),
        (
            "tenant",
            record.tenant.map(|id| text(&policy.tenant(id).name)),
        ),
        ("key", key.map(|key| format!("\"{key:08x}\""))),
        ("route", Some(text(route))),
        ("model", record.model.as_deref().map(text)),
        ("upstream", upstream.map(|upstream| text(&upstream.name))),
        ("account", account.map(|account| text(&account.name))),
        ("region", account.map(|account| text(&account.region))),
        (
            "egress",
            record.egress.map(|egress| text(&egress.to_string())),
        ),
    ]
}

fn course(record: &Record) -> Members {
    let overhead = record.overhead.map(|overhead| overhead.as_micros());
    let events = record.streamed.then_some(record.events);
    let number = |number: u64| Some(number.to_string());
    vec![
        ("status", number(record.status.into())),
        ("code", record.code.map(text)),
        ("attempts", number(record.attempts.into())),
        ("chosen", record.chosen.map(text)),
        (
            "failed_status",
            record.failed_status.map(|it| it.to_string()),
        ),
        ("queued_ms", record.queued.map(milliseconds)),
        ("overhead_us", overhead.map(|it| it.to_string())),
        ("ttfb_ms", record.first_byte.map(milliseconds)),
        ("duration_ms", Some(milliseconds(record.duration))),
        ("bytes_in", number(record.bytes_in)),
        ("bytes_out", number(record.bytes_out)),
        ("events", events.and_then(number)),
    ]
}

fn used(policy: &Policy, record: &Record) -> Members {
    let tokens = |of: fn(&Usage) -> u64| record.usage.as_ref().map(|usage| of(usage).to_string());
    let has_cost = record.known.is_some() && !policy.prices.is_empty();
    let shadowed: Vec<_> = record.shadowed.iter().map(Limit::as_str).collect();
    let closed = record.closed;
    vec![
        ("input_tokens", tokens(|usage| usage.input_tokens)),
        ("cached_tokens", tokens(|usage| usage.cached_tokens)),
        ("output_tokens", tokens(|usage| usage.output_tokens)),
        ("reasoning_tokens", tokens(|usage| usage.reasoning_tokens)),
        ("known", record.known.map(|known| text(known.as_str()))),
        ("cost", has_cost.then(|| format!("\"{}\"", record.cost))),
        ("limit", record.limit.map(|(_, limit)| text(limit.as_str()))),
        (
            "limit_of",
            record.limit.map(|(scope, _)| text(scope.as_str())),
        ),
        (
            "shadowed",
            (!shadowed.is_empty()).then(|| text(&shadowed.join(","))),
        ),
        ("closed_by", closed.map(|closed| text(closed.by.as_str()))),
        ("close_code", closed.map(|closed| closed.code.to_string())),
        ("ended", Some(text(record.ended))),
    ]
}

#[test]
fn a_line_is_what_the_plain_way_makes_of_it() {
    let policy = policy(Path::new("/nowhere"), "off");
    let mut requests = Requests::of(&policy);
    let mut times = TimeOfDay::default();
    let rng = &mut Rng::with_seed(7);
    for _ in 0..20_000 {
        let record = record(rng);
        let mut written = text_of(|line| times.begin(line, record.time));
        written.push_str(&requests.beginning);
        requests.write(&mut Line(&mut written), &policy, &record);
        let time = jiff::Timestamp::try_from(record.time).unwrap();
        let mut plain = time
            .strftime("{\"time\":\"%Y-%m-%dT%H:%M:%S.%6fZ\"")
            .to_string();
        let mut members = parties(&policy, &record);
        members.extend(course(&record));
        members.extend(used(&policy, &record));
        for (name, value) in members {
            if let Some(value) = value {
                plain.push_str(&format!(",\"{name}\":{value}"));
            }
        }
        assert_eq!(written, plain);
    }
}
