//! Entries and journals for tests.

use super::Known;
use crate::config::policy::{LimitSet, Money};
use crate::journal::{Entry, Journal};
use relay_io::Engine;
use relay_wire::dialect::Usage;
use std::path::Path;
use std::time::Duration;

pub(crate) const DAY_US: u64 = 86_400_000_000;

/// A request that was charged, on 2024-10-04.
pub(crate) fn entry<'e>(tenant: &'e str, model: &'e str) -> Entry<&'e str> {
    Entry {
        sequence: 0,
        time_us: 20_000 * DAY_US,
        request_id: "req".into(),
        tenant: Some(tenant),
        key: Some([1; 4]),
        route: None,
        model: Some(model),
        upstream: None,
        account: None,
        region: None,
        egress: None,
        status: 200,
        failed_status: None,
        code: None,
        attempts: 1,
        chosen: None,
        queued: None,
        first_byte: None,
        duration: Duration::ZERO,
        overhead: None,
        bytes_in: 0,
        bytes_out: 0,
        events: 0,
        streamed: false,
        charged: true,
        usage: Some(Usage {
            input_tokens: 10,
            cached_tokens: 4,
            output_tokens: 3,
            reasoning_tokens: 1,
        }),
        known: Some(Known::Final),
        cost: Money::from_nano(7),
        limit: None,
        shadowed: LimitSet::EMPTY,
        closed: None,
        ended: "complete",
    }
}

/// Writes these to a journal, each in a commit of its own, as a gateway does that ends then.
pub(crate) fn keep(directory: &Path, segment_bytes_max: u64, entries: &[Entry<&str>]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut journal = Journal::new(directory.to_owned(), segment_bytes_max, Engine::Epoll);
        journal.open().unwrap();
        for entry in entries {
            journal.append(entry);
            assert_eq!(journal.finish(Duration::from_secs(60)).await, 0);
        }
    });
}
