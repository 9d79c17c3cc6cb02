//! Idle connections hold places that somebody may need: whoever lacks one calls, and each worker lets go of some at its next
//! tick. Nobody is woken for it.

use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Who lacks a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// A tenant that has as many connections to providers as it may have.
    Tenant(TenantId),
    /// An account that has as many connections as it may have.
    Account(AccountId),
}

/// What was called for, and who has heard it. One per process.
pub struct Shortages {
    calls: AtomicU64,
    /// By account: places called for so far.
    accounts: Box<[AtomicU64]>,
    /// By worker: the last call that it has heard.
    heard: Box<[AtomicU64]>,
}

impl Shortages {
    pub(super) fn new(policy: &Policy) -> Self {
        let zeroes = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            calls: AtomicU64::new(0),
            accounts: zeroes(policy.accounts.len()),
            heard: zeroes(policy.node.workers),
        }
    }

    /// Asks every worker to let go of idle connections; returns the call's number.
    pub fn call(&self, short: Short) -> u64 {
        // What is called for must be there before the number that leads others to it.
        if let Short::Account(account) = short {
            self.accounts[usize::from(account.0)].fetch_add(1, Ordering::AcqRel);
        }
        self.calls.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The last call.
    pub fn last_call(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    /// Places that were called for in this account so far.
    pub fn places_called_for(&self, account: AccountId) -> u64 {
        self.accounts[usize::from(account.0)].load(Ordering::Acquire)
    }

    /// This worker has done what all calls up to this one asked for. One that has ended says so of all that may come.
    pub fn note_heard(&self, worker: u32, call: u64) {
        self.heard[worker as usize].store(call, Ordering::Release);
    }

    /// Has every worker heard this call?
    pub fn was_heard(&self, call: u64) -> bool {
        self.heard
            .iter()
            .all(|heard| heard.load(Ordering::Acquire) >= call)
    }
}
