//! What ties a request to an account: its conversation, or a response that is stored there.

use crate::config::policy::{AccountId, TenantId};

/// Conversations and stored responses by their hashes. One per process, shared by all threads without a lock.
pub struct Affinity {
    _capacity: usize,
}

/// A stored response whose account has just been learned, for what is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The hash of tenant and response.
    pub response: u64,
    /// Where it is stored.
    pub account: AccountId,
}

impl Affinity {
    /// Nothing is known. `capacity`: stored responses that are remembered, a power of two.
    pub fn new(capacity: usize) -> Self {
        Self {
            _capacity: capacity,
        }
    }

    /// The hash of a conversation of this tenant; the same on every node and after every restart.
    pub fn conversation(&self, tenant: TenantId, tenant_name: &str, key: &[u8]) -> u64 {
        let _ = (tenant, tenant_name, key);
        0
    }

    /// Remembers that this tenant's response is stored at this account.
    pub fn learn(&self, tenant_name: &str, response_id: &[u8], account: AccountId) {
        let _ = (tenant_name, response_id, account);
    }

    /// The account that stores this tenant's response, as far as it is known.
    pub fn owner(&self, tenant_name: &str, response_id: &[u8]) -> Option<AccountId> {
        let _ = (tenant_name, response_id);
        None
    }

    /// Takes over what was known when the process ended last.
    pub fn restore(&self, learned: Learned) {
        let _ = learned;
    }

    /// What was learned since it was last asked; the oldest are lost where nobody asks.
    pub fn take_learned(&self) -> Vec<Learned> {
        Vec::new()
    }
}
