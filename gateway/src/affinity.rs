//! What ties a request to an account: its conversation, or a response that is stored there.
//!
//! A conversation needs no memory: its hash and those of the accounts' names give each account a score (weighted rendezvous),
//! the same on every node and after every restart. Whose a stored response is has to be learned from answers.

mod hash;
mod owners;

use crate::config::policy::AccountId;
use crossbeam_queue::ArrayQueue;
use owners::Owners;

pub use hash::{account_hash, conversation_hash, distance};

/// Learned owners that wait for the disk at most. The control thread takes them each second.
const LEARNED_MAX: usize = 16_384;

/// Stored responses by their hashes. One per process, shared by all threads without a lock.
pub struct Affinity {
    owners: Owners,
    learned: ArrayQueue<Learned>,
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
            owners: Owners::new(capacity),
            learned: ArrayQueue::new(LEARNED_MAX),
        }
    }

    /// Remembers that this tenant's response is stored at this account.
    pub fn learn(&self, tenant_name: &str, response_id: &[u8], account: AccountId) {
        let response = hash::response_hash(tenant_name, response_id);
        if self.owners.insert(response, account) {
            self.learned.force_push(Learned { response, account });
        }
    }

    /// The account that stores this tenant's response, as far as it is known.
    pub fn owner(&self, tenant_name: &str, response_id: &[u8]) -> Option<AccountId> {
        self.owners
            .find(hash::response_hash(tenant_name, response_id))
    }

    /// Takes over what was known when the process ended last.
    pub fn restore(&self, learned: Learned) {
        self.owners.insert(learned.response, learned.account);
    }

    /// What was learned since it was last asked; the oldest are lost where nobody asks.
    pub fn take_learned(&self) -> Vec<Learned> {
        // No more than there are now: other threads go on learning.
        (0..self.learned.len())
            .map_while(|_| self.learned.pop())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_found_by_its_tenant_alone() {
        let affinity = Affinity::new(1_024);
        affinity.learn("one", b"resp_a", AccountId(7));
        assert_eq!(affinity.owner("one", b"resp_a"), Some(AccountId(7)));
        assert_eq!(affinity.owner("two", b"resp_a"), None);
        assert_eq!(affinity.owner("one", b"resp_b"), None);
        assert_eq!(affinity.owner("oneresp", b"_a"), None);
    }

    #[test]
    fn what_is_learned_is_told_once_and_can_be_restored() {
        let affinity = Affinity::new(1_024);
        affinity.learn("one", b"resp_a", AccountId(7));
        affinity.learn("one", b"resp_a", AccountId(7));
        affinity.learn("one", b"resp_a", AccountId(8));
        let learned = affinity.take_learned();
        let accounts: Vec<_> = learned.iter().map(|learned| learned.account.0).collect();
        assert_eq!(accounts, [7, 8], "only what is news");
        assert_eq!(affinity.take_learned(), []);

        let next_process = Affinity::new(1_024);
        for learned in learned {
            next_process.restore(learned);
        }
        assert_eq!(next_process.owner("one", b"resp_a"), Some(AccountId(8)));
        assert_eq!(next_process.take_learned(), [], "the disk knows it already");
    }

    #[test]
    fn where_nobody_asks_the_latest_are_kept() {
        let affinity = Affinity::new(1_024);
        for number in 0..LEARNED_MAX + 10 {
            affinity.learn("one", number.to_string().as_bytes(), AccountId(1));
        }
        let learned = affinity.take_learned();
        assert_eq!(learned.len(), LEARNED_MAX);
        assert_eq!(
            learned[0].response,
            hash::response_hash("one", b"10"),
            "the ten oldest are lost"
        );
    }
}
