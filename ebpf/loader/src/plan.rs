//! What the maps are filled from: tenants, accounts and addresses by number.

use relay_ebpf_abi::option::Tag;
use std::net::{IpAddr, SocketAddr};

/// Everything that the programs have to know. Tenants and accounts are numbered by their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The tenants.
    pub tenants: Vec<TenantPlan>,
    /// The accounts.
    pub accounts: Vec<AccountPlan>,
    /// Connections of one source address at most.
    pub source_connections_max: Option<u32>,
    /// Where the gateway itself may connect to, without an account.
    pub control_destinations: Vec<ControlDestination>,
    /// Workers.
    pub workers: u32,
}

/// A tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPlan {
    /// Connections at most, on the client's side and on the provider's each.
    pub connections_max: Option<u32>,
    /// Networks from which only this tenant connects.
    pub networks: Vec<Network>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPlan {
    /// Connections at most.
    pub connections_max: Option<u32>,
    /// Its own addresses, at least one.
    pub egress: Vec<IpAddr>,
}

/// A network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that all of its addresses share, 0 to 32 or to 128.
    pub prefix_bits: u8,
}

/// Where the gateway itself may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlDestination {
    /// Address and port.
    pub address: SocketAddr,
}

/// An egress address, by its number in `ADDRESSES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedAddress {
    /// Its number, by which a tag asks for it.
    pub number: u32,
    /// The account's number.
    pub account: u32,
    /// The address.
    pub address: IpAddr,
}

impl Plan {
    /// All egress addresses in the order of their numbers, which begin at 0: account by account, of each the IPv4 addresses
    /// before the IPv6 ones, and those of a family in the order of the plan.
    pub fn addresses(&self) -> impl Iterator<Item = NumberedAddress> {
        let accounts = (0_u32..).zip(&self.accounts);
        let in_order = accounts.flat_map(|(account, one)| {
            let (ipv4, ipv6): (Vec<IpAddr>, Vec<IpAddr>) =
                one.egress.iter().partition(|address| address.is_ipv4());
            let in_order = ipv4.into_iter().chain(ipv6);
            in_order.map(move |address| (account, address))
        });
        (0..)
            .zip(in_order)
            .map(|(number, (account, address))| NumberedAddress {
                number,
                account,
                address,
            })
    }

    /// Number of an account's address; none if there is no such account, or if it has no such address.
    pub fn address_index(&self, account: usize, address: IpAddr) -> Option<u32> {
        let mut addresses = self.addresses();
        let found =
            addresses.find(|one| one.account as usize == account && one.address == address)?;
        Some(found.number)
    }

    /// The tag of a connection.
    pub fn tag(tenant: Option<u32>, account: u32, address: u32) -> Tag {
        Tag {
            tenant: tenant.unwrap_or(relay_ebpf_abi::NOBODY),
            account,
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_are_numbered_by_account_and_family() {
        let account = |egress: &[&str]| AccountPlan {
            connections_max: None,
            egress: egress.iter().map(|one| address(one)).collect(),
        };
        let plan = Plan {
            accounts: vec![
                account(&["fd00::1", "127.0.7.1"]),
                account(&["127.0.7.2", "fd00::2", "127.0.7.3"]),
            ],
            ..Plan::default()
        };
        let all: Vec<_> = plan
            .addresses()
            .map(|one| (one.number, one.account, one.address.to_string()))
            .collect();
        let expected = [
            (0, 0, "127.0.7.1"),
            (1, 0, "fd00::1"),
            (2, 1, "127.0.7.2"),
            (3, 1, "127.0.7.3"),
            (4, 1, "fd00::2"),
        ];
        let expected = expected.map(|(number, account, one)| (number, account, one.to_owned()));
        assert_eq!(all, expected);
        assert_eq!(plan.address_index(1, address("fd00::2")), Some(4));
        assert_eq!(plan.address_index(0, address("fd00::2")), None);
        assert_eq!(plan.address_index(2, address("fd00::2")), None);
    }
}
