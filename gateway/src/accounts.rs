//! The operator's accounts as one worker sees them: which are free, and whose turn it is.

use crate::affinity::Affinity;
use crate::budget::RetryBudgets;
use crate::config::Policy;
use crate::config::policy::{Account, AccountId};
use crate::health::{Clock, Health};
use crate::limits::{InFlight, Place};
use crate::waiting::WaitingRooms;
use std::cell::Cell;
use std::net::IpAddr;

/// What all threads share about the accounts. One per process; lives as long as the process.
pub struct Accounts {
    /// How they are.
    pub health: Health,
    /// Which conversations and stored responses are whose.
    pub affinity: Affinity,
    /// Requests that wait for one of them.
    pub rooms: WaitingRooms,
    /// Further attempts that are left.
    pub budgets: RetryBudgets,
}

impl Accounts {
    /// Everybody is well, nobody waits.
    pub fn new(policy: &Policy) -> Self {
        Self {
            health: Health::new(policy, Clock::start()),
            affinity: Affinity::new(policy.limits.stored_responses_max),
            rooms: WaitingRooms::new(policy),
            budgets: RetryBudgets::new(policy),
        }
    }
}

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
            if let Some(place) = in_flight.enter_account(account, requests_max(settings)) {
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
            if busy >= requests_max(settings) || tried.contains(&account) {
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

/// Each request in flight needs a connection of its own: where an account has no more of them, another one is asked at once.
fn requests_max(settings: &Account) -> u32 {
    let connections_max = settings.max_connections.unwrap_or(u32::MAX);
    settings.max_concurrent.min(connections_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    /// Accounts 0 and 1 are near, the second with three times the weight; account 2 is in another region.
    fn three_accounts() -> (Policy, &'static InFlight) {
        let text = r#"
            [node]
            region = "near"
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "light"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.1", "127.0.7.2"]
            region = "near"
            max_concurrent = 4
            [[account]]
            name = "heavy"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.3"]
            region = "near"
            weight = 3
            max_concurrent = 4
            [[account]]
            name = "far"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.4"]
            region = "elsewhere"
            max_concurrent = 1
        "#;
        let environment = |_: &str| Some("sk-test".into());
        let loaded = config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let in_flight = Box::leak(Box::new(InFlight::new(&loaded.policy)));
        (loaded.policy, in_flight)
    }

    const ALL: [AccountId; 3] = [AccountId(0), AccountId(1), AccountId(2)];

    #[test]
    fn places_are_filled_by_weight_then_far_away_then_not_at_all() {
        let (policy, in_flight) = three_accounts();
        let turns = Turns::new(&policy);
        let mut slots = Vec::new();
        let mut order = Vec::new();
        while let Some(slot) = turns.take_slot(&policy, in_flight, &ALL, &[]) {
            order.push(slot.account.0);
            slots.push(slot);
        }
        let heavy_first_four = order[..4].iter().filter(|&&account| account == 1).count();
        assert_eq!(heavy_first_four, 3, "a weight of 3 against 1: {order:?}");
        assert_eq!(order.len(), 4 + 4 + 1, "every place once: {order:?}");
        assert_eq!(order[8], 2, "the other region last: {order:?}");
        drop(slots);
        assert!(
            turns
                .take_slot(&policy, in_flight, &ALL, &[])
                .is_some_and(|slot| slot.account.0 != 2)
        );
    }

    #[test]
    fn an_account_that_was_tried_is_not_taken_again() {
        let (policy, in_flight) = three_accounts();
        let turns = Turns::new(&policy);
        for _ in 0..10 {
            let slot = turns.take_slot(&policy, in_flight, &ALL, &ALL[..2]);
            assert_eq!(slot.map(|slot| slot.account), Some(AccountId(2)));
        }
        assert!(turns.take_slot(&policy, in_flight, &ALL, &ALL).is_none());
        assert!(turns.take_slot(&policy, in_flight, &[], &[]).is_none());
    }

    #[test]
    fn an_accounts_own_addresses_take_turns() {
        let (policy, in_flight) = three_accounts();
        let turns = Turns::new(&policy);
        let sources: Vec<_> = (0..4)
            .filter_map(|_| turns.take_slot(&policy, in_flight, &ALL[..1], &[]))
            .map(|slot| slot.source.to_string())
            .collect();
        assert_eq!(
            sources
                .iter()
                .filter(|source| *source == "127.0.7.1")
                .count(),
            2,
            "{sources:?}"
        );
        assert_eq!(
            sources
                .iter()
                .filter(|source| *source == "127.0.7.2")
                .count(),
            2,
            "{sources:?}"
        );
    }
}
