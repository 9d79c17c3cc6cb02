//! The health of all accounts, shared by all threads.

use super::blame::Fault;
use super::breaker::{Cause, Rules, State};
use super::moment::{Clock, Moment};
use crate::config::Policy;
use crate::config::policy::AccountId;
use std::time::Duration;

/// Whether somebody may be asked now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Yes, with this share of what it is usually given (over 0 to 1; less than 1 after a recovery).
    Usable {
        /// See above.
        share: f32,
    },
    /// Its block is over: a trial would tell.
    Due,
    /// Not before this.
    Blocked {
        /// Until when. While all trials of a half-open breaker are out: a moment from now.
        until: Moment,
        /// The provider itself stated it; otherwise it is a guess of ours.
        stated: bool,
        /// Why.
        cause: Cause,
    },
    /// By the operator's order it takes nothing new, only what nobody else can do.
    Draining,
    /// By the operator's order it is not asked at all.
    Disabled,
}

/// What the operator wants of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// What its health allows.
    #[default]
    Enabled,
    /// Nothing new; what nobody else can do goes on.
    Drained,
    /// Nothing at all; what is running goes on.
    Disabled,
}

/// An order of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The operator's word, until somebody says otherwise or the time is over.
    Wish {
        /// What is wanted.
        wish: Wish,
        /// Until when; for ever if `None`.
        until: Option<Moment>,
        /// Why, in the operator's own words.
        reason: Option<Box<str>>,
    },
    /// Forget all failures: the account and its addresses are well from now on.
    Reset,
}

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
    /// A breaker went from one state to another.
    Breaker {
        /// Where it stood.
        from: State,
        /// Where it stands.
        to: State,
        /// Why it opened, or what it has recovered from.
        cause: Cause,
        /// If it opened: until when.
        until: Option<Moment>,
        /// If it closed: since its first opening.
        recovered_after: Option<Duration>,
        /// By the operator's order.
        ordered: bool,
    },
    /// The operator's word changed, or its time is over.
    Wish(Wish),
}

/// A trial on the way. Dropped without a verdict, its place is given back.
pub struct Trial {
    _private: (),
}

/// What is kept of one account on disk, and shown to the operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What the operator wants.
    pub wish: Wish,
}

/// The health of all accounts. One per process; lives as long as the process.
pub struct Health {
    clock: Clock,
    rules: Rules,
}

impl Health {
    /// Everybody is well.
    pub fn new(policy: &Policy, clock: Clock) -> Self {
        Self {
            clock,
            rules: policy.health,
        }
    }

    /// The clock that everything here goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the breakers go by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether an account may be asked now: its own state, the operator's word, and whether any of its addresses is usable.
    pub fn standing(&self, _account: AccountId, _now: Moment) -> Standing {
        Standing::Usable { share: 1.0 }
    }

    /// Whether an account may be called from this address of its own.
    pub fn path_standing(&self, _account: AccountId, _address: usize, _now: Moment) -> Standing {
        Standing::Usable { share: 1.0 }
    }

    /// Takes a place among the trials of whichever of the two, account and address, is due. `None` if neither is, or no place is left.
    pub fn begin_trial(
        &'static self,
        _account: AccountId,
        _address: usize,
        _now: Moment,
    ) -> Option<Trial> {
        None
    }

    /// An answer was passed on to its very end.
    pub fn succeeded(&self, _account: AccountId, _address: usize, _now: Moment) {}

    /// Something went wrong. `random`: 0 up to 1, for jitter.
    pub fn failed(
        &self,
        _account: AccountId,
        _address: usize,
        _fault: Fault,
        _now: Moment,
        _random: f64,
    ) {
    }

    /// An answer's first output came after this time.
    pub fn note_latency(&self, _account: AccountId, _latency: Duration, _now: Moment) {}

    /// How long answers take to begin, if it is known: an average in which what is long ago counts for little.
    pub fn latency(&self, _account: AccountId, _now: Moment) -> Option<Duration> {
        None
    }

    /// The operator has spoken.
    pub fn obey(&self, _account: AccountId, _order: Order, _now: Moment) {}

    /// What is known of an account.
    pub fn record(&self, _account: AccountId) -> Record {
        Record::default()
    }

    /// Takes over what was known when the process ended last.
    pub fn restore(&self, _account: AccountId, _record: Record, _now: Moment) {}

    /// What has changed since it was last asked, oldest first.
    pub fn take_transitions(&self) -> Vec<Transition> {
        Vec::new()
    }
}
