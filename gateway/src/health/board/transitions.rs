//! What has changed, until the control thread takes it.

use super::{Order, Wish};
use crate::config::policy::AccountId;
use crate::health::breaker::{Cause, State};
use crate::health::moment::Moment;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many wait at most; the oldest is lost first: what stands now matters more than how it came.
const WAITING_MAX: usize = 4096;

/// So far back a block that became longer is looked for.
const MERGED_WITHIN: usize = 64;

/// Something that changed, for the log, the metrics and what is kept on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Whose.
    pub account: AccountId,
    /// Which of its addresses (index in `Account::egress`); `None`: the account itself.
    pub address: Option<usize>,
    /// When.
    pub at: Moment,
    /// What changed.
    pub change: Change,
}

/// See [`Transition`].
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A breaker went from one state to another; from open to open: the block became longer.
    Breaker {
        /// Where it stood.
        from: State,
        /// Where it stands.
        to: State,
        /// Why it opened, or what it has recovered from.
        cause: Cause,
        /// If it is open: until when.
        until: Option<Moment>,
        /// If it closed: since its first opening.
        recovered_after: Option<Duration>,
        /// By the operator's order.
        ordered: bool,
    },
    /// The operator has given an order, whether or not anything changed.
    Ordered(Order),
    /// The time of what the operator has said is over: this applies now.
    Expired(Wish),
}

/// Those that nobody has taken yet.
#[derive(Default)]
pub(super) struct Transitions {
    waiting: Mutex<VecDeque<Transition>>,
}

impl Transitions {
    /// Something changed that is to be told and kept. Whoever holds the account's lock calls it, so that the order is right.
    pub(super) fn push(&self, transition: Transition) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if merge(&mut waiting, &transition) {
            return;
        }
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(transition);
    }

    pub(super) fn take(&self) -> Vec<Transition> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain(..).collect()
    }
}

/// Each of a thousand requests in flight may bring a stated end that is a millisecond later than the last one: as long as
/// nobody has been told of the block, only its end is set anew.
fn merge(waiting: &mut VecDeque<Transition>, later: &Transition) -> bool {
    let Change::Breaker {
        from: State::Open,
        to: State::Open,
        cause: later_cause,
        until: later_until,
        ..
    } = later.change
    else {
        return false;
    };
    let latest = waiting.iter_mut().rev().take(MERGED_WITHIN).find(|known| {
        (known.account, known.address) == (later.account, later.address)
            && matches!(known.change, Change::Breaker { .. })
    });
    match latest.map(|known| &mut known.change) {
        Some(Change::Breaker {
            to: State::Open,
            cause,
            until,
            ..
        }) => {
            *cause = later_cause;
            *until = later_until;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(account: u16, from: State, to: State, until_ms: u64) -> Transition {
        Transition {
            account: AccountId(account),
            address: None,
            at: Moment::from_unix_ms(1),
            change: Change::Breaker {
                from,
                to,
                cause: Cause::RateLimited,
                until: Some(Moment::from_unix_ms(until_ms)),
                recovered_after: None,
                ordered: false,
            },
        }
    }

    #[test]
    fn a_block_that_becomes_longer_is_told_once() {
        let transitions = Transitions::default();
        transitions.push(transition(0, State::Closed, State::Open, 10));
        transitions.push(transition(1, State::Closed, State::Open, 10));
        for until_ms in 11..100 {
            transitions.push(transition(0, State::Open, State::Open, until_ms));
        }
        let expected = [
            transition(0, State::Closed, State::Open, 99),
            transition(1, State::Closed, State::Open, 10),
        ];
        assert_eq!(transitions.take(), expected);
        let prolonged = transition(0, State::Open, State::Open, 200);
        transitions.push(prolonged.clone());
        assert_eq!(
            transitions.take(),
            [prolonged],
            "the block had been told before"
        );
        assert_eq!(transitions.take(), []);
    }

    #[test]
    fn nobody_takes_them_and_the_oldest_are_lost() {
        let transitions = Transitions::default();
        for until_ms in 0..5_000 {
            transitions.push(transition(0, State::Closed, State::Open, until_ms));
        }
        let taken = transitions.take();
        assert_eq!(taken.len(), WAITING_MAX);
        assert_eq!(
            taken.last(),
            Some(&transition(0, State::Closed, State::Open, 4_999))
        );
    }
}
