//! Connections to providers: an account's, and of a tenant with a cap as long as they serve it.

use super::{Connections, Counts, Denied, said_by_programs};
use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use crate::limits::Place;
use relay_ebpf::Plan;
use relay_ebpf::abi::option;
use relay_io::{Origin, SocketOption, Stream};
use std::net::IpAddr;

/// Whose a connection to a provider is. The places go when it is dropped, or, by the kernel, when the socket is closed.
pub struct UpstreamPlaces {
    connections: &'static Connections,
    account: AccountId,
    /// The number of its source address, where the kernel counts.
    address: u32,
    tenant: Option<TenantId>,
    tenant_place: Option<Place>,
    _account_place: Option<Place>,
}

impl Connections {
    /// The tenant whose connections to providers are counted: nobody, where it has no cap.
    pub fn counted(&self, tenant: TenantId) -> Option<TenantId> {
        self.tenant_cap(tenant).map(|_| tenant)
    }

    /// Places for one more connection of this account from this address, for this tenant if it is one that is `counted`; and
    /// what to connect with.
    ///
    /// # Errors
    /// A cap is reached. Where the kernel counts, `connect` tells it.
    pub fn begin_upstream(
        &'static self,
        tenant: Option<TenantId>,
        account: AccountId,
        source: IpAddr,
    ) -> Result<(Origin, UpstreamPlaces), Denied> {
        let mut places = UpstreamPlaces {
            connections: self,
            account,
            address: 0,
            tenant,
            tenant_place: None,
            _account_place: None,
        };
        let origin = match &self.counts {
            Counts::Kernel(kernel) => {
                let own = &kernel.addresses[usize::from(account.0)];
                let known = own.iter().find(|(address, _)| *address == source);
                places.address = known.ok_or(Denied::Refused)?.1;
                let option = places.tag(tenant);
                Origin::Option { option, source }
            }
            Counts::Here(own) => {
                places.tenant_place = self.place_of(tenant)?;
                let cap = self.account_cap(account).unwrap_or(u32::MAX);
                let place = own.accounts[usize::from(account.0)].enter(cap);
                places._account_place = Some(place.ok_or(Denied::AccountFull)?);
                Origin::Address(source)
            }
        };
        Ok((origin, places))
    }

    /// A place among our own counts.
    fn place_of(&'static self, tenant: Option<TenantId>) -> Result<Option<Place>, Denied> {
        let (Some(tenant), Counts::Here(own)) = (tenant, &self.counts) else {
            return Ok(None);
        };
        let cap = self.tenant_cap(tenant).unwrap_or(u32::MAX);
        let place = own.tenants_upstream[usize::from(tenant.0)].enter(cap);
        Ok(Some(place.ok_or(Denied::TenantFull)?))
    }
}

impl UpstreamPlaces {
    /// The account that it belongs to.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Whose the connection is besides the account's.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// From now on the connection is this tenant's, or nobody's. Costs nothing if it is already.
    ///
    /// # Errors
    /// The tenant has as many as it may have: the connection stays whose it was. Or the kernel does not know the socket: then it
    /// must not be used.
    pub fn assign(&mut self, stream: &Stream, tenant: Option<TenantId>) -> Result<(), Denied> {
        if self.tenant == tenant {
            return Ok(());
        }
        match &self.connections.counts {
            Counts::Kernel(_) => stream
                .set_option(&self.tag(tenant))
                .map_err(|error| said_by_programs(&error).unwrap_or(Denied::Refused))?,
            Counts::Here(_) => self.tenant_place = self.connections.place_of(tenant)?,
        }
        self.tenant = tenant;
        Ok(())
    }

    fn tag(&self, tenant: Option<TenantId>) -> SocketOption {
        let tenant = tenant.map(|tenant| u32::from(tenant.0));
        let tag = Plan::tag(tenant, u32::from(self.account.0), self.address);
        SocketOption::new(option::LEVEL, option::TAG, &tag.bytes())
    }
}

/// By account: its addresses with their numbers in the kernel's maps.
pub(super) fn numbered_addresses(policy: &Policy) -> Box<[Vec<(IpAddr, u32)>]> {
    let mut accounts = vec![Vec::new(); policy.accounts.len()];
    // The number of an address depends on nothing but the accounts.
    for one in crate::kernel::plan(policy, "").addresses() {
        accounts[one.account as usize].push((one.address, one.number));
    }
    accounts.into()
}
