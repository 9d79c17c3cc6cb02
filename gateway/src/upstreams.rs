//! Connections to the providers that one worker keeps for the next request.
//!
//! They are kept by account, address and authority: a connection that was opened for one account never serves another.

use crate::config::Policy;
use crate::config::policy::{AccountId, Timeouts};
use relay_io::Stream;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection to a provider.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    account: AccountId,
    source: IpAddr,
    destination: SocketAddr,
    /// A point in time of the worker's wheel.
    retires_at: u64,
    served: u32,
}

/// The connections of one worker that nobody uses at the moment.
pub struct IdleConnections {
    /// By account, which implies the authority; last in, first out.
    by_account: RefCell<Vec<Vec<Connection>>>,
    idle_max: usize,
}

impl Connection {
    /// A connection just opened. It retires `age` from now, varied by ± 20 % with `chance` (0 to 1), so that connections
    /// which were opened together do not end together.
    pub fn new(
        stream: Stream,
        account: AccountId,
        source: IpAddr,
        destination: SocketAddr,
        age: Duration,
        chance: f64,
    ) -> Self {
        let retires_at = stream.deadline_at(age.mul_f64(0.8 + 0.4 * chance));
        Self {
            stream,
            account,
            source,
            destination,
            retires_at,
            served: 0,
        }
    }

    /// It has served a request before: the provider may close it at any moment, without meaning this one.
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }
}

impl IdleConnections {
    /// None yet.
    pub fn new(policy: &Policy) -> Self {
        Self {
            by_account: RefCell::new(policy.accounts.iter().map(|_| Vec::new()).collect()),
            idle_max: policy.limits.pool_idle_max,
        }
    }

    /// The connection of this account that was used last, if it still is as it was left.
    pub fn take(
        &self,
        account: AccountId,
        source: IpAddr,
        destinations: &[SocketAddr],
    ) -> Option<Connection> {
        let mut by_account = self.by_account.borrow_mut();
        let idle = &mut by_account[usize::from(account.0)];
        while let Some(position) = idle.iter().rposition(|connection| {
            connection.source == source && destinations.contains(&connection.destination)
        }) {
            let connection = idle.remove(position);
            debug_assert!(connection.account == account, "never another account's");
            connection.stream.unwatch_peer();
            connection.stream.clear_deadline();
            if !connection.stream.has_passed(connection.retires_at) && connection.stream.is_quiet()
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its very end.
    pub fn keep(&self, mut connection: Connection, timeouts: &Timeouts) {
        let mut by_account = self.by_account.borrow_mut();
        let idle = &mut by_account[usize::from(connection.account.0)];
        if idle.len() >= self.idle_max || connection.stream.has_passed(connection.retires_at) {
            return;
        }
        connection.served += 1;
        connection.stream.set_deadline(timeouts.pool_idle);
        connection.stream.watch_peer();
        idle.push(connection);
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
            idle.clear();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_account.borrow().iter().map(Vec::len).sum()
    }
}
