//! Connections and what the kernel enforces of them, read when somebody asks.

use crate::accounts::{Spoken, SpokenWith};
use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use crate::connections::Connections;
use crate::kernel::Features;
use crate::worker::Figures;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use relay_ebpf::abi::counter::Counter;
use relay_ebpf::{Feature, Live};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where connections are counted.
#[derive(Clone)]
pub struct Counted {
    connections: &'static Connections,
    features: Arc<Features>,
    live: Option<Live>,
    /// Account, address, and the number of the address in the kernel's tables.
    addresses: Arc<[(AccountId, IpAddr, u32)]>,
}

impl Counted {
    /// By the kernel where it counts, else by `connections`.
    pub fn new(
        policy: &Policy,
        connections: &'static Connections,
        live: Option<Live>,
        features: Arc<Features>,
    ) -> Self {
        // The number of an address depends on nothing but the accounts.
        let plan = crate::kernel::plan(policy, "");
        let addresses = plan.addresses();
        let addresses =
            addresses.map(|one| (AccountId(one.account as u16), one.address, one.number));
        Self {
            connections,
            features,
            live,
            addresses: addresses.collect(),
        }
    }

    pub(super) fn read(&self, policy: &Policy, figures: &[&'static Figures], spoken: &SpokenWith) {
        for (index, tenant) in policy.tenants.iter().enumerate() {
            let id = TenantId(index as u16);
            let sides = [
                ("inbound", self.connections.tenant_inbound(id)),
                ("upstream", self.connections.tenant_upstream(id)),
            ];
            for (side, count) in sides {
                let tenant = tenant.name.clone();
                gauge!("relay_tenant_connections", "tenant" => tenant, "side" => side)
                    .set(count as f64);
            }
        }
        for (index, account) in policy.accounts.iter().enumerate() {
            let count = self.connections.account(AccountId(index as u16));
            gauge!("relay_account_connections", "account" => account.name.clone())
                .set(count as f64);
            read_spoken(policy, AccountId(index as u16), spoken);
        }
        for (index, figures) in figures.iter().enumerate() {
            let count = match &self.live {
                Some(live) => live.worker(index as u32),
                None => figures.connections.load(Ordering::Relaxed),
            };
            gauge!("relay_worker_connections", "worker" => index.to_string()).set(count as f64);
        }
        for feature in Feature::ALL {
            let is_active = self.features.is_active(feature);
            gauge!("relay_kernel_feature", "feature" => feature.as_str())
                .set(f64::from(u8::from(is_active)));
        }
        if let Some(live) = &self.live {
            self.read_kernel(policy, live);
        }
    }

    fn read_kernel(&self, policy: &Policy, live: &Live) {
        for (account, address, number) in self.addresses.iter() {
            let labels = [
                ("account", policy.account(*account).name.clone()),
                ("address", address.to_string()),
            ];
            gauge!("relay_address_connections", &labels).set(live.address(*number) as f64);
        }
        for event in Counter::ALL {
            counter!("relay_kernel_events_total", "event" => event.as_str())
                .absolute(live.counter(*event));
        }
        counter!("relay_egress_violations_total").absolute(live.counter(Counter::EgressViolation));
    }
}

fn read_spoken(policy: &Policy, id: AccountId, spoken: &SpokenWith) {
    let account = policy.account(id);
    for protocol in Spoken::ALL {
        counter!(
            "relay_upstream_connections_by_protocol_total",
            "upstream" => policy.upstream(account.upstream).name.clone(),
            "account" => account.name.clone(),
            "protocol" => protocol.as_str(),
        )
        .absolute(spoken.opened(id, protocol));
    }
}

/// Says what there is, and has what must stay zero there from the start.
pub(super) fn describe() {
    counter!("relay_egress_violations_total").absolute(0);
    counter!("relay_kernel_drift_total").absolute(0);
    counter!("relay_kernel_reconciliations_total").absolute(0);
    counter!("relay_egress_log_lines_lost_total").absolute(0);
    gauge!("relay_accounts_sharing_address").set(0.0);
    let gauges = [
        (
            "relay_kernel_feature",
            "1 if the kernel enforces it, by feature",
        ),
        (
            "relay_accounts_sharing_address",
            "Egress addresses with connections of more than one account: must stay zero",
        ),
        (
            "relay_tenant_connections",
            "Connections of a tenant, by side; to providers only those of tenants with a cap",
        ),
        (
            "relay_account_connections",
            "Connections to providers, by account",
        ),
        (
            "relay_address_connections",
            "Connections to providers, by account and address; where the kernel counts",
        ),
        ("relay_worker_connections", "Client connections, by worker"),
        (
            "relay_egress_ports_open",
            "Ports of open connections, by account, address and destination",
        ),
        (
            "relay_egress_ports_waiting",
            "Ports that are not free again yet, by account, address and destination",
        ),
        (
            "relay_egress_ports_max",
            "Ports that may be used, by account, address and destination",
        ),
    ];
    for (name, text) in gauges {
        describe_gauge!(name, text);
    }
    let counters = [
        (
            "relay_egress_violations_total",
            "Connections from an address that is not one of the account's: must stay zero",
        ),
        (
            "relay_upstream_connections_by_protocol_total",
            "Connections to providers, over TLS once it is agreed on, by upstream, account and what is spoken on them (WebSockets: http1)",
        ),
        (
            "relay_kernel_events_total",
            "What the kernel's programs have decided, by event",
        ),
        (
            "relay_kernel_drift_total",
            "Connections by which counts were corrected",
        ),
        (
            "relay_kernel_reconciliations_total",
            "Comparisons of counts with the sockets that exist",
        ),
        (
            "relay_kernel_check_failures_total",
            "Checks of the kernel's side that have failed, by check",
        ),
        (
            "relay_egress_log_lines_lost_total",
            "Lines of the egress log that could not be written",
        ),
        (
            "relay_egress_connections_total",
            "Connections to providers that have ended, by account and address",
        ),
        (
            "relay_egress_retransmits_total",
            "Segments sent to providers again, by account and address",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_counter!(
        "relay_egress_bytes_total",
        Unit::Bytes,
        "Payload to and from providers on connections that have ended, by account and address"
    );
    describe_histogram!(
        super::RTT,
        Unit::Seconds,
        "Smoothed round-trip time of connections that have ended, by account and address"
    );
}
