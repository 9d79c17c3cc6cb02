//! What requests and probes report: how they ended, and whose trial they were.

use super::account::Locked;
use super::word::Gate;
use super::{Health, Standing};
use crate::config::policy::AccountId;
use crate::health::blame::{Blame, Fault, blame};
use crate::health::breaker::{Breaker, Circumstances, Ticket};
use crate::health::moment::Moment;
use std::time::Duration;

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

/// How something went wrong.
#[derive(Clone, Copy)]
struct Failed {
    fault: Fault,
    now: Moment,
    random: f64,
    is_probe: bool,
}

impl Tickets {
    fn are_some(self) -> bool {
        self.account.is_some() || self.path.is_some()
    }
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
        if self.tickets.are_some() {
            self.health.give_back(self);
        }
    }
}

impl Health {
    /// Takes a place among the trials of whichever of the two, account and address, is due. `None` if neither is, or no place
    /// is left. Also who asks somebody who is due for another reason, for want of others, begins a trial: without one, nothing
    /// that goes well tells that the block may end.
    pub fn begin_trial(
        &'static self,
        account: AccountId,
        address: usize,
        now: Moment,
    ) -> Option<Trial> {
        self.begin(account, address, now, |_| true)
    }

    /// The same for a probe: a trial of what probes can tell, and of nothing else.
    pub fn begin_probe_trial(
        &'static self,
        account: AccountId,
        address: usize,
        now: Moment,
    ) -> Option<Trial> {
        self.begin(account, address, now, Breaker::is_seen_by_probes)
    }

    /// `is_told`: whether it can tell that this breaker may close.
    fn begin(
        &'static self,
        account: AccountId,
        address: usize,
        now: Moment,
        is_told: fn(&Breaker) -> bool,
    ) -> Option<Trial> {
        let shared = self.shared(account);
        let own = shared.gate.word().standing(now, &self.rules);
        let path = self.path_standing(account, address, now);
        if own != Standing::Due && path != Standing::Due {
            return None;
        }
        let mut locked = shared.lock();
        let mut tickets = Tickets::default();
        if own == Standing::Due && is_told(&locked.breaker) {
            let (ticket, shift) = locked.breaker.admit(now, &self.rules)?;
            tickets.account = Some(ticket);
            self.tell(account, None, now, shift);
        }
        if path == Standing::Due && is_told(&locked.paths[address]) {
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
        tickets.are_some().then(|| Trial {
            health: self,
            account,
            address,
            tickets,
        })
    }

    /// So many requests may try it at this moment, where it is due, itself or by its addresses.
    pub fn trials_left(&self, account: AccountId, now: Moment) -> u32 {
        let locked = self.shared(account).lock();
        let left = |breaker: &Breaker| breaker.trials_left(now, &self.rules);
        let by_address = locked.paths.iter().map(left);
        left(&locked.breaker).min(by_address.fold(0, u32::saturating_add))
    }

    /// An answer was passed on to its very end; `trial`: if it was one.
    pub fn succeeded(&self, account: AccountId, address: usize, trial: Option<Trial>, now: Moment) {
        let shared = self.shared(account);
        shared.complete(address);
        let is_troubled = |gate: &Gate| gate.word().is_troubled();
        let nothing_to_note =
            !is_troubled(&shared.gate) && !is_troubled(&shared.paths[address].gate);
        if trial.is_none() && nothing_to_note {
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

    /// A probe went well; `trial`: if it was one. Nothing that a request has met with is over because of it.
    pub fn probe_succeeded(
        &self,
        account: AccountId,
        address: usize,
        trial: Option<Trial>,
        now: Moment,
    ) {
        let shared = self.shared(account);
        let tickets = trial.map(|trial| trial.into_tickets(account, address));
        let tickets = tickets.unwrap_or_default();
        let mut locked = shared.lock();
        let Locked { breaker, paths, .. } = &mut *locked;
        let shift = breaker.note_probe_success(tickets.account, now, &self.rules);
        self.tell(account, None, now, shift);
        let shift = paths[address].note_probe_success(tickets.path, now, &self.rules);
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
        let end = Failed {
            fault,
            now,
            random,
            is_probe: false,
        };
        self.note_failed(account, address, trial, end);
    }

    /// The same of a probe. It counts as a request's does, until a probe goes well.
    pub fn probe_failed(
        &self,
        account: AccountId,
        address: usize,
        trial: Option<Trial>,
        fault: Fault,
        now: Moment,
        random: f64,
    ) {
        let end = Failed {
            fault,
            now,
            random,
            is_probe: true,
        };
        self.note_failed(account, address, trial, end);
    }

    fn note_failed(
        &self,
        account: AccountId,
        address: usize,
        trial: Option<Trial>,
        failed: Failed,
    ) {
        let Failed { fault, now, .. } = failed;
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
            random: failed.random,
            is_probe: failed.is_probe,
        };
        match blame(fault) {
            Blame::Account(charge) => {
                let circumstances = circumstances(tickets.account, shared.completed());
                let shift = breaker.note_failure(charge, &circumstances, &self.rules);
                self.tell(account, None, now, shift);
                if fault.is_an_answer() {
                    let shift = if failed.is_probe {
                        path.note_probe_success(tickets.path, now, &self.rules)
                    } else {
                        path.note_success(tickets.path, now, &self.rules)
                    };
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
}

fn give_back(breaker: &mut Breaker, ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        breaker.give_back(ticket);
    }
}
