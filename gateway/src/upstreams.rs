//! Connections to the providers that one worker keeps for the next request.
//!
//! They are kept by account, address and authority: a connection that was opened for one account never serves another.
//!
//! A connection that served a tenant with a cap stays that tenant's for a moment, since its next request will mostly want it
//! again; then it is nobody's, so that nobody is kept out by connections on which nothing happens.

use crate::config::Policy;
use crate::config::policy::{AccountId, TenantId, Timeouts};
use crate::connections::{Denied, Short, Shortages, UpstreamPlaces};
use relay_io::Stream;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection to a provider.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    account: AccountId,
    source: IpAddr,
    destination: SocketAddr,
    places: UpstreamPlaces,
    /// A point in time of the worker's wheel.
    retires_at: u64,
    /// The same: since then it has been idle for a whole tick.
    rested_at: u64,
    served: u32,
}

/// Just long enough that a whole tick of the wheel passes.
const REST: Duration = Duration::from_millis(1);

/// The connections of one worker that nobody uses at the moment.
pub struct IdleConnections {
    /// By account, which implies the authority; last in, first out.
    by_account: RefCell<Vec<Vec<Connection>>>,
    idle_max: usize,
    /// Accounts with connections that are some tenant's, each once.
    assigned: RefCell<Vec<AccountId>>,
    worker: u32,
    shortages: &'static Shortages,
    last_call: Cell<u64>,
}

impl Connection {
    /// A connection just opened. It retires `age` from now, varied by ± 20 % with `chance` (0 to 1), so that connections
    /// which were opened together do not end together.
    pub fn new(
        stream: Stream,
        places: UpstreamPlaces,
        source: IpAddr,
        destination: SocketAddr,
        age: Duration,
        chance: f64,
    ) -> Self {
        let retires_at = stream.deadline_at(age.mul_f64(0.8 + 0.4 * chance));
        Self {
            stream,
            account: places.account(),
            source,
            destination,
            places,
            retires_at,
            rested_at: 0,
            served: 0,
        }
    }

    /// It has served a request before: the provider may close it at any moment, without meaning this one.
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// Ends it, so that its place can be taken from now on.
    pub fn close(self) {
        self.stream.close_at_once();
    }

    /// It becomes nobody's. False if that cannot be: it must not be used any more.
    fn is_freed(&mut self) -> bool {
        self.places.assign(&self.stream, None).is_ok()
    }
}

impl IdleConnections {
    /// None yet. `shortages`: what this worker, of this number, is to let go of.
    pub fn new(policy: &Policy, worker: u32, shortages: &'static Shortages) -> Self {
        Self {
            by_account: RefCell::new(policy.accounts.iter().map(|_| Vec::new()).collect()),
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
        let idle = &mut by_account[usize::from(account.0)];
        while let Some(position) = idle.iter().rposition(|connection| {
            connection.source == source && destinations.contains(&connection.destination)
        }) {
            let connection = &mut idle[position];
            debug_assert!(connection.account == account, "never another account's");
            let is_usable = !connection.stream.has_passed(connection.retires_at)
                && connection.stream.is_quiet();
            let assigned = is_usable.then(|| connection.places.assign(&connection.stream, tenant));
            if assigned == Some(Err(Denied::TenantFull)) {
                return Err(Denied::TenantFull);
            }
            let connection = idle.remove(position);
            if assigned == Some(Ok(())) {
                connection.stream.unwatch_peer();
                connection.stream.clear_deadline();
                return Ok(Some(connection));
            }
            connection.close();
        }
        Ok(None)
    }

    /// Keeps a connection whose last answer was read to its very end.
    pub fn keep(&self, mut connection: Connection, timeouts: &Timeouts) {
        let mut by_account = self.by_account.borrow_mut();
        let idle = &mut by_account[usize::from(connection.account.0)];
        if idle.len() >= self.idle_max
            || connection.stream.has_passed(connection.retires_at)
            || self
                .shortages
                .is_waited_for(Short::Account(connection.account))
        {
            return connection.close();
        }
        if let Some(tenant) = connection.places.tenant() {
            let is_waited_for = self.shortages.is_waited_for(Short::Tenant(tenant));
            if is_waited_for && !connection.is_freed() {
                return connection.close();
            }
        }
        connection.served += 1;
        connection.rested_at = connection.stream.deadline_at(REST);
        connection.stream.set_deadline(timeouts.pool_idle);
        connection.stream.watch_peer();
        if connection.places.tenant().is_some() {
            let mut assigned = self.assigned.borrow_mut();
            if !assigned.contains(&connection.account) {
                assigned.push(connection.account);
            }
        }
        idle.push(connection);
    }

    /// Lets go of what somebody is short of: connections become nobody's, or the one of an account that was used least recently
    /// is closed. True if anything was there.
    pub fn let_go(&self, short: Short) -> bool {
        match short {
            Short::Tenant(_) => self.free_assigned(|_| true),
            Short::Account(account) => {
                let idle = &mut self.by_account.borrow_mut()[usize::from(account.0)];
                let found = !idle.is_empty();
                idle.drain(..usize::from(found)).for_each(Connection::close);
                found
            }
        }
    }

    /// At every tick: connections that have rested become nobody's, and whatever others are short of is let go.
    pub fn tend(&self) {
        self.free_assigned(|connection| connection.stream.has_passed(connection.rested_at));
        let call = self.shortages.last_call();
        if call == self.last_call.replace(call) {
            return;
        }
        self.free_assigned(|_| true);
        for (account, idle) in (0..).zip(self.by_account.borrow_mut().iter_mut()) {
            let wanted = self
                .shortages
                .waited_for(Short::Account(AccountId(account)));
            // Those used least recently; no more than are waited for, or one request would cost all others theirs.
            let count = idle
                .len()
                .min(usize::try_from(wanted).unwrap_or(usize::MAX));
            idle.drain(..count).for_each(Connection::close);
        }
        self.shortages.note_heard(self.worker, call);
    }

    /// Those of the connections that are some tenant's become nobody's. True if there were any.
    fn free_assigned(&self, is_meant: impl Fn(&Connection) -> bool) -> bool {
        let mut by_account = self.by_account.borrow_mut();
        let mut found = false;
        self.assigned.borrow_mut().retain(|account| {
            let mut is_left = false;
            by_account[usize::from(account.0)].retain_mut(|connection| {
                if connection.places.tenant().is_none() {
                    return true;
                }
                let is_meant = is_meant(connection);
                found |= is_meant;
                is_left |= !is_meant;
                !is_meant || connection.is_freed()
            });
            is_left
        });
        found
    }

    /// Lets go of what has ended meanwhile: closed by the provider, or idle for too long.
    pub fn sweep(&self) {
        for idle in self.by_account.borrow_mut().iter_mut() {
            idle.retain(|connection| connection.stream.interrupted().is_none());
        }
    }

    /// Lets go of all.
    pub fn clear(&self) {
        for idle in self.by_account.borrow_mut().iter_mut() {
            idle.drain(..).for_each(Connection::close);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_account.borrow().iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests;
