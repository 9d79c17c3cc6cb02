//! The shared connections of one worker, and those that are being opened: whoever comes meanwhile waits for one of these instead of
//! opening one of its own.

use super::Connection;
use super::shared::{Opened, Shared};
use crate::config::Policy;
use crate::config::policy::{AccountId, Protocol, TenantId, Upstream};
use crate::request::egress::Failure;
use crate::worker::Worker;
use relay_io::Alpn;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Whoever has a connection opened begins on it before it has been idle for so long.
const REST: Duration = Duration::from_millis(100);

/// The shared connections of one worker.
pub(super) struct Sharing {
    by_account: RefCell<Vec<OfAccount>>,
    /// Connections so far.
    begun: Cell<u64>,
    /// Requests that one connection is opened for.
    requests_max: u32,
}

#[derive(Default)]
struct OfAccount {
    connections: Vec<Rc<Shared>>,
    opening: Vec<Rc<Opening>>,
    /// Where it was left to the provider, what it has chosen last: by the address that it was asked from.
    chosen: Vec<(IpAddr, Alpn)>,
}

/// A connection that is being opened, and the requests that wait for it.
pub struct Opening {
    source: IpAddr,
    requests: Cell<u32>,
    outcome: RefCell<Option<Outcome>>,
    waiting: RefCell<Vec<Waker>>,
    /// Its failure is on record.
    is_blamed: Cell<bool>,
}

/// What has come of a connection that was being opened.
pub enum Outcome {
    /// It carries all of them.
    Shared(Rc<Shared>),
    /// It speaks HTTP/1.1, so it is for the first of them; the others need one each.
    Own(RefCell<Option<Box<Connection>>>),
    /// It could not be opened.
    Failed(Failure),
}

/// Who opens a connection.
pub enum Turn {
    /// Nobody yet: whoever asks.
    Own(Rc<Opening>),
    /// Somebody else.
    Others(Rc<Opening>),
}

impl Opening {
    /// Waits until it is over. May be dropped at any time.
    pub async fn ended(&self) {
        poll_fn(|context| {
            if self.outcome.borrow().is_some() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What has come of it for one of those who have waited, who is this tenant's. `None`: nothing, or no room; and there is
    /// nothing to wait for any more.
    ///
    /// # Errors
    /// It could not be opened; or the tenant may have no connection of its own.
    pub fn found(
        &self,
        worker: &'static Worker,
        tenant: Option<TenantId>,
    ) -> Result<Option<Connection>, Failure> {
        match &*self.outcome.borrow() {
            None => Ok(None),
            Some(Outcome::Shared(shared)) if shared.has_room() => Ok(shared.begin_request(worker)),
            Some(Outcome::Shared(_)) => Ok(None),
            Some(Outcome::Own(connection)) => {
                let Some(mut connection) = connection.take() else {
                    return Ok(None);
                };
                if let Err(denied) = connection.assign(tenant) {
                    worker.idle.keep(*connection, &worker.policy.timeouts);
                    return Err(denied.into());
                }
                Ok(Some(*connection))
            }
            Some(Outcome::Failed(failure)) => Err(self.failed(failure.clone())),
        }
    }

    /// Why there was nothing, for somebody who waits no longer.
    pub fn why_not(&self) -> Failure {
        match &*self.outcome.borrow() {
            // As many as the provider allows came before.
            Some(Outcome::Shared(shared)) if shared.takes_more() => Failure::NotBegun,
            _ => self.failed(Failure::Broken),
        }
    }

    /// It is one failure, however many have waited.
    fn failed(&self, failure: Failure) -> Failure {
        if self.is_blamed.replace(true) {
            failure.on_record()
        } else {
            failure
        }
    }
}

impl Sharing {
    pub(super) fn new(policy: &Policy) -> Self {
        let accounts = policy.accounts.iter();
        Self {
            by_account: RefCell::new(accounts.map(|_| OfAccount::default()).collect()),
            begun: Cell::new(0),
            requests_max: policy.limits.upstream_http2_streams_max,
        }
    }

    /// Are connections of this account from this address shared, as far as that is known?
    pub(super) fn is_expected(
        &self,
        account: AccountId,
        source: IpAddr,
        upstream: &Upstream,
    ) -> bool {
        match upstream.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => {
                let by_account = self.by_account.borrow();
                let mut chosen = by_account[usize::from(account.0)].chosen.iter();
                let chosen = chosen.find(|(from, _)| *from == source);
                upstream.tls.is_some() && chosen.is_none_or(|(_, chosen)| *chosen == Alpn::Http2)
            }
        }
    }

    /// What a provider that had the choice has chosen.
    pub(super) fn note_choice(&self, account: AccountId, source: IpAddr, chosen: Alpn) {
        let all = &mut self.by_account.borrow_mut()[usize::from(account.0)].chosen;
        match all.iter_mut().find(|(from, _)| *from == source) {
            Some((_, known)) => *known = chosen,
            None => all.push((source, chosen)),
        }
    }

    /// A request on a connection of the account that takes another one: the fullest, so that the others become idle.
    /// `after`: only on those that were opened behind the one of this number.
    pub(super) fn begin_request(
        &self,
        worker: &'static Worker,
        account: AccountId,
        source: IpAddr,
        destinations: &[SocketAddr],
        after: u64,
    ) -> Option<Connection> {
        let by_account = self.by_account.borrow();
        let connections = by_account[usize::from(account.0)].connections.iter();
        let available = connections
            .filter(|shared| shared.number() > after && shared.is_available(source, destinations));
        let shared = available
            .max_by_key(|shared| shared.streams_open())?
            .clone();
        drop(by_account);
        shared.begin_request(worker)
    }

    /// A connection that is being opened for this account from this address and is not spoken for by as many requests as it can
    /// carry; else a new one.
    pub(super) fn opening(&self, account: AccountId, source: IpAddr) -> Turn {
        let mut by_account = self.by_account.borrow_mut();
        let own = &mut by_account[usize::from(account.0)];
        // The provider will hardly allow more on the new one than on those that there are.
        let allowed = own.connections.iter().map(|shared| shared.streams_max());
        let allowed = allowed
            .min()
            .and_then(|allowed| u32::try_from(allowed).ok());
        let requests_max = allowed.map_or(self.requests_max, |allowed| {
            self.requests_max.min(allowed.max(1))
        });
        let openings = &mut own.opening;
        let mut open = openings.iter();
        let has_room = |opening: &&Rc<Opening>| {
            opening.source == source && opening.requests.get() < requests_max
        };
        if let Some(opening) = open.find(has_room) {
            opening.requests.set(opening.requests.get() + 1);
            return Turn::Others(opening.clone());
        }
        let opening = Rc::new(Opening {
            source,
            requests: Cell::new(1),
            outcome: RefCell::default(),
            waiting: RefCell::default(),
            is_blamed: Cell::new(false),
        });
        openings.push(opening.clone());
        Turn::Own(opening)
    }

    /// Tells those who wait for it.
    pub(super) fn end_opening(&self, account: AccountId, opening: &Rc<Opening>, outcome: Outcome) {
        let mut by_account = self.by_account.borrow_mut();
        let openings = &mut by_account[usize::from(account.0)].opening;
        openings.retain(|other| !Rc::ptr_eq(other, opening));
        drop(by_account);
        opening.outcome.replace(Some(outcome));
        opening.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Speaks HTTP/2 on a new connection from now on.
    pub(super) async fn adopt(
        &self,
        worker: &'static Worker,
        mut opened: Opened,
    ) -> Result<Rc<Shared>, Failure> {
        // Where it was opened for one request it was that one's tenant's.
        opened.places.assign(&opened.stream, None)?;
        let number = self.begun.get() + 1;
        self.begun.set(number);
        let begun = Shared::begin(worker, opened, number).await;
        let shared = begun.map_err(|_| Failure::Broken)?;
        let account = usize::from(shared.account().0);
        self.by_account.borrow_mut()[account]
            .connections
            .push(shared.clone());
        Ok(shared)
    }

    /// It has ended.
    pub(super) fn forget(&self, account: AccountId, number: u64) {
        let mut by_account = self.by_account.borrow_mut();
        let connections = &mut by_account[usize::from(account.0)].connections;
        connections.retain(|shared| shared.number() != number);
    }

    /// Ends so many of the account's connections that carry nothing, the ones that have done so for longest, and says which.
    pub(super) fn let_go(&self, account: AccountId, count: usize) -> Vec<Rc<Shared>> {
        let by_account = self.by_account.borrow();
        let connections = by_account[usize::from(account.0)].connections.iter();
        let mut idle: Vec<_> = connections
            .filter(|shared| shared.is_idle())
            .cloned()
            .collect();
        idle.sort_unstable_by_key(|shared| (shared.idle_since(), shared.number()));
        idle.truncate(count);
        idle.iter().for_each(|shared| shared.cut());
        idle
    }

    /// At every tick.
    pub(super) fn tend(&self) {
        let now = Instant::now();
        self.for_each(|shared| shared.beat(now));
    }

    /// Lets go of what has been idle for too long, and of each account's idle ones beyond this number, those used least recently
    /// first.
    pub(super) fn sweep(&self, idle_timeout: Duration, idle_max: usize) {
        let now = Instant::now();
        self.for_each(|shared| shared.sweep(now, idle_timeout));
        for own in &*self.by_account.borrow() {
            let has_rested = |shared: &&Rc<Shared>| {
                shared.is_idle() && now.saturating_duration_since(shared.idle_since()) >= REST
            };
            let mut idle: Vec<_> = own.connections.iter().filter(has_rested).collect();
            let surplus = idle.len().saturating_sub(idle_max);
            idle.sort_unstable_by_key(|shared| (shared.idle_since(), shared.number()));
            idle.iter().take(surplus).for_each(|shared| shared.retire());
        }
    }

    /// Lets go of all, as soon as they carry nothing any more.
    pub(super) fn clear(&self) {
        self.for_each(Shared::retire);
    }

    /// Connections that carry nothing.
    pub(super) fn idle_count(&self) -> usize {
        let by_account = self.by_account.borrow();
        let all = by_account.iter().flat_map(|own| &own.connections);
        all.filter(|shared| shared.is_idle()).count()
    }

    fn for_each(&self, mut what: impl FnMut(&Shared)) {
        let by_account = self.by_account.borrow();
        let all = by_account.iter().flat_map(|own| &own.connections);
        all.for_each(|shared| what(shared));
    }
}
