//! From a policy to what the programs have to know.

use crate::config::Policy;
use relay_ebpf::{AccountPlan, ControlDestination, Network, Places, Plan, TenantPlan};
use std::net::{IpAddr, SocketAddr};

/// Where names are asked for (RFC 1035 section 4.2). Over UDP nobody asks the programs; long answers come over TCP.
const DNS_PORT: u16 = 53;

/// Where the programs are attached and pinned.
pub fn places(policy: &Policy) -> Places {
    Places {
        cgroup: policy.kernel.cgroup.clone(),
        pins: policy.kernel.bpffs.clone(),
    }
}

/// What the programs have to know; `resolv_conf` is the text of /etc/resolv.conf. Tenants and accounts have the same numbers
/// as in the policy.
pub fn plan(policy: &Policy, resolv_conf: &str) -> Plan {
    let tenants = policy.tenants.iter().map(|tenant| TenantPlan {
        connections_max: tenant.connections,
        networks: tenant
            .sources
            .iter()
            .map(|network| Network {
                address: network.address,
                prefix_bits: network.prefix_bits,
            })
            .collect(),
    });
    let accounts = policy.accounts.iter().map(|account| AccountPlan {
        connections_max: account.max_connections,
        egress: account.egress.clone(),
    });
    let control_destinations = nameservers(resolv_conf).map(|address| ControlDestination {
        address: SocketAddr::new(address, DNS_PORT),
    });
    Plan {
        tenants: tenants.collect(),
        accounts: accounts.collect(),
        source_connections_max: policy.limits.connections_per_source,
        control_destinations: control_destinations.collect(),
        workers: u32::try_from(policy.node.workers).unwrap_or(u32::MAX),
    }
}

/// The name servers of a resolv.conf(5). A scope behind an address (`%eth0`) is no part of it.
fn nameservers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        let address = words.next()?;
        let (address, _scope) = address.split_once('%').unwrap_or((address, ""));
        address.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    #[test]
    fn name_servers_are_found_among_everything_else() {
        let text = "# nameserver 192.0.2.1\nsearch example.net\nnameserver 192.0.2.53\n\
                    nameserver\tfe80::1%eth0\noptions edns0\nnameserver nonsense\n  nameserver ::1 x\n";
        let found: Vec<_> = nameservers(text).map(|one| one.to_string()).collect();
        assert_eq!(found, ["192.0.2.53", "fe80::1", "::1"]);
    }

    #[test]
    fn everybody_keeps_the_number_of_the_policy() {
        let text = r#"
            [kernel]
            cgroup = "/sys/fs/cgroup/relay"
            bpffs = "/sys/fs/bpf/relay"
            [node]
            workers = 3
            [limits]
            connections_per_source = 7
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "first"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.1"]
            [[account]]
            name = "second"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["2001:db8::1", "127.0.7.2"]
            max_connections = 40
            [[tenant]]
            name = "acme"
            keys = [{ sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }]
            upstreams = ["provider"]
            [[tenant]]
            name = "beta"
            keys = [{ sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" }]
            upstreams = ["provider"]
            connections = 5
            sources = ["192.0.2.0/24"]
        "#;
        let environment = |_: &str| Some("sk-test".into());
        let loaded = config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let plan = plan(&loaded.policy, "nameserver 192.0.2.53\n");
        assert_eq!(plan.workers, 3);
        assert_eq!(plan.source_connections_max, Some(7));
        assert_eq!(plan.tenants[0], TenantPlan::default());
        assert_eq!(plan.tenants[1].connections_max, Some(5));
        assert_eq!(plan.tenants[1].networks[0].prefix_bits, 24);
        assert_eq!(plan.accounts[0].connections_max, None);
        assert_eq!(plan.accounts[1].connections_max, Some(40));
        assert_eq!(
            plan.control_destinations[0].address.to_string(),
            "192.0.2.53:53"
        );
        // IPv4 before IPv6, whatever the order of the file.
        let second = |address: &str| plan.address_index(1, address.parse().ok()?);
        assert_eq!(
            (second("127.0.7.2"), second("2001:db8::1")),
            (Some(1), Some(2))
        );
        let places = places(&loaded.policy);
        assert_eq!(
            places.cgroup.as_deref(),
            Some(Path::new("/sys/fs/cgroup/relay"))
        );
        assert_eq!(places.pins, Path::new("/sys/fs/bpf/relay"));
    }
}
