//! Entries of every kind.

use super::super::{Closed, ClosedBy, Entry};
use crate::config::policy::{Limit, LimitSet, Money, Scope};
use crate::usage::Known;
use fastrand::Rng;
use relay_wire::dialect::{Dialect, Usage};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Some of the numbers are as large as can be.
fn number(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(..64)
}

fn duration(rng: &mut Rng) -> Duration {
    Duration::from_micros(number(rng))
}

fn maybe<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| value(rng))
}

fn name(rng: &mut Rng, kind: &str) -> Arc<str> {
    format!("{kind}-{}", rng.u8(..20)).into()
}

/// Any entry, as the seed will have it.
pub(in crate::journal) fn entry(sequence: u64, seed: u64) -> Entry {
    let rng = &mut Rng::with_seed(seed);
    let request_id = match rng.u8(..4) {
        0 => format!("client:{}", rng.u16(..)),
        1 => "req_0123456789ABCDEF01234567".to_owned(),
        2 => String::new(),
        _ => format!("req_{:024x}", rng.u128(..) >> 32),
    };
    Entry {
        sequence,
        time_us: rng.u64(..),
        request_id: request_id.as_str().into(),
        tenant: maybe(rng, |rng| name(rng, "tenant")),
        key: maybe(rng, |rng| rng.u32(..).to_le_bytes()),
        route: maybe(rng, |rng| rng.choice(Dialect::ALL).unwrap()),
        model: maybe(rng, |rng| name(rng, "modèle")),
        upstream: maybe(rng, |rng| name(rng, "upstream")),
        account: maybe(rng, |rng| name(rng, "account")),
        region: maybe(rng, |rng| name(rng, "region")),
        egress: maybe(rng, |rng| match rng.bool() {
            true => [10, 0, 0, rng.u8(..9)].into(),
            false => [0x2001, 0xdb8, 0, 0, 0, 0, 0, rng.u16(..9)].into(),
        }),
        status: rng.u16(..),
        failed_status: maybe(rng, |rng| rng.u16(..)),
        code: maybe(rng, |rng| name(rng, "code")),
        attempts: rng.u32(..),
        chosen: maybe(rng, |rng| name(rng, "chosen")),
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
        ended: name(rng, "ended"),
    }
}

/// As the journal takes it.
pub(in crate::journal) fn borrowed(entry: &Entry) -> Entry<&str> {
    entry.named(|name| &**name)
}

/// As it outlives the journal.
pub(in crate::journal) fn owned(entry: &Entry<&str>) -> Entry {
    entry.named(|name| Arc::from(*name))
}

/// In memory, where there is such a place: a real disk takes milliseconds for each of thousands of syncs.
pub(in crate::journal) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}
