//! One account on the board: its breaker, those of its addresses, and the operator's word.

use super::latency::Latency;
use super::word::{Gate, WishGate, WishWord};
use super::{Override, Record, Wish};
use crate::config::policy::Account;
use crate::health::breaker::{Breaker, BreakerRecord, Rules};
use crate::health::moment::Moment;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What all threads share about one account. The words are read far more often than they are written.
#[repr(align(128))]
pub(super) struct Shared {
    pub(super) gate: Gate,
    pub(super) wish: WishGate,
    pub(super) paths: Box<[SharedPath]>,
    /// What applies where the operator has said nothing.
    pub(super) configured: Wish,
    pub(super) latency: Latency,
    locked: Mutex<Locked>,
}

/// The same about one of its addresses.
pub(super) struct SharedPath {
    pub(super) address: IpAddr,
    pub(super) gate: Gate,
    completed: Completed,
}

/// Requests that went well: on a cache line of its own, for it is written with every one of them.
#[derive(Default)]
#[repr(align(128))]
struct Completed(AtomicU64);

/// What changes only under the lock. Nothing that runs under it can leave it half done: after a panic it is used on.
pub(super) struct Locked {
    pub(super) breaker: Breaker,
    pub(super) paths: Box<[Breaker]>,
    pub(super) operator: Option<Override>,
}

impl Shared {
    pub(super) fn new(settings: &Account) -> Self {
        let configured = if settings.enabled {
            Wish::Enabled
        } else {
            Wish::Disabled
        };
        let paths = settings.egress.iter().map(|&address| SharedPath {
            address,
            gate: Gate::default(),
            completed: Completed::default(),
        });
        Self {
            gate: Gate::default(),
            wish: WishGate::new(WishWord::new(configured, None, configured)),
            paths: paths.collect(),
            configured,
            latency: Latency::default(),
            locked: Mutex::new(Locked {
                breaker: Breaker::default(),
                paths: settings.egress.iter().map(|_| Breaker::default()).collect(),
                operator: None,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that went well.
    pub(super) fn complete(&self, address: usize) {
        self.paths[address]
            .completed
            .0
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Requests from one address that went well.
    pub(super) fn completed_from(&self, address: usize) -> u64 {
        self.paths[address].completed.0.load(Ordering::Relaxed)
    }

    /// Requests that went well, from all addresses. Only who has failed asks for it.
    pub(super) fn completed(&self) -> u64 {
        (0..self.paths.len())
            .map(|address| self.completed_from(address))
            .fold(0, u64::wrapping_add)
    }

    /// Shows readers the account's own breaker and the one of this address.
    pub(super) fn publish(&self, locked: &Locked, address: usize, rules: &Rules) {
        self.publish_own(locked, rules);
        self.publish_path(locked, address, rules);
    }

    pub(super) fn publish_all(&self, locked: &Locked, rules: &Rules) {
        self.publish_own(locked, rules);
        for address in 0..self.paths.len() {
            self.publish_path(locked, address, rules);
        }
    }

    /// Shows readers what the operator wants.
    pub(super) fn publish_wish(&self, locked: &Locked) {
        let word = match &locked.operator {
            Some(said) => WishWord::new(said.wish, said.until, self.configured),
            None => WishWord::new(self.configured, None, self.configured),
        };
        self.wish.publish(word);
    }

    fn publish_own(&self, locked: &Locked, rules: &Rules) {
        self.gate.publish(&locked.breaker, rules);
    }

    fn publish_path(&self, locked: &Locked, address: usize, rules: &Rules) {
        self.paths[address]
            .gate
            .publish(&locked.paths[address], rules);
    }

    pub(super) fn record(&self) -> Record {
        let locked = self.lock();
        let addresses = self.paths.iter().zip(&locked.paths);
        Record {
            operator: locked.operator.clone(),
            account: locked.breaker.record(),
            addresses: addresses
                .map(|(path, breaker)| (path.address, breaker.record()))
                .collect(),
            latency: self.latency.record(),
        }
    }

    /// What was learned in this run is worth more than what was known before it.
    pub(super) fn restore(&self, record: &Record, now: Moment, rules: &Rules) {
        let mut locked = self.lock();
        if locked.operator.is_none() {
            locked.operator.clone_from(&record.operator);
            self.publish_wish(&locked);
        }
        restore_breaker(&mut locked.breaker, record.account, now, rules);
        for (path, breaker) in self.paths.iter().zip(&mut locked.paths) {
            let known = record.addresses.iter();
            for (_, kept) in known.filter(|(address, _)| *address == path.address) {
                restore_breaker(breaker, *kept, now, rules);
            }
        }
        self.publish_all(&locked, rules);
        if let Some(latency) = record.latency {
            self.latency.restore(latency, now);
        }
    }
}

fn restore_breaker(breaker: &mut Breaker, kept: BreakerRecord, now: Moment, rules: &Rules) {
    if breaker.record() == BreakerRecord::default() {
        *breaker = Breaker::restore(kept, rules, now);
    }
}
