//! Who holds how many connections, over all workers: a tenant on either side, an account, a source address.
//!
//! Where the kernel counts, a socket is told whose it is, and its programs say no; the place is given back when the socket
//! ends, whatever becomes of this process. Where it does not, the same is counted here, with the same answers: a place is a
//! value that stands beside its socket and is dropped with it.
//!
//! A tenant without a cap has no connections to providers of its own: they are the account's alone, so that a kept connection
//! need not change hands from request to request.

mod inbound;
mod shortage;
mod sources;
mod upstream;

pub use inbound::Inbound;
pub use shortage::{Call, Short, Shortages};
pub use upstream::UpstreamPlaces;

use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use crate::limits::Counter;
use relay_ebpf::Live;
use relay_ebpf::abi::errno;
use sources::Sources;
use std::net::IpAddr;

/// Who holds how many connections. One per process; lives as long as the process.
pub struct Connections {
    tenant_caps: Box<[Option<u32>]>,
    account_caps: Box<[Option<u32>]>,
    counts: Counts,
    /// Who lacks a place that an idle connection could give up.
    pub shortages: Shortages,
}

enum Counts {
    Kernel(KernelCounts),
    Here(OwnCounts),
}

/// The kernel's, which are changed by options of sockets.
struct KernelCounts {
    live: Live,
    /// By account: its addresses and their numbers.
    addresses: Box<[Vec<(IpAddr, u32)>]>,
}

/// Our own.
struct OwnCounts {
    tenants_inbound: Box<[Counter]>,
    tenants_upstream: Box<[Counter]>,
    accounts: Box<[Counter]>,
    sources: Option<Sources>,
}

/// Why a connection may not be opened, or not be used for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The tenant has as many as it may have.
    TenantFull,
    /// The account has as many as it may have.
    AccountFull,
    /// Hardly a port is left for its address and destination.
    PortsShort,
    /// The account's address is not to be had, or the kernel cannot tell whose the socket is.
    Refused,
}

impl Connections {
    /// No connections yet. `kernel`: its counts, if it counts.
    pub fn new(policy: &Policy, kernel: Option<Live>) -> Self {
        let counters = |count: usize| (0..count).map(|_| Counter::default()).collect();
        let counts = match kernel {
            Some(live) => Counts::Kernel(KernelCounts {
                live,
                addresses: upstream::numbered_addresses(policy),
            }),
            None => Counts::Here(OwnCounts {
                tenants_inbound: counters(policy.tenants.len()),
                tenants_upstream: counters(policy.tenants.len()),
                accounts: counters(policy.accounts.len()),
                sources: policy.limits.connections_per_source.map(Sources::new),
            }),
        };
        let tenants = policy.tenants.iter();
        let accounts = policy.accounts.iter();
        Self {
            tenant_caps: tenants.map(|tenant| tenant.connections).collect(),
            account_caps: accounts.map(|account| account.max_connections).collect(),
            counts,
            shortages: Shortages::new(policy),
        }
    }

    /// Client connections of this tenant.
    pub fn tenant_inbound(&self, tenant: TenantId) -> u64 {
        match &self.counts {
            Counts::Kernel(kernel) => kernel.live.tenant_inbound(u32::from(tenant.0)),
            Counts::Here(own) => own.tenants_inbound[usize::from(tenant.0)].taken().into(),
        }
    }

    /// Connections to providers that are this tenant's; none where it has no cap.
    pub fn tenant_upstream(&self, tenant: TenantId) -> u64 {
        match &self.counts {
            Counts::Kernel(kernel) => kernel.live.tenant_upstream(u32::from(tenant.0)),
            Counts::Here(own) => own.tenants_upstream[usize::from(tenant.0)].taken().into(),
        }
    }

    /// Connections of this account.
    pub fn account(&self, account: AccountId) -> u64 {
        match &self.counts {
            Counts::Kernel(kernel) => kernel.live.account(u32::from(account.0)),
            Counts::Here(own) => own.accounts[usize::from(account.0)].taken().into(),
        }
    }

    fn tenant_cap(&self, tenant: TenantId) -> Option<u32> {
        self.tenant_caps[usize::from(tenant.0)]
    }

    fn account_cap(&self, account: AccountId) -> Option<u32> {
        self.account_caps[usize::from(account.0)]
    }
}

/// What an error means that the kernel's programs gave to an option or to a connect; `None`: it is not one of theirs.
pub fn said_by_programs(error: &std::io::Error) -> Option<Denied> {
    match error.raw_os_error()? {
        errno::FULL => Some(Denied::TenantFull),
        errno::ACCOUNT_FULL => Some(Denied::AccountFull),
        errno::PORTS_SHORT => Some(Denied::PortsShort),
        errno::REFUSED | errno::ADDRESS_MISSING | errno::FAMILY_MISSING => Some(Denied::Refused),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
