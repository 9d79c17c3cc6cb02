//! Connections to the providers that one worker keeps for the next request.
//!
//! They are kept by account, address and authority: a connection that was opened for one account never serves another.
//!
//! A connection that served a tenant with a cap stays that tenant's for a moment, since its next request will mostly want it
//! again; then it is nobody's, so that nobody is kept out by connections on which nothing happens.
//!
//! Where a provider speaks HTTP/2, several requests share a connection. Each has what looks to it like a connection of its own: a
//! stream in memory, whose other end is carried over the shared one.

mod exchange;
mod shared;
mod sharing;

pub use shared::{Opened, Shared};
pub use sharing::{Opening, Outcome, Turn};

use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId, Timeouts, Upstream};
use crate::connections::{Denied, Short, Shortages, UpstreamPlaces};
use crate::request::egress::Failure;
use crate::worker::Worker;
use exchange::Fate;
use relay_io::{Alpn, Stream};
use sharing::Sharing;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// A connection to a provider, as one request has it.
pub struct Connection {
    /// What is sent to and read from.
    pub stream: Stream,
    kind: Kind,
}

enum Kind {
    Own(Own),
    Shared(Carried),
}

/// It has the connection for itself.
struct Own {
    account: AccountId,
    source: IpAddr,
    destination: SocketAddr,
    places: UpstreamPlaces,
    /// A point in time of the worker's wheel.
    retires_at: u64,
    served: u32,
}

/// It is carried over a connection that others use too.
struct Carried {
    fate: Rc<Cell<Fate>>,
    shared: Rc<Shared>,
    /// There have been requests on it before.
    was_used: bool,
}

/// A connection on which nothing is going on.
struct Idle {
    stream: Stream,
    own: Own,
    /// A point in time of the worker's wheel: since then it has been idle for a whole tick.
    rested_at: u64,
}

/// Just long enough that a whole tick of the wheel passes.
const REST: Duration = Duration::from_millis(1);

/// The connections of one worker that nobody uses at the moment.
pub struct IdleConnections {
    /// By account, which implies the authority; last in, first out.
    by_account: RefCell<Vec<Vec<Idle>>>,
    sharing: Sharing,
    idle_max: usize,
    /// Accounts with connections that are some tenant's, each once.
    assigned: RefCell<Vec<AccountId>>,
    worker: u32,
    shortages: &'static Shortages,
    last_call: Cell<u64>,
}

impl Connection {
    /// A connection just opened, for one request at a time. It retires `age` from now, varied by ± 20 % with `chance` (0 to 1), so
    /// that connections which were opened together do not end together.
    pub fn new(opened: Opened, age: Duration, chance: f64) -> Self {
        let Opened {
            stream,
            places,
            source,
            destination,
        } = opened;
        let own = Own {
            account: places.account(),
            source,
            destination,
            places,
            retires_at: stream.deadline_at(age.mul_f64(0.8 + 0.4 * chance)),
            served: 0,
        };
        Self {
            stream,
            kind: Kind::Own(own),
        }
    }

    /// After it broke before an answer had begun: how often may the request go over another one at once? A provider may close a connection
    /// that it has kept open just as the next request is on its way, without meaning this one; and over a shared one it may say
    /// that it has not begun with it, which makes it `refused_max` times. Where it took nothing for too long, it meant all of them.
    pub fn repeats_max(&self, refused_max: u32) -> u32 {
        match &self.kind {
            Kind::Own(own) => u32::from(own.served > 0),
            Kind::Shared(carried) => match carried.fate.get() {
                Fate::Refused => refused_max,
                Fate::Lost if carried.shared.has_stalled() => 0,
                Fate::Well | Fate::Lost => u32::from(carried.was_used),
                Fate::Reset => 0,
            },
        }
    }

    /// What a failure on it means, which looks the same on one that is not shared.
    pub fn explain(&self, failure: Failure) -> Failure {
        let Kind::Shared(Carried { fate, shared, .. }) = &self.kind else {
            return failure;
        };
        match (failure, fate.get()) {
            (Failure::Broken, Fate::Refused) => Failure::NotBegun,
            (Failure::Broken, Fate::Lost) if shared.has_stalled() => shared.blame(Failure::Timeout),
            (failure @ (Failure::Broken | Failure::IncompleteStream), Fate::Lost) => {
                shared.blame(failure)
            }
            (other, _) => other,
        }
    }

    /// What it means that nothing of a request was taken for too long. Where it is the whole connection that is held up it is one
    /// failure, whichever of those on it is given up first, or it is itself; and no other request is to begin on it.
    pub fn explain_unsent(&self, failure: Failure) -> Failure {
        match &self.kind {
            Kind::Shared(Carried { fate, shared, .. })
                if matches!(failure, Failure::Timeout)
                    && (fate.get() == Fate::Lost || shared.is_held_up()) =>
            {
                shared.retire();
                shared.blame(failure)
            }
            Kind::Shared(_) | Kind::Own(_) => failure,
        }
    }

    /// After it broke: true, unless it is shared, and one of the others has taken the blame for it. It is one failure, however
    /// many requests it befell.
    pub fn takes_blame(&self) -> bool {
        match &self.kind {
            Kind::Shared(carried) if carried.fate.get() == Fate::Lost => {
                carried.shared.takes_blame()
            }
            Kind::Shared(_) | Kind::Own(_) => true,
        }
    }

    /// It becomes this tenant's, where it is not shared.
    ///
    /// # Errors
    /// The tenant has as many as it may have.
    fn assign(&mut self, tenant: Option<TenantId>) -> Result<(), Denied> {
        match &mut self.kind {
            Kind::Own(own) => own.places.assign(&self.stream, tenant),
            Kind::Shared(_) => Ok(()),
        }
    }

    /// Which one of the shared connections of its worker it goes over; 0: none.
    pub fn number(&self) -> u64 {
        match &self.kind {
            Kind::Own(_) => 0,
            Kind::Shared(carried) => carried.shared.number(),
        }
    }

    /// Ends it, so that its place can be taken from now on. Where it is shared only its stream ends.
    pub fn close(self) {
        self.stream.close_at_once();
    }
}

impl Idle {
    /// It becomes nobody's. False if that cannot be: it must not be used any more.
    fn is_freed(&mut self) -> bool {
        self.own.places.assign(&self.stream, None).is_ok()
    }

    fn close(self) {
        self.stream.close_at_once();
    }
}

impl IdleConnections {
    /// None yet. `shortages`: what this worker, of this number, is to let go of.
    pub fn new(policy: &Policy, worker: u32, shortages: &'static Shortages) -> Self {
        Self {
            by_account: RefCell::new(policy.accounts.iter().map(|_| Vec::new()).collect()),
            sharing: Sharing::new(policy),
            idle_max: policy.limits.pool_idle_max,
            assigned: RefCell::default(),
            worker,
            shortages,
            last_call: Cell::new(0),
        }
    }

    /// The connection of this account that was used last, if it still is as it was left; from now on it is this tenant's.
    ///
    /// # Errors
    /// The tenant has as many as it may have.
    pub fn take(
        &self,
        account: AccountId,
        source: IpAddr,
        destinations: &[SocketAddr],
        tenant: Option<TenantId>,
    ) -> Result<Option<Connection>, Denied> {
        let mut by_account = self.by_account.borrow_mut();
        let all = &mut by_account[usize::from(account.0)];
        while let Some(position) = all.iter().rposition(|idle| {
            idle.own.source == source && destinations.contains(&idle.own.destination)
        }) {
            let idle = &mut all[position];
            debug_assert!(idle.own.account == account, "never another account's");
            let is_usable = !idle.stream.has_passed(idle.own.retires_at) && idle.stream.is_quiet();
            let assigned = is_usable.then(|| idle.own.places.assign(&idle.stream, tenant));
            if assigned == Some(Err(Denied::TenantFull)) {
                return Err(Denied::TenantFull);
            }
            let idle = all.remove(position);
            if assigned == Some(Ok(())) {
                idle.stream.unwatch_peer();
                idle.stream.clear_deadline();
                return Ok(Some(Connection {
                    stream: idle.stream,
                    kind: Kind::Own(idle.own),
                }));
            }
            idle.close();
        }
        Ok(None)
    }

    /// Keeps a connection whose last answer was read to its very end. Where it is shared there is nothing to keep: it is
    /// kept by those who share it.
    pub fn keep(&self, connection: Connection, timeouts: &Timeouts) {
        let Connection {
            stream,
            kind: Kind::Own(mut own),
        } = connection
        else {
            return;
        };
        let mut by_account = self.by_account.borrow_mut();
        let all = &mut by_account[usize::from(own.account.0)];
        own.served += 1;
        let mut idle = Idle {
            rested_at: stream.deadline_at(REST),
            stream,
            own,
        };
        let account = idle.own.account;
        if all.len() >= self.idle_max
            || idle.stream.has_passed(idle.own.retires_at)
            || self.shortages.is_waited_for(Short::Account(account))
        {
            return idle.close();
        }
        if let Some(tenant) = idle.own.places.tenant() {
            let is_waited_for = self.shortages.is_waited_for(Short::Tenant(tenant));
            if is_waited_for && !idle.is_freed() {
                return idle.close();
            }
        }
        idle.stream.set_deadline(timeouts.pool_idle);
        idle.stream.watch_peer();
        if idle.own.places.tenant().is_some() {
            let mut assigned = self.assigned.borrow_mut();
            if !assigned.contains(&account) {
                assigned.push(account);
            }
        }
        all.push(idle);
    }

    /// Lets go of what somebody is short of: connections become nobody's, or the one of an account that was used least recently
    /// is closed.
    pub fn let_go(&self, short: Short) -> LetGo {
        let Short::Account(account) = short else {
            return LetGo::of(self.free_assigned(|_| true));
        };
        let all = &mut self.by_account.borrow_mut()[usize::from(account.0)];
        if !all.is_empty() {
            all.drain(..1).for_each(Idle::close);
            return LetGo::Done;
        }
        match self.sharing.let_go(account, 1).pop() {
            Some(shared) => LetGo::Ending(Ending(shared)),
            None => LetGo::Nothing,
        }
    }

    /// At every tick: connections that have rested become nobody's, and whatever others are short of is let go.
    pub fn tend(&self) {
        self.sharing.tend();
        self.free_assigned(|idle| idle.stream.has_passed(idle.rested_at));
        let call = self.shortages.last_call();
        if call == self.last_call.replace(call) {
            return;
        }
        self.free_assigned(|_| true);
        for (account, all) in (0..).zip(self.by_account.borrow_mut().iter_mut()) {
            let account = AccountId(account);
            let wanted = self.shortages.waited_for(Short::Account(account));
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            // Those used least recently; no more than are waited for, or one request would cost all others theirs.
            let count = all.len().min(wanted);
            all.drain(..count).for_each(Idle::close);
            self.sharing.let_go(account, wanted - count);
        }
        self.shortages.note_heard(self.worker, call);
    }

    /// Those of the connections that are some tenant's become nobody's. True if there were any.
    fn free_assigned(&self, is_meant: impl Fn(&Idle) -> bool) -> bool {
        let mut by_account = self.by_account.borrow_mut();
        let mut found = false;
        self.assigned.borrow_mut().retain(|account| {
            let mut is_left = false;
            by_account[usize::from(account.0)].retain_mut(|idle| {
                if idle.own.places.tenant().is_none() {
                    return true;
                }
                let is_meant = is_meant(idle);
                found |= is_meant;
                is_left |= !is_meant;
                !is_meant || idle.is_freed()
            });
            is_left
        });
        found
    }

    /// Lets go of what has ended meanwhile: closed by the provider, or idle for too long.
    pub fn sweep(&self, timeouts: &Timeouts) {
        for all in self.by_account.borrow_mut().iter_mut() {
            all.retain(|idle| idle.stream.interrupted().is_none());
        }
        self.sharing.sweep(timeouts.pool_idle, self.idle_max);
    }

    /// Lets go of all.
    pub fn clear(&self) {
        for all in self.by_account.borrow_mut().iter_mut() {
            all.drain(..).for_each(Idle::close);
        }
        self.sharing.clear();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let own: usize = self.by_account.borrow().iter().map(Vec::len).sum();
        own + self.sharing.idle_count()
    }
}

/// Requests on shared connections.
impl IdleConnections {
    /// Does this account have shared connections from this address, as far as that is known?
    pub fn expects_shared(&self, account: AccountId, source: IpAddr, upstream: &Upstream) -> bool {
        self.sharing.is_expected(account, source, upstream)
    }

    /// What a provider that had the choice has chosen.
    pub fn note_choice(&self, account: AccountId, source: IpAddr, chosen: Alpn) {
        self.sharing.note_choice(account, source, chosen);
    }

    /// Begins a request on a shared connection, if there is one that takes it. `after`: only on one that was opened behind that of
    /// this number.
    pub fn begin_shared(
        &self,
        worker: &'static Worker,
        account: AccountId,
        source: IpAddr,
        destinations: &[SocketAddr],
        after: u64,
    ) -> Option<Connection> {
        self.sharing
            .begin_request(worker, account, source, destinations, after)
    }

    /// A shared connection that is being opened; or one that is to be, which then has to come to `end_opening`.
    pub fn opening(&self, account: AccountId, source: IpAddr) -> Turn {
        self.sharing.opening(account, source)
    }

    fn forget(&self, shared: &Shared) {
        self.sharing.forget(shared.account(), shared.number());
    }

    /// It is over: tells those who wait for it.
    pub fn end_opening(&self, account: AccountId, opening: &Rc<Opening>, outcome: Outcome) {
        self.sharing.end_opening(account, opening, outcome);
    }

    /// From now on the connection is shared.
    ///
    /// # Errors
    /// It cannot be used.
    pub async fn share(
        &self,
        worker: &'static Worker,
        opened: Opened,
    ) -> Result<Rc<Shared>, Failure> {
        self.sharing.adopt(worker, opened).await
    }
}

/// What came of letting go.
pub enum LetGo {
    /// There was nothing.
    Nothing,
    /// It is gone.
    Done,
    /// It will be, soon.
    Ending(Ending),
}

/// A shared connection that is being closed.
pub struct Ending(Rc<Shared>);

impl LetGo {
    fn of(found: bool) -> Self {
        if found { Self::Done } else { Self::Nothing }
    }
}

impl Ending {
    /// Waits until it is closed.
    pub async fn ended(self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests;
