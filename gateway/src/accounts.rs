//! The operator's accounts as one worker sees them: how they are, which of them is asked, and a place in it.

mod spoken;

pub use spoken::{Spoken, SpokenWith};

use crate::affinity::{Affinity, account_hash};
use crate::budget::RetryBudgets;
use crate::choice::{Choice, Free, Reason, Terms, View, Views, Wanted, choose, free_places};
use crate::config::Policy;
use crate::config::policy::{Account, AccountId, Protocol, TenantId, UpstreamId};
use crate::health::{Clock, Health, Moment, Standing, Trial};
use crate::limits::{InFlight, Place};
use crate::waiting::WaitingRooms;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
    /// What is spoken on their connections.
    pub spoken: SpokenWith,
}

impl Accounts {
    /// Everybody is well, nobody waits.
    pub fn new(policy: &Policy) -> Self {
        Self {
            health: Health::new(policy, Clock::start()),
            affinity: Affinity::new(policy.limits.stored_responses_max),
            rooms: WaitingRooms::new(policy),
            budgets: RetryBudgets::new(policy),
            spoken: SpokenWith::new(policy),
        }
    }
}

/// An account with a place in it: given back when dropped, and so is its place among the trials.
pub struct Slot {
    /// The account.
    pub account: AccountId,
    /// Which of its addresses it is called from this time (index in `Account::egress`).
    pub address: usize,
    /// That address.
    pub source: IpAddr,
    /// Why it was chosen.
    pub reason: Reason,
    /// What becomes of it tells whether the account, or the address, is well again.
    pub trial: Option<Trial>,
    _place: Place,
    _of_tenant: Option<Place>,
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Anybody.
    Any,
    /// The account of its conversation, by its hash, where the upstream keeps conversations together.
    Conversation(u64),
    /// This account alone: it has what the request refers to.
    Owner(AccountId),
}

/// An account that was asked for a request already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub account: AccountId,
    /// It said that it has too much to do, and is blocked for it: after that it may be asked again.
    pub may_again: bool,
}

/// What a request asks of one upstream.
#[derive(Clone, Copy)]
pub struct Ask<'r> {
    /// The upstream.
    pub upstream: UpstreamId,
    /// Who asks.
    pub tenant: TenantId,
    /// Whom it is for.
    pub target: Target,
    /// Accounts of this region are preferred.
    pub region: &'r str,
    /// Who was asked already.
    pub tried: &'r [Tried],
    /// It can be sent again if a trial fails.
    pub may_try: bool,
    /// Accounts that are not well may be asked because nobody is.
    pub may_panic: bool,
    /// Now.
    pub now: Moment,
    /// It waits until then if it has to.
    pub waits_until: Moment,
}

/// What an upstream has for a request.
pub enum Pick<T> {
    /// A place in an account.
    Taken(T),
    /// Nothing yet. `until`: all that could be asked are blocked, until then at least.
    Wait {
        /// See above.
        until: Option<Moment>,
    },
    /// Nothing for as long as the request may wait.
    Nobody {
        /// Until when all that could be asked are blocked, if it is for that.
        until: Option<Moment>,
    },
}

/// One worker's hand on the accounts.
pub struct Chooser {
    policy: Arc<Policy>,
    in_flight: &'static InFlight,
    accounts: &'static Accounts,
    /// By account: which of its addresses is next.
    turns: Box<[Cell<u32>]>,
    /// By account.
    name_hashes: Box<[u64]>,
    /// Kept, so that a choice allocates nothing, however many accounts there are.
    views: RefCell<Views>,
}

impl Chooser {
    /// Nobody had a turn yet.
    pub fn new(
        policy: Arc<Policy>,
        in_flight: &'static InFlight,
        accounts: &'static Accounts,
    ) -> Self {
        let all = policy.accounts.iter();
        Self {
            turns: all.clone().map(|_| Cell::new(0)).collect(),
            name_hashes: all.map(|account| account_hash(&account.name)).collect(),
            views: RefCell::default(),
            policy,
            in_flight,
            accounts,
        }
    }

    /// Chooses an account of the upstream and takes a place in it. `random` gives numbers from 0 up to 1.
    pub fn pick(&self, ask: &Ask<'_>, random: &mut impl FnMut() -> f64) -> Pick<Slot> {
        let upstream = self.policy.upstream(ask.upstream);
        let wanted = match ask.target {
            Target::Conversation(hash) if upstream.affinity => Wanted::Conversation(hash),
            Target::Any | Target::Conversation(_) => Wanted::Any,
            Target::Owner(owner) => match upstream.accounts.iter().position(|id| *id == owner) {
                Some(index) => Wanted::Owner(index),
                None => return Pick::Nobody { until: None },
            },
        };
        let terms = Terms {
            wanted,
            may_try: ask.may_try,
            may_panic: ask.may_panic,
            ejection_max: self.policy.health.ejection_max,
            waits_until: ask.waits_until,
        };
        let views = &mut *self.views.borrow_mut();
        views.clear();
        views.extend(upstream.accounts.iter().map(|id| self.view(*id, ask)));
        for _ in 0..=views.len() {
            match choose(views, &terms, random) {
                Choice::Ask { index, reason } => {
                    let (id, view) = (upstream.accounts[index], &mut views[index]);
                    match self.take(id, view.standing, reason, ask) {
                        Some(slot) => return Pick::Taken(slot),
                        // Somebody else has taken the last place meanwhile.
                        None => view.pending = view.places,
                    }
                }
                Choice::Wait { until } => return Pick::Wait { until },
                Choice::Nobody { until } => return Pick::Nobody { until },
            }
        }
        Pick::Wait { until: None }
    }

    /// Places in accounts of the upstream that are free at this moment, for whoever asks for anybody.
    pub fn free_places(&self, upstream: UpstreamId, now: Moment) -> Free {
        let health = &self.accounts.health;
        let view = |&id: &AccountId| {
            let mut view = self.view_of_anybody(id, now);
            if view.standing == Standing::Due {
                // An account of which nobody knows whether it is well does not take as many as it otherwise would.
                let trials = health.trials_left(id, now);
                view.places = view.places.min(view.pending.saturating_add(trials));
            }
            view
        };
        let views = &mut *self.views.borrow_mut();
        views.clear();
        views.extend(self.policy.upstream(upstream).accounts.iter().map(view));
        free_places(views, self.policy.health.ejection_max)
    }

    fn view(&self, id: AccountId, ask: &Ask<'_>) -> View {
        let settings = self.policy.account(id);
        let health = &self.accounts.health;
        let view = self.view_of_anybody(id, ask.now);
        let tried = ask.tried.iter().find(|tried| tried.account == id);
        let (standing, is_tried) = match tried {
            Some(tried) => as_tried(view.standing, *tried, ask.may_panic),
            None => (view.standing, false),
        };
        View {
            standing,
            is_near: settings.region == ask.region,
            is_tried,
            latency_ms: health.latency(id, ask.now).map_or(0, in_whole_ms),
            ..view
        }
    }

    /// The account as it is to requests that have no wish and no past.
    fn view_of_anybody(&self, id: AccountId, now: Moment) -> View {
        let settings = self.policy.account(id);
        View {
            standing: self.accounts.health.standing(id, now),
            is_near: true,
            is_tried: false,
            pending: self.in_flight.of_account(id),
            places: self.requests_max(id, settings),
            weight: settings.weight,
            latency_ms: 0,
            name_hash: self.name_hashes[usize::from(id.0)],
        }
    }

    /// A place in this account, on one of its addresses; and one among the trials where either of the two is due. `None`: another
    /// request was quicker.
    fn take(
        &self,
        id: AccountId,
        standing: Standing,
        reason: Reason,
        ask: &Ask<'_>,
    ) -> Option<Slot> {
        let settings = self.policy.account(id);
        let place = self
            .in_flight
            .enter_account(id, self.requests_max(id, settings))?;
        let health = &self.accounts.health;
        let turn = &self.turns[usize::from(id.0)];
        turn.set(turn.get().wrapping_add(1));
        let address = health.pick_address(id, turn.get(), ask.may_try, ask.now);
        let trial = health.begin_trial(id, address, ask.now);
        if standing == Standing::Due && trial.is_none() {
            return None;
        }
        Some(Slot {
            account: id,
            address,
            source: settings.egress[address],
            reason,
            trial,
            _place: place,
            _of_tenant: self.accounts.rooms.hold(ask.upstream, ask.tenant),
        })
    }

    /// How many requests an account may have in flight. Where each needs a connection of its own there are no more than connections:
    /// another account is asked at once then. Where connections are shared each worker has one of its own for each address, and
    /// only those beyond that are filled for certain.
    fn requests_max(&self, id: AccountId, settings: &Account) -> u32 {
        let Some(connections_max) = settings.max_connections else {
            return settings.max_concurrent;
        };
        let apart = self
            .policy
            .node
            .workers
            .saturating_mul(settings.egress.len());
        let apart = u32::try_from(apart).unwrap_or(u32::MAX);
        let fit = match connections_max.checked_sub(apart) {
            Some(spare) if self.are_shared(id, settings) => {
                let filled =
                    (spare + 1).saturating_mul(self.policy.limits.upstream_http2_streams_max);
                filled.saturating_add(apart - 1)
            }
            _ => connections_max,
        };
        settings.max_concurrent.min(fit)
    }

    /// Do requests share the account's connections, for all that is known? Before the provider has had its choice they are few.
    fn are_shared(&self, id: AccountId, settings: &Account) -> bool {
        match self.policy.upstream(settings.upstream).protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.accounts.spoken.latest(id) == Some(Spoken::Http2),
        }
    }
}

/// What is seen of an account that was asked for the same request before, and whether it is not asked again. One that had too much
/// to do counts as blocked by its own word until that is over: waiting for it may be worth the while. Where those that are not well
/// are asked because nobody else is left, it does not help that one was well which has just failed.
fn as_tried(standing: Standing, tried: Tried, may_panic: bool) -> (Standing, bool) {
    match standing {
        Standing::Blocked { until, cause, .. } if tried.may_again => {
            let stated = true;
            let blocked = Standing::Blocked {
                until,
                stated,
                cause,
            };
            (blocked, false)
        }
        _ if tried.may_again => (standing, false),
        _ if may_panic => (Standing::Disabled, true),
        _ => (standing, true),
    }
}

/// At least one: 0 means that it is not known.
fn in_whole_ms(latency: Duration) -> u32 {
    u32::try_from(latency.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests;
