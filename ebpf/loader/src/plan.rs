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

impl Plan {
    /// All egress addresses in the order of their index, with the account of each.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        let accounts = (0_u32..).zip(&self.accounts);
        accounts.flat_map(|(account, one)| {
            let (ipv4, ipv6): (Vec<IpAddr>, Vec<IpAddr>) =
                one.egress.iter().partition(|address| address.is_ipv4());
            let in_order = ipv4.into_iter().chain(ipv6);
            in_order.map(move |address| (address, account))
        })
    }

    /// Index of the first address of each account in `ADDRESSES`: IPv4 addresses before IPv6 ones, each in the order of
    /// the plan.
    pub fn address_index(&self, account: usize, address: IpAddr) -> Option<u32> {
        let first: usize = self.accounts[..account]
            .iter()
            .map(|one| one.egress.len())
            .sum();
        let own = &self.accounts[account].egress;
        let in_order = own
            .iter()
            .filter(|one| one.is_ipv4())
            .chain(own.iter().filter(|one| one.is_ipv6()));
        let offset = in_order.copied().position(|one| one == address)?;
        u32::try_from(first + offset).ok()
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
