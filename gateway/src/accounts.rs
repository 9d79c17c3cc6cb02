//! The operator's accounts as one worker sees them: which are free, and whose turn it is.

use crate::config::Policy;
use crate::config::policy::{Account, AccountId};
use crate::limits::{InFlight, Place};
use std::cell::Cell;
use std::net::IpAddr;

/// Turns of one worker: which of an account's addresses is next, and which of several equally busy accounts.
pub struct Turns {
    addresses: Box<[Cell<u32>]>,
    accounts: Cell<u32>,
}

/// An account with a place in it: given back when dropped.
pub struct Slot {
    /// The account.
    pub account: AccountId,
    /// The address from which it is called this time.
    pub source: IpAddr,
    _place: Place,
}

impl Turns {
    /// Nobody had a turn yet.
    pub fn new(policy: &Policy) -> Self {
        Self {
            addresses: policy.accounts.iter().map(|_| Cell::new(0)).collect(),
            accounts: Cell::new(0),
        }
    }

    /// Takes a place in the least busy of `candidates` (by requests in flight and weight); accounts of this node's region come
    /// first, whatever the others have free. `None` if all of them are full.
    pub fn take_slot(
        &self,
        policy: &Policy,
        in_flight: &'static InFlight,
        candidates: &[AccountId],
    ) -> Option<Slot> {
        let mut excluded: u64 = 0;
        loop {
            let (position, account) = self.least_busy(policy, in_flight, candidates, excluded)?;
            let settings = policy.account(account);
            if let Some(place) = in_flight.enter_account(account, settings.max_concurrent) {
                return Some(Slot {
                    account,
                    source: self.next_address(account, settings),
                    _place: place,
                });
            }
            // Another worker took the last place meanwhile.
            excluded |= 1 << (position as u64).min(63);
        }
    }

    fn least_busy(
        &self,
        policy: &Policy,
        in_flight: &'static InFlight,
        candidates: &[AccountId],
        excluded: u64,
    ) -> Option<(usize, AccountId)> {
        let turn = self.accounts.get();
        self.accounts.set(turn.wrapping_add(1));
        let count = candidates.len();
        let mut best: Option<(bool, f64, usize)> = None;
        for offset in 0..count {
            let position = (turn as usize + offset) % count;
            let settings = policy.account(candidates[position]);
            let busy = in_flight.of_account(candidates[position]);
            if busy >= settings.max_concurrent || excluded & (1 << (position as u64).min(63)) != 0 {
                continue;
            }
            let is_far = settings.region != policy.node.region;
            let load = f64::from(busy + 1) / f64::from(settings.weight);
            if best.is_none_or(|(far, least, _)| (is_far, load) < (far, least)) {
                best = Some((is_far, load, position));
            }
        }
        best.map(|(_, _, position)| (position, candidates[position]))
    }

    fn next_address(&self, account: AccountId, settings: &Account) -> IpAddr {
        let turn = &self.addresses[usize::from(account.0)];
        turn.set(turn.get().wrapping_add(1));
        settings.egress[turn.get() as usize % settings.egress.len()]
    }
}
