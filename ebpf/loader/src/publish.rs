//! Writing a plan into the maps.

use crate::Missing;
use crate::bytes::{Bytes, PrefixKey};
use crate::map::Map;
use crate::pins::Pins;
use crate::plan::{Network, Plan};
use relay_ebpf_abi::record::{
    AccountSettings, AddressSettings, ListenerKey, PathKey, Settings, TenantSettings,
};
use relay_ebpf_abi::{self as abi, address_bytes, map};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

/// Bits of an IPv6 address, in whose form all addresses are.
const ADDRESS_BITS: u32 = 128;
/// Bits before an IPv4 address in that form.
const IPV4_PREFIX_BITS: u32 = 96;

/// Says what is wrong with a plan, whatever the kernel.
pub(crate) fn check(plan: &Plan) -> Result<(), Missing> {
    check_numbers(plan)
        .and_then(|()| check_addresses(plan))
        .and_then(|()| check_networks(plan))
        .map_err(|detail| Missing {
            piece: "plan",
            detail,
        })
}

fn check_numbers(plan: &Plan) -> Result<(), String> {
    let addresses = plan.accounts.iter().map(|one| one.egress.len()).sum();
    let networks = plan.tenants.iter().map(|one| one.networks.len()).sum();
    let numbers = [
        ("tenants", plan.tenants.len(), abi::TENANTS_MAX),
        ("accounts", plan.accounts.len(), abi::ACCOUNTS_MAX),
        ("egress addresses", addresses, abi::ADDRESSES_MAX),
        ("networks of tenants", networks, abi::NETWORKS_MAX),
        ("workers", plan.workers as usize, abi::WORKERS_MAX),
        (
            "control destinations",
            plan.control_destinations.len(),
            abi::CONTROL_DESTINATIONS_MAX,
        ),
    ];
    for (what, number, number_max) in numbers {
        if number > number_max as usize {
            return Err(format!(
                "{number} {what}, but the kernel's maps have room for {number_max}"
            ));
        }
    }
    let tenants = plan.tenants.iter().map(|one| one.connections_max);
    let accounts = plan.accounts.iter().map(|one| one.connections_max);
    let mut caps = tenants.chain(accounts).chain([plan.source_connections_max]);
    if caps.any(|cap| cap == Some(0)) {
        return Err("a cap of no connections at all".to_owned());
    }
    Ok(())
}

fn check_addresses(plan: &Plan) -> Result<(), String> {
    let mut owners: HashMap<IpAddr, u32> = HashMap::new();
    for one in plan.addresses() {
        let (address, account) = (one.address, one.account);
        if address != address.to_canonical() {
            return Err(format!(
                "{address} is an IPv4 address written as an IPv6 one"
            ));
        }
        match owners.insert(address, account) {
            None => {}
            Some(owner) if owner == account => {
                return Err(format!("account {account} has {address} twice"));
            }
            Some(owner) => {
                return Err(format!(
                    "{address} is at account {owner} and at account {account}"
                ));
            }
        }
    }
    match plan.accounts.iter().position(|one| one.egress.is_empty()) {
        Some(account) => Err(format!("account {account} has no address")),
        None => Ok(()),
    }
}

fn check_networks(plan: &Plan) -> Result<(), String> {
    let mut owners: HashMap<PrefixKey, usize> = HashMap::new();
    for (tenant, one) in plan.tenants.iter().enumerate() {
        for network in &one.networks {
            let Network {
                address,
                prefix_bits,
            } = network;
            let key = prefix(network)
                .ok_or_else(|| format!("{address}/{prefix_bits} is not a network"))?;
            if let Some(owner) = owners.insert(key, tenant).filter(|owner| *owner != tenant) {
                return Err(format!(
                    "{address}/{prefix_bits} is at tenant {owner} and at tenant {tenant}"
                ));
            }
        }
    }
    Ok(())
}

/// A network as a key, unless its prefix is too long or bits behind it are set.
fn prefix(network: &Network) -> Option<PrefixKey> {
    let first = match network.address {
        IpAddr::V4(_) => IPV4_PREFIX_BITS,
        IpAddr::V6(_) => 0,
    };
    let bits = first + u32::from(network.prefix_bits);
    let address = address_bytes(network.address);
    let is_aligned = bits <= ADDRESS_BITS
        && u128::from_be_bytes(address).trailing_zeros() >= ADDRESS_BITS - bits;
    is_aligned.then_some(PrefixKey { bits, address })
}

/// Writes everything, and removes what another plan has left. Live counts stay.
pub(crate) fn publish(pins: &Pins, plan: &Plan, ports_max: u32) -> Result<(), Missing> {
    let settings = Settings {
        abi_version: abi::ABI_VERSION,
        source_connections_max: plan.source_connections_max.unwrap_or_default(),
        ports_max,
        workers: plan.workers,
    };
    write(pins, map::SETTINGS, |map: Map<u32, _>| {
        map.fill(&[settings])
    })?;
    write(pins, map::TENANTS, |map: Map<u32, _>| {
        map.fill(&tenants(plan))
    })?;
    write(pins, map::ACCOUNTS, |map: Map<u32, _>| {
        map.fill(&accounts(plan))
    })?;
    write(pins, map::ADDRESSES, |map: Map<u32, _>| {
        map.fill(&addresses(plan))
    })?;
    let owners: Vec<([u8; 16], u32)> = plan
        .addresses()
        .map(|one| (address_bytes(one.address), one.account))
        .collect();
    write(pins, map::IP_OWNER, |map: Map<_, u32>| {
        map.hold_only(&owners)
    })?;
    write(pins, map::NETWORKS, |map: Map<_, u32>| {
        map.hold_only(&networks(plan))
    })?;
    write(pins, map::CONTROL, |map: Map<_, u32>| {
        map.hold_only(&control(plan))
    })?;
    // Sockets and ports of an earlier process.
    write(pins, map::LISTENERS, |map: Map<ListenerKey, u32>| {
        map.hold_only(&[])
    })?;
    write(pins, map::PATHS_WAITING, |map: Map<PathKey, u64>| {
        map.hold_only(&[])
    })
}

fn write<K: Bytes, V: Bytes>(
    pins: &Pins,
    name: &str,
    write: impl FnOnce(Map<K, V>) -> io::Result<()>,
) -> Result<(), Missing> {
    let path = pins.map(name);
    let written = Map::open(&path).and_then(write);
    written.map_err(|error| Missing {
        piece: "map",
        detail: format!("cannot write {}: {error}", path.display()),
    })
}

fn tenants(plan: &Plan) -> Vec<TenantSettings> {
    let tenants = plan.tenants.iter();
    tenants
        .map(|tenant| TenantSettings {
            connections_max: tenant.connections_max.unwrap_or_default(),
            reserved: 0,
        })
        .collect()
}

fn accounts(plan: &Plan) -> Vec<AccountSettings> {
    let caps = plan.accounts.iter().map(|account| account.connections_max);
    let settings = caps.map(|cap| AccountSettings {
        connections_max: cap.unwrap_or_default(),
        ipv4_first: 0,
        ipv4_count: 0,
        ipv6_first: 0,
        ipv6_count: 0,
        reserved: 0,
    });
    let mut settings: Vec<AccountSettings> = settings.collect();
    for one in plan.addresses() {
        let account = &mut settings[one.account as usize];
        let (first, count) = match one.address {
            IpAddr::V4(_) => (&mut account.ipv4_first, &mut account.ipv4_count),
            IpAddr::V6(_) => (&mut account.ipv6_first, &mut account.ipv6_count),
        };
        if *count == 0 {
            *first = one.number;
        }
        *count += 1;
    }
    settings
}

fn addresses(plan: &Plan) -> Vec<AddressSettings> {
    plan.addresses()
        .map(|one| AddressSettings {
            address: address_bytes(one.address),
            account: one.account,
            is_used: 1,
        })
        .collect()
}

fn networks(plan: &Plan) -> Vec<(PrefixKey, u32)> {
    let tenants = (0_u32..).zip(&plan.tenants);
    tenants
        .flat_map(|(tenant, one)| {
            let prefixes = one.networks.iter().filter_map(prefix);
            prefixes.map(move |key| (key, tenant))
        })
        .collect()
}

/// A destination has one entry: with several ports it is allowed with any.
fn control(plan: &Plan) -> Vec<(PrefixKey, u32)> {
    let mut ports: HashMap<PrefixKey, u32> = HashMap::new();
    for destination in &plan.control_destinations {
        let key = PrefixKey {
            bits: ADDRESS_BITS,
            address: address_bytes(destination.address.ip()),
        };
        let port = u32::from(destination.address.port());
        ports
            .entry(key)
            .and_modify(|one| {
                if *one != port {
                    *one = 0;
                }
            })
            .or_insert(port);
    }
    ports.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AccountPlan, ControlDestination, TenantPlan};

    fn account(egress: &[&str]) -> AccountPlan {
        let egress = egress.iter().map(|one| one.parse().expect("an address"));
        AccountPlan {
            connections_max: None,
            egress: egress.collect(),
        }
    }

    fn network(address: &str, prefix_bits: u8) -> Network {
        Network {
            address: address.parse().expect("an address"),
            prefix_bits,
        }
    }

    fn tenant(networks: &[Network]) -> TenantPlan {
        TenantPlan {
            connections_max: None,
            networks: networks.to_vec(),
        }
    }

    fn refusal(plan: &Plan) -> String {
        let missing = check(plan).expect_err("a plan that is refused");
        assert_eq!(missing.piece, "plan");
        missing.detail
    }

    #[test]
    fn an_address_belongs_to_one_account() {
        let mut plan = Plan {
            accounts: vec![account(&["127.0.7.1"]), account(&["127.0.7.2", "fd00::1"])],
            ..Plan::default()
        };
        assert_eq!(check(&plan), Ok(()));
        plan.accounts[1] = account(&["127.0.7.2", "127.0.7.1"]);
        assert_eq!(refusal(&plan), "127.0.7.1 is at account 0 and at account 1");
        plan.accounts[1] = account(&["fd00::1", "fd00::1"]);
        assert_eq!(refusal(&plan), "account 1 has fd00::1 twice");
        plan.accounts[1] = account(&["::ffff:127.0.7.1"]);
        assert!(refusal(&plan).contains("written as an IPv6 one"));
        plan.accounts[1] = account(&[]);
        assert_eq!(refusal(&plan), "account 1 has no address");
    }

    #[test]
    fn a_network_belongs_to_one_tenant_and_has_no_bits_behind_it() {
        let plan = |first: &[Network], second: &[Network]| Plan {
            tenants: vec![tenant(first), tenant(second)],
            ..Plan::default()
        };
        let (narrow, wide) = (network("10.1.0.0", 16), network("10.0.0.0", 8));
        assert_eq!(check(&plan(&[wide, wide], &[narrow])), Ok(()));
        let both = refusal(&plan(&[wide], &[narrow, wide]));
        assert_eq!(both, "10.0.0.0/8 is at tenant 0 and at tenant 1");
        for (address, bits) in [("10.1.0.0", 8), ("10.0.0.0", 33), ("fd00::1", 64)] {
            let refused = refusal(&plan(&[network(address, bits)], &[]));
            assert_eq!(refused, format!("{address}/{bits} is not a network"));
        }
        for (address, bits) in [("0.0.0.0", 0), ("::", 0), ("fd00::1", 128)] {
            assert_eq!(check(&plan(&[network(address, bits)], &[])), Ok(()));
        }
    }

    #[test]
    fn more_than_the_maps_hold_and_caps_of_nothing_are_refused() {
        let workers = Plan {
            workers: abi::WORKERS_MAX + 1,
            ..Plan::default()
        };
        assert!(refusal(&workers).starts_with("257 workers"));
        let capped = Plan {
            source_connections_max: Some(0),
            ..Plan::default()
        };
        assert_eq!(refusal(&capped), "a cap of no connections at all");
    }

    #[test]
    fn addresses_of_an_account_stand_by_family() {
        let plan = Plan {
            accounts: vec![
                account(&["fd00::1", "127.0.7.1"]),
                account(&["127.0.7.2", "fd00::2", "127.0.7.3"]),
            ],
            ..Plan::default()
        };
        let second = accounts(&plan)[1];
        assert_eq!((second.ipv4_first, second.ipv4_count), (2, 2));
        assert_eq!((second.ipv6_first, second.ipv6_count), (4, 1));
        let addresses = addresses(&plan);
        for (number, account) in plan.accounts.iter().enumerate() {
            for address in &account.egress {
                let index = plan.address_index(number, *address).expect("an index");
                let entry = addresses[index as usize];
                assert_eq!(entry.address, address_bytes(*address));
                assert_eq!(entry.account as usize, number);
            }
        }
    }

    #[test]
    fn a_control_destination_with_two_ports_is_allowed_with_any() {
        let at = |address: &str| ControlDestination {
            address: address.parse().expect("an address"),
        };
        let plan = Plan {
            control_destinations: vec![
                at("10.0.0.1:53"),
                at("10.0.0.1:443"),
                at("10.0.0.2:53"),
                at("10.0.0.2:53"),
            ],
            ..Plan::default()
        };
        let mut ports: Vec<(u8, u32)> = control(&plan)
            .into_iter()
            .map(|(key, port)| (key.address[15], port))
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, [(1, 0), (2, 53)]);
    }
}
