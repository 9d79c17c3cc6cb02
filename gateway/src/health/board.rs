//! The health of all accounts, shared by all threads.
//!
//! What readers need of an account, of each of its addresses and of the operator's word is one atomic word each; whoever
//! changes something does so under the account's lock and shows the new words before giving it back.

mod account;
mod latency;
mod transitions;
mod word;

pub use latency::LatencyRecord;

use super::blame::{Blame, Fault, blame};
use super::breaker::{Breaker, BreakerRecord, Cause, Circumstances, Rules, Shift, State, Ticket};
use super::moment::{Clock, Moment};
use crate::config::Policy;
use crate::config::policy::AccountId;
use account::{Locked, Shared};
use std::net::IpAddr;
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
    /// The operator has spoken, or the time of what was said is over: this applies now.
    Wish(Wish),
}

/// What the operator has said of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What is wanted.
    pub wish: Wish,
    /// Since when.
    pub since: Moment,
    /// Until when; for ever if `None`.
    pub until: Option<Moment>,
    /// Why, in the operator's own words.
    pub reason: Option<Box<str>>,
}

/// What is kept of one account on disk, and shown to the operator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// What the operator has said; `None`: nothing, the configuration applies.
    pub operator: Option<Override>,
    /// The account's own breaker.
    pub account: BreakerRecord,
    /// Those of its addresses, in the order of the configuration.
    pub addresses: Vec<(IpAddr, BreakerRecord)>,
    /// How long its answers take to begin.
    pub latency: Option<LatencyRecord>,
}

/// A trial on the way: to be handed in with what became of it. Dropped without that, only its place is given back.
#[must_use]
pub struct Trial {
    health: &'static Health,
    account: AccountId,
    address: usize,
    tickets: Tickets,
}

/// What a trial is about: the account, the address or both.
#[derive(Clone, Copy, Default)]
struct Tickets {
    account: Option<Ticket>,
    path: Option<Ticket>,
}

impl Trial {
    /// For the verdict: after it there is nothing to give back.
    fn into_tickets(mut self, account: AccountId, address: usize) -> Tickets {
        debug_assert_eq!((self.account, self.address), (account, address));
        std::mem::take(&mut self.tickets)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.tickets.account.is_some() || self.tickets.path.is_some() {
            self.health.give_back(self);
        }
    }
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
            Wish::Enabled => {}
            Wish::Drained => return Standing::Draining,
            Wish::Disabled => return Standing::Disabled,
        }
        let own = self.shared(account).gate.word().standing(now, &self.rules);
        if matches!(own, Standing::Blocked { .. }) {
            return own;
        }
        match (own, self.best_path(account, now)) {
            (Standing::Usable { share }, Standing::Usable { share: way }) => Standing::Usable {
                share: share.min(way),
            },
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

    /// Grows with everything that changes in what [`record`](Self::record) says, except for latencies.
    pub fn changes(&self) -> u64 {
        self.transitions.changes()
    }

    /// The standing of the address that stands best.
    fn best_path(&self, account: AccountId, now: Moment) -> Standing {
        let paths = 0..self.shared(account).paths.len();
        let mut best = Standing::Disabled;
        for address in paths {
            let standing = self.path_standing(account, address, now);
            match (best, standing) {
                (_, Standing::Usable { share }) if share >= 1.0 => return standing,
                (Standing::Usable { share: known }, Standing::Usable { share })
                    if known >= share => {}
                (Standing::Usable { .. }, Standing::Due | Standing::Blocked { .. })
                | (Standing::Due, Standing::Blocked { .. }) => {}
                (Standing::Blocked { until: known, .. }, Standing::Blocked { until, .. })
                    if known <= until => {}
                _ => best = standing,
            }
        }
        best
    }
}

/// When it may be asked.
fn free_at(standing: Standing, now: Moment) -> Moment {
    match standing {
        Standing::Blocked { until, .. } => until,
        _ => now,
    }
}

/// What requests report.
impl Health {
    /// Takes a place among the trials of whichever of the two, account and address, is due. `None` if neither is, or no place is left.
    pub fn begin_trial(
        &'static self,
        account: AccountId,
        address: usize,
        now: Moment,
    ) -> Option<Trial> {
        let shared = self.shared(account);
        let own = shared.gate.word().standing(now, &self.rules);
        let path = self.path_standing(account, address, now);
        if own != Standing::Due && path != Standing::Due {
            return None;
        }
        let mut locked = shared.lock();
        let mut tickets = Tickets::default();
        if own == Standing::Due {
            let (ticket, shift) = locked.breaker.admit(now, &self.rules)?;
            tickets.account = Some(ticket);
            self.tell(account, None, now, shift);
        }
        if path == Standing::Due {
            match locked.paths[address].admit(now, &self.rules) {
                Some((ticket, shift)) => {
                    tickets.path = Some(ticket);
                    self.tell(account, Some(address), now, shift);
                }
                None => {
                    if let Some(ticket) = tickets.account {
                        locked.breaker.give_back(ticket);
                    }
                    shared.publish(&locked, address, &self.rules);
                    return None;
                }
            }
        }
        shared.publish(&locked, address, &self.rules);
        Some(Trial {
            health: self,
            account,
            address,
            tickets,
        })
    }

    /// An answer was passed on to its very end; `trial`: if it was one.
    pub fn succeeded(&self, account: AccountId, address: usize, trial: Option<Trial>, now: Moment) {
        let shared = self.shared(account);
        shared.complete(address);
        let is_troubled = |word: word::Word| word.is_troubled();
        if trial.is_none()
            && !is_troubled(shared.gate.word())
            && !is_troubled(shared.paths[address].gate.word())
        {
            return;
        }
        let tickets = trial.map(|trial| trial.into_tickets(account, address));
        let tickets = tickets.unwrap_or_default();
        let mut locked = shared.lock();
        let shift = locked
            .breaker
            .note_success(tickets.account, now, &self.rules);
        self.tell(account, None, now, shift);
        let shift = locked.paths[address].note_success(tickets.path, now, &self.rules);
        self.tell(account, Some(address), now, shift);
        shared.publish(&locked, address, &self.rules);
    }

    /// Something went wrong; `trial`: if it was one. `random`: 0 up to 1, for jitter.
    pub fn failed(
        &self,
        account: AccountId,
        address: usize,
        trial: Option<Trial>,
        fault: Fault,
        now: Moment,
        random: f64,
    ) {
        let shared = self.shared(account);
        let tickets = trial.map(|trial| trial.into_tickets(account, address));
        let tickets = tickets.unwrap_or_default();
        let mut locked = shared.lock();
        let Locked { breaker, paths, .. } = &mut *locked;
        let path = &mut paths[address];
        let circumstances = |ticket, completed| Circumstances {
            ticket,
            completed,
            now,
            random,
        };
        match blame(fault) {
            Blame::Account(charge) => {
                let circumstances = circumstances(tickets.account, shared.completed());
                let shift = breaker.note_failure(charge, &circumstances, &self.rules);
                self.tell(account, None, now, shift);
                if fault.is_an_answer() {
                    let shift = path.note_success(tickets.path, now, &self.rules);
                    self.tell(account, Some(address), now, shift);
                } else {
                    give_back(path, tickets.path);
                }
            }
            Blame::Path(charge) => {
                let circumstances = circumstances(tickets.path, shared.completed_from(address));
                let shift = path.note_failure(charge, &circumstances, &self.rules);
                self.tell(account, Some(address), now, shift);
                give_back(breaker, tickets.account);
            }
        }
        shared.publish(&locked, address, &self.rules);
    }

    /// An answer's first output came after this time.
    pub fn note_latency(&self, account: AccountId, latency: Duration, now: Moment) {
        self.shared(account).latency.note(latency, now);
    }

    fn give_back(&self, trial: &Trial) {
        let shared = self.shared(trial.account);
        let mut locked = shared.lock();
        give_back(&mut locked.breaker, trial.tickets.account);
        give_back(&mut locked.paths[trial.address], trial.tickets.path);
        shared.publish(&locked, trial.address, &self.rules);
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

fn give_back(breaker: &mut Breaker, ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        breaker.give_back(ticket);
    }
}

/// What the control thread does.
impl Health {
    /// The operator has spoken.
    pub fn obey(&self, account: AccountId, order: Order, now: Moment) {
        let shared = self.shared(account);
        let mut locked = shared.lock();
        match order {
            Order::Wish {
                wish,
                until,
                reason,
            } => {
                locked.operator = Some(Override {
                    wish,
                    since: now,
                    until,
                    reason,
                });
                shared.publish_wish(&locked);
                self.tell_wish(account, wish, now);
            }
            Order::Reset => {
                if let Some(shift) = locked.breaker.reset(now) {
                    self.tell_of(account, None, now, shift, true);
                }
                for (address, path) in locked.paths.iter_mut().enumerate() {
                    if let Some(shift) = path.reset(now) {
                        self.tell_of(account, Some(address), now, shift, true);
                    }
                }
                shared.publish_all(&locked, &self.rules);
                self.transitions.note_change();
            }
        }
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
                self.tell_wish(AccountId(index), shared.configured, now);
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
        self.transitions.note_change();
    }

    /// What has changed since it was last asked, oldest first.
    pub fn take_transitions(&self) -> Vec<Transition> {
        self.transitions.take()
    }

    fn tell_wish(&self, account: AccountId, wish: Wish, at: Moment) {
        self.transitions.push(Transition {
            account,
            address: None,
            at,
            change: Change::Wish(wish),
        });
    }
}
