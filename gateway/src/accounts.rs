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

    /// Takes a place in the least busy of `candidates` that were not `tried` (by requests in flight and weight); accounts of
    /// this node's region come first, whatever the others have free. `None` if all of them are full.
    pub fn take_slot(
        &self,
        policy: &Policy,
        in_flight: &'static InFlight,
        candidates: &[AccountId],
        tried: &[AccountId],
    ) -> Option<Slot> {
        loop {
            let account = self.least_busy(policy, in_flight, candidates, tried)?;
            let settings = policy.account(account);
            if let Some(place) = in_flight.enter_account(account, settings.max_concurrent) {
                return Some(Slot {
                    account,
                    source: self.next_address(account, settings),
                    _place: place,
                });
            }
            // Another worker took the last place meanwhile: the account counts as full now.
        }
    }

    fn least_busy(
        &self,
        policy: &Policy,
        in_flight: &'static InFlight,
        candidates: &[AccountId],
        tried: &[AccountId],
    ) -> Option<AccountId> {
        // Equally busy ones take turns: the search begins one further each time.
        let turn = self.accounts.get();
        self.accounts.set(turn.wrapping_add(1));
        let (before, from) = candidates.split_at(turn as usize % candidates.len().max(1));
        let mut best: Option<(bool, f64, AccountId)> = None;
        for &account in from.iter().chain(before) {
            let settings = policy.account(account);
            let busy = in_flight.of_account(account);
            if busy >= settings.max_concurrent || tried.contains(&account) {
                continue;
            }
            let is_far = settings.region != policy.node.region;
            let load = f64::from(busy + 1) / f64::from(settings.weight);
            if best.is_none_or(|(far, least, _)| (is_far, load) < (far, least)) {
                best = Some((is_far, load, account));
            }
        }
        best.map(|(_, _, account)| account)
    }

    fn next_address(&self, account: AccountId, settings: &Account) -> IpAddr {
        let turn = &self.addresses[usize::from(account.0)];
        turn.set(turn.get().wrapping_add(1));
        settings.egress[turn.get() as usize % settings.egress.len()]
    }
}
