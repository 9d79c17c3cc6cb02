//! How much of each upstream each tenant has: its requests in flight there.

use crate::config::Policy;
use crate::config::policy::{TenantId, UpstreamId};
use crate::limits::{Counter, Place};

/// By tenant, and of its own upstreams alone: all pairs would be far too many.
pub(super) struct Holdings(Box<[OfTenant]>);

struct OfTenant {
    upstreams: Box<[UpstreamId]>,
    /// In the same order.
    counters: Box<[Counter]>,
}

impl Holdings {
    /// Nobody has anything.
    pub(super) fn new(policy: &Policy) -> Self {
        let tenants = policy.tenants.iter();
        Self::of(tenants.map(|tenant| tenant.upstreams.as_slice()))
    }

    pub(super) fn of<'u>(tenants: impl Iterator<Item = &'u [UpstreamId]>) -> Self {
        let of_tenant = |upstreams: &[UpstreamId]| OfTenant {
            upstreams: upstreams.into(),
            counters: upstreams.iter().map(|_| Counter::default()).collect(),
        };
        Self(tenants.map(of_tenant).collect())
    }

    /// One request more, until it is dropped. `None`: the upstream is none of the tenant's.
    pub(super) fn add(&'static self, tenant: TenantId, upstream: UpstreamId) -> Option<Place> {
        self.counter(tenant, upstream).map(Counter::join)
    }

    /// Requests in flight.
    pub(super) fn count(&self, tenant: TenantId, upstream: UpstreamId) -> u64 {
        let counter = self.counter(tenant, upstream);
        counter.map_or(0, |counter| counter.taken().into())
    }

    fn counter(&self, tenant: TenantId, upstream: UpstreamId) -> Option<&Counter> {
        let own = self.0.get(usize::from(tenant.0))?;
        let index = own.upstreams.iter().position(|id| *id == upstream)?;
        own.counters.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_a_count_for_each_of_its_upstreams() {
        let (one, other) = (UpstreamId(0), UpstreamId(1));
        let holdings = Holdings::of([&[other, one][..], &[other]].into_iter());
        let holdings: &'static Holdings = Box::leak(Box::new(holdings));
        let places = [(0, one), (0, other), (0, other), (1, other)]
            .map(|(tenant, upstream)| holdings.add(TenantId(tenant), upstream).unwrap());
        assert!(holdings.add(TenantId(1), one).is_none());
        assert!(holdings.add(TenantId(2), one).is_none());
        let counts = || {
            [(0, one), (0, other), (1, other), (1, one), (2, one)]
                .map(|(tenant, upstream)| holdings.count(TenantId(tenant), upstream))
        };
        assert_eq!(counts(), [1, 2, 1, 0, 0]);
        drop(places);
        assert_eq!(counts(), [0; 5]);
    }
}
