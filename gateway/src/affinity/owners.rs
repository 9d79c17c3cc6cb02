//! Which account stores which response: a table of fixed size that all threads read and write without a lock.

use super::hash::TENANT_MASK;
use crate::config::policy::AccountId;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Places that a response may take. With 8 of them, hardly anything is lost before the table is nearly full.
const WAYS: usize = 8;

/// An entry is the upper 48 bits of the response's hash, of which eight are the tenant's, and the 16 of its account. One that
/// never was is zero.
pub(super) struct Owners {
    sets: Box<[Set]>,
    /// Which of the ways that may be given up in a full set is the next.
    turn: AtomicU32,
}

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

const ACCOUNT_MASK: u64 = 0xffff;

impl Owners {
    pub(super) fn new(capacity: usize) -> Self {
        let sets = (capacity / WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            turn: AtomicU32::new(0),
        }
    }

    pub(super) fn find(&self, response: u64) -> Option<AccountId> {
        let tag = tag(response);
        self.set(response)
            .0
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
            .find(|entry| entry & !ACCOUNT_MASK == tag)
            .map(|entry| AccountId((entry & ACCOUNT_MASK) as u16))
    }

    /// Says whether that is news.
    pub(super) fn insert(&self, response: u64, account: AccountId) -> bool {
        let tag = tag(response);
        let ways = &self.set(response).0;
        let entry = tag | u64::from(account.0);
        for way in ways {
            let present = way.load(Ordering::Relaxed);
            if present & !ACCOUNT_MASK == tag {
                way.store(entry, Ordering::Relaxed);
                return present != entry;
            }
        }
        let is_placed = ways.iter().any(|way| {
            way.compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
        if !is_placed {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
            let present = ways.each_ref().map(|way| way.load(Ordering::Relaxed));
            ways[given_up(&present, entry, turn)].store(entry, Ordering::Relaxed);
        }
        true
    }

    /// Chosen by the lower bits: the upper ones tell apart what is in one set.
    fn set(&self, response: u64) -> &Set {
        &self.sets[(response % self.sets.len() as u64) as usize]
    }
}

/// The way that is given up for a newcomer: one of the tenant that would have most of them with it. So who stores a lot
/// displaces what is its own, and nobody has more than the others only because it stores more often.
fn given_up(present: &[u64; WAYS], newcomer: u64, turn: usize) -> usize {
    let is_same = |one: u64, other: u64| (one ^ other) & TENANT_MASK == 0;
    let share = present.map(|entry| {
        let others = present.iter().filter(|&&other| is_same(entry, other));
        others.count() + usize::from(is_same(entry, newcomer))
    });
    let most = share.into_iter().max().unwrap_or_default();
    let start = turn % WAYS;
    let mut in_turn = (start..WAYS).chain(0..start);
    in_turn.find(|&way| share[way] == most).unwrap_or(start)
}

/// Never that of an empty entry.
fn tag(response: u64) -> u64 {
    match response & !ACCOUNT_MASK {
        0 => ACCOUNT_MASK + 1,
        tag => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::hash::response_hash;

    fn response(number: usize) -> u64 {
        response_of("tenant", number)
    }

    fn response_of(tenant_name: &str, number: usize) -> u64 {
        response_hash(tenant_name, number.to_string().as_bytes())
    }

    fn account(number: usize) -> AccountId {
        AccountId((number % 10) as u16)
    }

    fn found(owners: &Owners, numbers: std::ops::Range<usize>) -> usize {
        numbers
            .filter(|&number| owners.find(response(number)) == Some(account(number)))
            .count()
    }

    #[test]
    fn the_last_word_counts_and_the_account_of_index_zero_is_an_account() {
        let owners = Owners::new(8);
        assert!(owners.insert(0, AccountId(0)));
        assert_eq!(owners.find(0), Some(AccountId(0)));
        assert!(!owners.insert(0, AccountId(0)));
        assert!(owners.insert(0, AccountId(u16::MAX)));
        assert_eq!(owners.find(0), Some(AccountId(u16::MAX)));
    }

    #[test]
    fn a_table_that_is_half_full_has_forgotten_hardly_anything() {
        let owners = Owners::new(4_096);
        for number in 0..2_048 {
            owners.insert(response(number), account(number));
        }
        assert!(found(&owners, 0..2_048) >= 2_000);
    }

    #[test]
    fn what_is_old_makes_room_for_what_is_new() {
        let owners = Owners::new(1_024);
        for number in 0..100_000 {
            owners.insert(response(number), account(number));
            assert_eq!(owners.find(response(number)), Some(account(number)));
        }
        let kept = found(&owners, 0..100_000);
        assert!((1_000..=1_024).contains(&kept), "{kept} of 1,024");
    }

    fn kept_of(owners: &Owners, tenant_name: &str, count: usize) -> usize {
        (0..count)
            .filter(|&number| owners.find(response_of(tenant_name, number)).is_some())
            .count()
    }

    #[test]
    fn who_stores_a_lot_displaces_nobody_who_stores_little() {
        let owners = Owners::new(1_024);
        for number in 0..128 {
            owners.insert(response_of("modest", number), account(number));
        }
        for number in 0..100_000 {
            owners.insert(response_of("greedy", number), account(number));
        }
        let kept = kept_of(&owners, "modest", 128);
        assert!(kept >= 126, "{kept} of 128");
        // And who comes later finds room too.
        for number in 0..128 {
            owners.insert(response_of("late", number), account(number));
        }
        let kept = kept_of(&owners, "late", 128);
        assert!(kept >= 120, "{kept} of 128");
    }

    #[test]
    fn tenants_that_all_store_a_lot_share_the_table() {
        let owners = Owners::new(1_024);
        let tenants = ["one", "two", "three", "four"];
        for (tenant, rounds) in tenants.iter().zip([1, 2, 4, 8]) {
            for number in 0..rounds * 5_000 {
                owners.insert(response_of(tenant, number), account(number));
            }
        }
        for (tenant, rounds) in tenants.iter().zip([1, 2, 4, 8]) {
            let kept = kept_of(&owners, tenant, rounds * 5_000);
            assert!((250..=262).contains(&kept), "{tenant}: {kept} of 256");
        }
    }

    #[test]
    fn many_threads_lose_nothing_where_there_is_room_and_mix_nothing_up() {
        let owners = Owners::new(65_536);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let owners = &owners;
                scope.spawn(move || {
                    let own = thread * 1_000..(thread + 1) * 1_000;
                    for number in own.clone() {
                        owners.insert(response(number), account(number));
                        assert_eq!(owners.find(response(number)), Some(account(number)));
                    }
                    assert_eq!(found(owners, own.clone()), own.len());
                });
            }
        });
        assert_eq!(found(&owners, 0..4_000), 4_000);
    }
}
