//! Totals of ended connections, by account and address.

use crate::config::Policy;
use metrics::{Counter, Histogram, counter, histogram};
use relay_ebpf::abi::address_of;
use relay_ebpf::abi::record::Event;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Handles, made once for each account and address.
#[derive(Default)]
pub(super) struct Figures(HashMap<(u32, Option<IpAddr>), Handles>);

struct Handles {
    connections: Counter,
    bytes_out: Counter,
    bytes_in: Counter,
    retransmits: Counter,
    rtt: Histogram,
}

impl Figures {
    /// Counts a connection that has ended.
    pub(super) fn count(&mut self, policy: &Policy, event: &Event) {
        let Some(account) = policy.accounts.get(event.account as usize) else {
            return;
        };
        if event.established_at_ns == 0 {
            return;
        }
        // Labels come from a closed set, whatever address a connection has come from.
        let address = Some(address_of(event.source)).filter(|one| account.egress.contains(one));
        let handles = self.0.entry((event.account, address)).or_insert_with(|| {
            let address = address.map_or_else(|| "other".to_owned(), |one| one.to_string());
            Handles::new(&account.name, &address)
        });
        handles.connections.increment(1);
        handles.bytes_out.increment(event.bytes_sent);
        handles.bytes_in.increment(event.bytes_received);
        handles.retransmits.increment(event.retransmits.into());
        if event.rtt_us > 0 {
            let rtt = Duration::from_micros(event.rtt_us.into());
            handles.rtt.record(rtt);
        }
    }
}

impl Handles {
    fn new(account: &str, address: &str) -> Self {
        let bytes = |direction: &'static str| {
            counter!(
                "relay_egress_bytes_total",
                "account" => account.to_owned(),
                "address" => address.to_owned(),
                "direction" => direction,
            )
        };
        let labels = [
            ("account", account.to_owned()),
            ("address", address.to_owned()),
        ];
        Self {
            connections: counter!("relay_egress_connections_total", &labels),
            bytes_out: bytes("out"),
            bytes_in: bytes("in"),
            retransmits: counter!("relay_egress_retransmits_total", &labels),
            rtt: histogram!(super::super::metrics::RTT, &labels),
        }
    }
}
