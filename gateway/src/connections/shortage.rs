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

/// What is called for, and who has heard it. One per process.
pub struct Shortages {
    calls: AtomicU64,
    /// Places that requests wait for, of their tenants.
    tenants_waiting: AtomicU64,
    /// By account: places that requests wait for.
    accounts_waiting: Box<[AtomicU64]>,
    /// By worker: the last call that it has heard.
    heard: Box<[AtomicU64]>,
}

/// A call for a place. As long as it stands nothing becomes idle that could be in its way.
pub struct Call {
    shortages: &'static Shortages,
    short: Short,
    places: u64,
    number: u64,
}

impl Shortages {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            calls: AtomicU64::new(0),
            tenants_waiting: AtomicU64::new(0),
            accounts_waiting: policy.accounts.iter().map(|_| AtomicU64::new(0)).collect(),
            heard: (0..policy.node.workers)
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Asks every worker to let go of idle connections, of so many of an account.
    pub fn call(&'static self, short: Short, places: u64) -> Call {
        // What is called for is there before the number that leads the others to it.
        self.waiting(short).fetch_add(places, Ordering::SeqCst);
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        Call {
            shortages: self,
            short,
            places,
            number,
        }
    }

    /// The last call.
    pub fn last_call(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many of such places are waited for? Costs a load.
    pub fn waited_for(&self, short: Short) -> u64 {
        self.waiting(short).load(Ordering::SeqCst)
    }

    /// Does anybody wait for such a place? Costs a load.
    pub fn is_waited_for(&self, short: Short) -> bool {
        self.waited_for(short) > 0
    }

    /// This worker has done what all calls up to this one asked for. One that has ended says so of all that may come.
    pub fn note_heard(&self, worker: u32, call: u64) {
        self.heard[worker as usize].store(call, Ordering::SeqCst);
    }

    fn waiting(&self, short: Short) -> &AtomicU64 {
        match short {
            Short::Tenant(_) => &self.tenants_waiting,
            Short::Account(account) => &self.accounts_waiting[usize::from(account.0)],
        }
    }
}

impl Call {
    /// Has every worker heard it?
    pub fn was_heard(&self) -> bool {
        let mut heard = self.shortages.heard.iter();
        heard.all(|heard| heard.load(Ordering::SeqCst) >= self.number)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let waiting = self.shortages.waiting(self.short);
        waiting.fetch_sub(self.places, Ordering::SeqCst);
    }
}
