//! Where requests wait while all accounts of an upstream are busy: bounded, and fair between tenants.
//!
//! The order is that of start-time fair queueing: each place that a tenant is given costs it one unit of virtual time, and who has
//! had the least comes first. A tenant with a hundred requests waiting does not keep one with a single request from being next.

mod room;

use crate::config::Policy;
use crate::config::policy::{TenantId, UpstreamId};
use room::{Bounds, Room};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The waiting rooms of all upstreams. One per process; only who has to wait takes its lock.
pub struct WaitingRooms {
    rooms: Box<[SharedRoom]>,
    bounds: Bounds,
}

/// On a cache line of its own: each request reads the count.
#[derive(Default)]
#[repr(align(128))]
struct SharedRoom {
    /// Written under the lock, read without.
    count: AtomicUsize,
    room: Mutex<Room>,
}

/// A place in a waiting room; given back when dropped.
pub struct Ticket {
    room: &'static SharedRoom,
    tenant: TenantId,
    number: u64,
    is_served: bool,
}

impl WaitingRooms {
    /// All empty.
    pub fn new(policy: &Policy) -> Self {
        let bounds = Bounds {
            waiting_max: policy.limits.queue_max,
            per_tenant_max: policy.limits.queue_per_tenant_max,
        };
        Self::of(policy.upstreams.len(), bounds)
    }

    fn of(upstreams: usize, bounds: Bounds) -> Self {
        Self {
            rooms: (0..upstreams).map(|_| SharedRoom::default()).collect(),
            bounds,
        }
    }

    /// Nobody waits there. Otherwise, who comes now has to wait too. One load.
    pub fn is_empty(&self, upstream: UpstreamId) -> bool {
        self.count(upstream) == 0
    }

    /// Requests that wait there.
    pub fn count(&self, upstream: UpstreamId) -> usize {
        self.room(upstream).count.load(Ordering::Relaxed)
    }

    /// A place behind those of the same tenant, and between those of the others. `None`: there is none left, for all or for this tenant.
    pub fn enter(&'static self, upstream: UpstreamId, tenant: TenantId) -> Option<Ticket> {
        let shared = self.room(upstream);
        let number = shared.change(|room| room.enter(tenant, self.bounds))?;
        Some(Ticket {
            room: shared,
            tenant,
            number,
            is_served: false,
        })
    }

    fn room(&self, upstream: UpstreamId) -> &SharedRoom {
        &self.rooms[usize::from(upstream.0)]
    }
}

impl SharedRoom {
    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Room) -> T) -> T {
        let mut room = self.lock();
        let changed = change(&mut room);
        self.count.store(room.count(), Ordering::Relaxed);
        changed
    }
}

impl Ticket {
    /// Is it among the first so many? Those may look whether an account has a place for them.
    pub fn is_among_first(&self, count: usize) -> bool {
        self.room.lock().is_among_first(self.number, count)
    }

    /// It looked, and none of the free places is one that it can use: those behind it may look past it until it stands in line again
    /// with [`Self::is_among_first`]. A request that only one account can serve does not hold up the others in this way.
    pub fn step_aside(&self) {
        self.room.lock().step_aside(self.number);
    }

    /// It has got what it waited for, which its tenant is charged for. A ticket that is merely dropped has waited in vain, and
    /// the tenant's next ones move up.
    pub fn served(mut self) {
        self.is_served = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.room.change(|room| {
            if self.is_served {
                room.serve(self.tenant, self.number);
            } else {
                room.leave(self.tenant, self.number);
            }
        });
    }
}
