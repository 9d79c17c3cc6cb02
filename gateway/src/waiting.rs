//! Where requests wait while all accounts of an upstream are busy: bounded, and fair between tenants.

use crate::config::Policy;
use crate::config::policy::{TenantId, UpstreamId};

/// The waiting rooms of all upstreams. One per process; only who has to wait takes its lock.
pub struct WaitingRooms {
    _private: (),
}

/// A place in a waiting room; given back when dropped.
pub struct Ticket {
    _private: (),
}

impl WaitingRooms {
    /// All empty.
    pub fn new(_policy: &Policy) -> Self {
        Self { _private: () }
    }

    /// Somebody waits there: who comes now has to wait too. One load.
    pub fn is_empty(&self, _upstream: UpstreamId) -> bool {
        true
    }

    /// Requests that wait there.
    pub fn count(&self, _upstream: UpstreamId) -> usize {
        0
    }

    /// A place behind those of the same tenant, and between those of the others. `None`: there is none left, for all or for this tenant.
    pub fn enter(&'static self, _upstream: UpstreamId, _tenant: TenantId) -> Option<Ticket> {
        None
    }
}

impl Ticket {
    /// Is it among the first so many? Those may look whether an account has a place for them.
    pub fn is_among_first(&self, _count: usize) -> bool {
        true
    }
}
