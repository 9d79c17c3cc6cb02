//! The health of all accounts, shared by all threads.
//!
//! What readers need of an account, of each of its addresses and of the operator's word is one atomic word each; whoever
//! changes something does so under the account's lock and shows the new words before giving it back.

mod account;
mod latency;
mod record;
mod report;
mod transitions;
mod word;

pub use latency::LatencyRecord;
pub use record::{Override, Record};
pub use report::Trial;
pub use transitions::{Change, Transition};

use super::breaker::{Cause, Rules, Shift};
use super::moment::{Clock, Moment};
use crate::config::Policy;
use crate::config::policy::AccountId;
use account::Shared;
use std::time::Duration;
use transitions::Transitions;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    Reset {
        /// Why, in the operator's own words.
        reason: Option<Box<str>>,
    },
}

/// The health of all accounts. One per process; lives as long as the process.
pub struct Health {
    clock: Clock,
    rules: Rules,
    accounts: Box<[Shared]>,
    transitions: Transitions,
}

impl Health {
    /// Everybody is well, unless the configuration says that an account is not to be asked.
    pub fn new(policy: &Policy, clock: Clock) -> Self {
        Self {
            clock,
            rules: policy.health,
            accounts: policy.accounts.iter().map(Shared::new).collect(),
            transitions: Transitions::default(),
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

    fn shared(&self, account: AccountId) -> &Shared {
        &self.accounts[usize::from(account.0)]
    }
}

/// What readers ask, with a few atomic loads.
impl Health {
    /// Whether an account may be asked now: the operator's word, its own state, and whether any of its addresses is usable.
    pub fn standing(&self, account: AccountId, now: Moment) -> Standing {
        match self.wish(account, now) {
            Wish::Enabled => self.measured(account, now),
            Wish::Drained => Standing::Draining,
            Wish::Disabled => Standing::Disabled,
        }
    }

    /// The same without the operator's word.
    pub fn measured(&self, account: AccountId, now: Moment) -> Standing {
        let own = self.shared(account).gate.word().standing(now, &self.rules);
        if matches!(own, Standing::Blocked { .. }) {
            return own;
        }
        match (own, self.best_path(account, now)) {
            (Standing::Usable { share: own }, Standing::Usable { share: path }) => {
                Standing::Usable {
                    share: own.min(path),
                }
            }
            (Standing::Due, Standing::Usable { .. }) => Standing::Due,
            (_, path) => path,
        }
    }

    /// Whether an account may be called from this address of its own.
    pub fn path_standing(&self, account: AccountId, address: usize, now: Moment) -> Standing {
        let path = &self.shared(account).paths[address];
        path.gate.word().standing(now, &self.rules)
    }

    /// What the operator wants of it now, or the configuration.
    pub fn wish(&self, account: AccountId, now: Moment) -> Wish {
        self.shared(account).wish.word().wish(now)
    }

    /// From which of its addresses an account is called: those that are usable take turns; one that is due comes first
    /// if the request `may_try` it; if none is usable it is the one that is free first.
    pub fn pick_address(&self, account: AccountId, turn: u32, may_try: bool, now: Moment) -> usize {
        let count = self.shared(account).paths.len();
        if count <= 1 {
            return 0;
        }
        let standing = |address: &usize| self.path_standing(account, *address, now);
        let is_due = |address: &usize| standing(address) == Standing::Due;
        let is_usable = |address: &usize| matches!(standing(address), Standing::Usable { .. });
        if may_try && let Some(due) = (0..count).find(is_due) {
            return due;
        }
        let usable = (0..count).filter(is_usable).count();
        let turn = turn as usize % usable.max(1);
        let next = (0..count).filter(is_usable).nth(turn);
        next.unwrap_or_else(|| {
            let free_first = (0..count).min_by_key(|address| free_at(standing(address), now));
            free_first.unwrap_or(0)
        })
    }

    /// How long answers take to begin, if it is known: an average in which what is long ago counts for little.
    pub fn latency(&self, account: AccountId, now: Moment) -> Option<Duration> {
        self.shared(account).latency.average(now)
    }

    /// The standing of the address that stands best.
    fn best_path(&self, account: AccountId, now: Moment) -> Standing {
        let mut best = self.path_standing(account, 0, now);
        for address in 1..self.shared(account).paths.len() {
            if best == WELL {
                break;
            }
            let standing = self.path_standing(account, address, now);
            if is_better(standing, best) {
                best = standing;
            }
        }
        best
    }
}

const WELL: Standing = Standing::Usable { share: 1.0 };

fn is_better(one: Standing, other: Standing) -> bool {
    match (one, other) {
        (Standing::Usable { share: one }, Standing::Usable { share: other }) => one > other,
        (Standing::Usable { .. }, _) => true,
        (_, Standing::Usable { .. }) => false,
        (Standing::Due, other) => other != Standing::Due,
        (Standing::Blocked { until: one, .. }, Standing::Blocked { until: other, .. }) => {
            one < other
        }
        _ => false,
    }
}

/// When it may be asked.
fn free_at(standing: Standing, now: Moment) -> Moment {
    match standing {
        Standing::Blocked { until, .. } => until,
        _ => now,
    }
}

/// What the control thread does.
impl Health {
    /// The operator has spoken.
    pub fn obey(&self, account: AccountId, order: Order, now: Moment) {
        let shared = self.shared(account);
        let mut locked = shared.lock();
        match &order {
            Order::Wish {
                wish,
                until,
                reason,
            } => {
                // What the configuration says anyway needs no word of its own, which would outlive a change of the
                // configuration: it only takes back what was said before.
                let is_withdrawal =
                    *wish == Wish::Enabled && shared.configured == Wish::Enabled && until.is_none();
                locked.operator = (!is_withdrawal).then(|| Override {
                    wish: *wish,
                    since: now,
                    until: *until,
                    reason: reason.clone(),
                });
                shared.publish_wish(&locked);
            }
            Order::Reset { .. } => {
                if let Some(shift) = locked.breaker.reset(now) {
                    self.tell_of(account, None, now, shift, true);
                }
                for (address, path) in locked.paths.iter_mut().enumerate() {
                    if let Some(shift) = path.reset(now) {
                        self.tell_of(account, Some(address), now, shift, true);
                    }
                }
                shared.publish_all(&locked, &self.rules);
            }
        }
        // Also if nothing changed: who looks at it later sees what was ordered, and when.
        self.transitions.push(Transition {
            account,
            address: None,
            at: now,
            change: Change::Ordered(order),
        });
    }

    /// Ends what the operator has said for a time, and says so. Readers see the end by themselves.
    pub fn tick(&self, now: Moment) {
        for (index, shared) in (0..).zip(&self.accounts) {
            if !shared.wish.word().is_over(now) {
                continue;
            }
            let mut locked = shared.lock();
            // Another order may have come meanwhile.
            if shared.wish.word().is_over(now) {
                locked.operator = None;
                shared.publish_wish(&locked);
                self.transitions.push(Transition {
                    account: AccountId(index),
                    address: None,
                    at: now,
                    change: Change::Expired(shared.configured),
                });
            }
        }
    }

    /// What is known of an account.
    pub fn record(&self, account: AccountId) -> Record {
        self.shared(account).record()
    }

    /// Takes over what was known when the process ended last. What this one has learned meanwhile stands.
    pub fn restore(&self, account: AccountId, record: &Record, now: Moment) {
        self.shared(account).restore(record, now, &self.rules);
    }

    /// What has changed since it was last asked, oldest first.
    pub fn take_transitions(&self) -> Vec<Transition> {
        self.transitions.take()
    }

    fn tell(&self, account: AccountId, address: Option<usize>, at: Moment, shift: Option<Shift>) {
        if let Some(shift) = shift {
            self.tell_of(account, address, at, shift, false);
        }
    }

    fn tell_of(
        &self,
        account: AccountId,
        address: Option<usize>,
        at: Moment,
        shift: Shift,
        ordered: bool,
    ) {
        self.transitions.push(Transition {
            account,
            address,
            at,
            change: Change::Breaker {
                from: shift.from,
                to: shift.to,
                cause: shift.cause,
                until: shift.until,
                recovered_after: shift.recovered_after,
                ordered,
            },
        });
    }
}

#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
