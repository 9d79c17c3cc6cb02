//! Requests in flight: counters that all workers share, and places in them.
//!
//! A place is taken by compare-and-swap, never by adding first and taking back, so that a cap is never exceeded, not
//! even for a moment.

use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use std::sync::atomic::{AtomicU32, Ordering};

/// Requests in flight to each account, and each tenant's WebSockets. One per process; lives as long as the process.
pub struct InFlight {
    accounts: Box<[Counter]>,
    websockets: Box<[Counter]>,
}

/// A counter on a cache line of its own: workers that count different tenants do not disturb each other.
#[derive(Default)]
#[repr(align(128))]
pub struct Counter(AtomicU32);

/// One place in a counter: given back when dropped.
pub struct Place(&'static Counter);

impl InFlight {
    /// Counters for everybody in the policy, all zero.
    pub fn new(policy: &Policy) -> Self {
        let counters = |count: usize| (0..count).map(|_| Counter::default()).collect();
        Self {
            accounts: counters(policy.accounts.len()),
            websockets: counters(policy.tenants.len()),
        }
    }

    /// A place for one more request to this account, unless `cap` are taken.
    pub fn enter_account(&'static self, account: AccountId, cap: u32) -> Option<Place> {
        self.accounts[usize::from(account.0)].enter(cap)
    }

    /// A place for one more WebSocket of this tenant's, unless `cap` are taken.
    pub fn enter_websocket(&'static self, tenant: TenantId, cap: u32) -> Option<Place> {
        self.websockets[usize::from(tenant.0)].enter(cap)
    }

    /// WebSockets of this tenant's that are open.
    pub fn websockets_of(&self, tenant: TenantId) -> u32 {
        self.websockets[usize::from(tenant.0)].taken()
    }

    /// Requests to this account in flight.
    pub fn of_account(&self, account: AccountId) -> u32 {
        self.accounts[usize::from(account.0)].taken()
    }
}

impl Counter {
    /// Places that are taken.
    pub fn taken(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more place, however many are taken.
    pub fn join(&'static self) -> Place {
        self.0.fetch_add(1, Ordering::AcqRel);
        Place(self)
    }

    /// One more place, unless `cap` are taken.
    pub fn enter(&'static self, cap: u32) -> Option<Place> {
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            if taken >= cap {
                return None;
            }
            match self.0.compare_exchange_weak(
                taken,
                taken + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Place(self)),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_never_exceeded_by_many_threads_and_counts_return_to_zero() {
        let counter: &'static Counter = Box::leak(Box::default());
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(place) = counter.enter(3) {
                            most.fetch_max(counter.0.load(Ordering::SeqCst), Ordering::SeqCst);
                            drop(place);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_last_place_can_be_taken_and_given_back() {
        let counter: &'static Counter = Box::leak(Box::default());
        let place = counter.enter(1);
        assert!(place.is_some());
        assert!(counter.enter(1).is_none());
        drop(place);
        assert!(counter.enter(1).is_some());
        assert!(counter.enter(0).is_none());
        let (one, other) = (counter.join(), counter.join());
        assert_eq!(counter.taken(), 2);
        drop((one, other));
        assert_eq!(counter.taken(), 0);
    }
}
