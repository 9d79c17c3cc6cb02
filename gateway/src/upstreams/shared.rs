//! Connections that carry many requests at one time: HTTP/2 (RFC 9113).
//!
//! Each is one account's, from one of its addresses; its place counts for the account once, and for no tenant. Two kinds of tasks
//! belong to it: `drive` moves its frames, `exchange::carry` stands between one request and its stream.

use super::exchange::{self, Fate};
use super::{Carried, Connection, Kind};
use crate::config::policy::AccountId;
use crate::connections::UpstreamPlaces;
use crate::request::egress::Failure;
use crate::worker::Worker;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use http::uri::Scheme;
use relay_io::{Duplex, DuplexHandle, Ending, Interrupt, Interrupter, Stream, pipe};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What one stream may have on its way to us or unread: what a client that has stopped reading holds at most.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// For all streams together, at least.
const CONNECTION_WINDOW_BYTES_MIN: u32 = 4 * 1024 * 1024;

/// The largest window that there is (RFC 9113 section 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// Of a request's body, so much waits inside of `h2` for each stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Streams that `h2` has reset for the provider's mistakes; more end the connection.
const LOCAL_ERROR_RESETS_MAX: usize = 128;

/// How often the provider is asked whether it is still there while requests wait for it, and how long it may take to say so. A
/// connection on which nothing comes back looks the same to its sockets as one on which nothing happens.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PONG_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of a connection may take that ends in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that carries several requests.
pub struct Shared {
    number: u64,
    account: AccountId,
    source: IpAddr,
    destination: SocketAddr,
    scheme: Scheme,
    /// `None`: it takes no more requests, and ends with the last of those that it has.
    requests: RefCell<Option<SendRequest<Bytes>>>,
    streams_max: usize,
    streams_open: Cell<usize>,
    streams_begun: Cell<u64>,
    /// The provider has refused a stream, and none has ended since.
    refuses: Cell<bool>,
    retires_at: Instant,
    idle_since: Cell<Instant>,
    ping: Cell<Watching>,
    /// To be ended at once.
    is_cut: Cell<bool>,
    socket: Interrupter,
    /// The provider took nothing of what was sent, for too long.
    has_stalled: Cell<bool>,
    /// Its loss is on record.
    is_blamed: Cell<bool>,
    driver: RefCell<Option<Waker>>,
    /// Given back when the socket is closed.
    places: RefCell<Option<UpstreamPlaces>>,
    /// Who waits for that.
    closing: RefCell<Vec<Waker>>,
}

/// Whether the provider is still there.
#[derive(Clone, Copy)]
enum Watching {
    /// No request waits for it.
    Not,
    /// It is asked then.
    AskAt(Instant),
    /// It is to be asked now.
    Ask,
    /// It was asked, and has to answer until then.
    AnswerBy(Instant),
}

/// What a new connection is made of.
pub struct Opened {
    /// The connection, secured if it has to be.
    pub stream: Stream,
    /// Its place.
    pub places: UpstreamPlaces,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to.
    pub destination: SocketAddr,
}

/// One of the streams of a connection; given back when dropped.
pub(super) struct StreamPlace {
    shared: Rc<Shared>,
    was_refused: bool,
}

impl Shared {
    /// Begins to speak HTTP/2 on a new connection, the `number`th of its worker.
    ///
    /// # Errors
    /// What is sent first cannot be sent.
    pub(super) async fn begin(
        worker: &'static Worker,
        opened: Opened,
        number: u64,
    ) -> Result<Rc<Self>, h2::Error> {
        let (timeouts, limits) = (&worker.policy.timeouts, &worker.policy.limits);
        let scheme = if opened.stream.is_secured() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let streams_max = limits.upstream_http2_streams_max as usize;
        let socket = opened.stream.interrupter();
        let (duplex, handle) = Duplex::over(
            opened.stream,
            None,
            &worker.pool,
            timeouts.write_stall,
            Box::new(|_| true),
        );
        let header_list_bytes = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(connection_window_bytes(streams_max))
            .max_header_list_size(header_list_bytes)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .initial_max_send_streams(streams_max)
            .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS_MAX))
            .handshake(duplex)
            .await;
        let (requests, connection) = match handshake {
            Ok(begun) => begun,
            Err(error) => {
                handle.close(Duration::ZERO).await;
                return Err(error);
            }
        };
        let now = Instant::now();
        let age = timeouts
            .pool_age
            .mul_f64(0.8 + 0.4 * worker.random_fraction());
        let shared = Rc::new(Self {
            number,
            account: opened.places.account(),
            source: opened.source,
            destination: opened.destination,
            scheme,
            requests: RefCell::new(Some(requests)),
            streams_max,
            streams_open: Cell::new(0),
            streams_begun: Cell::new(0),
            refuses: Cell::new(false),
            retires_at: now + age,
            idle_since: Cell::new(now),
            ping: Cell::new(Watching::Not),
            is_cut: Cell::new(false),
            socket,
            has_stalled: Cell::new(false),
            is_blamed: Cell::new(false),
            driver: RefCell::default(),
            places: RefCell::new(Some(opened.places)),
            closing: RefCell::default(),
        });
        worker.spawn(drive(worker, shared.clone(), connection, handle));
        Ok(shared)
    }

    /// The number of its worker's connections that it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Can another request be begun on it, from this address to one of these?
    pub(super) fn is_available(&self, source: IpAddr, destinations: &[SocketAddr]) -> bool {
        self.source == source
            && destinations.contains(&self.destination)
            && self.has_room()
            && Instant::now() < self.retires_at
    }

    /// Can another request be begun on it, were it as young as can be?
    pub(super) fn has_room(&self) -> bool {
        self.takes_more()
            && !self.refuses.get()
            && !self.is_cut.get()
            && self.streams_open.get() < self.streams_max()
    }

    /// Streams that it may carry at one time, as far as that is known: the provider's own word comes with its SETTINGS.
    pub(super) fn streams_max(&self) -> usize {
        let requests = self.requests.borrow();
        let theirs = requests
            .as_ref()
            .map_or(usize::MAX, SendRequest::current_max_send_streams);
        self.streams_max.min(theirs)
    }

    /// It has not come to its end. The provider may have sent GOAWAY while requests are still on it.
    pub(super) fn takes_more(&self) -> bool {
        let mut requests = self.requests.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let takes_more = requests.as_mut().is_some_and(|requests| {
            matches!(requests.poll_ready(&mut context), Poll::Ready(Ok(())))
        });
        if !takes_more {
            *requests = None;
        }
        takes_more
    }

    /// Begins a request on it. `None`: it has come to its end.
    pub fn begin_request(self: &Rc<Self>, worker: &'static Worker) -> Option<Connection> {
        let requests = self.requests.borrow().clone()?;
        let (stream, far) = pipe(&worker.wheel);
        let fate = Rc::new(Cell::new(Fate::Well));
        let carried = Carried {
            fate: fate.clone(),
            shared: self.clone(),
            was_used: self.streams_begun.get() > 0,
        };
        self.streams_begun.set(self.streams_begun.get() + 1);
        self.streams_open.set(self.streams_open.get() + 1);
        let place = StreamPlace {
            shared: self.clone(),
            was_refused: false,
        };
        let scheme = self.scheme.clone();
        worker.spawn(exchange::carry(place, far, requests, scheme, fate));
        Some(Connection {
            stream,
            kind: Kind::Shared(carried),
        })
    }

    /// No request is on it, and it could take one.
    pub(super) fn is_idle(&self) -> bool {
        self.streams_open.get() == 0 && self.requests.borrow().is_some() && !self.is_cut.get()
    }

    /// Since when nothing has been on it; a moment in the past where something is.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Requests on it.
    pub(super) fn streams_open(&self) -> usize {
        self.streams_open.get()
    }

    pub(super) fn account(&self) -> AccountId {
        self.account
    }

    /// Waits until its socket is closed.
    pub(super) async fn closed(&self) {
        poll_fn(|context| {
            if self.places.borrow().is_none() {
                return Poll::Ready(());
            }
            self.closing.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The provider took nothing of what was sent, for too long: it has ended for that.
    pub(super) fn has_stalled(&self) -> bool {
        self.has_stalled.get()
    }

    /// The provider does not take what is sent, at the moment or for good.
    pub(super) fn is_held_up(&self) -> bool {
        self.has_stalled() || self.socket.is_held_up()
    }

    /// Of what befalls all of its requests: true for the first one that asks.
    pub(super) fn takes_blame(&self) -> bool {
        !self.is_blamed.replace(true)
    }

    /// It is one failure, however many requests it befell.
    pub(super) fn blame(&self, failure: Failure) -> Failure {
        if self.takes_blame() {
            failure
        } else {
            failure.on_record()
        }
    }

    /// It takes no more requests.
    pub(super) fn retire(&self) {
        // Where it has none the connection ends by itself: nobody can begin any more.
        self.requests.replace(None);
    }

    /// Ends it at once.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        self.wake_driver();
    }

    /// At every tick: lets the provider be asked whether it is still there, and gives it up if it does not say so.
    pub(super) fn beat(&self, now: Instant) {
        let is_busy = self.streams_open.get() > 0;
        match self.ping.get() {
            Watching::Not if is_busy => self.ping.set(Watching::AskAt(now + PING_INTERVAL)),
            Watching::AskAt(_) if !is_busy => self.ping.set(Watching::Not),
            Watching::AskAt(at) if now >= at => {
                self.ping.set(Watching::Ask);
                self.wake_driver();
            }
            Watching::AnswerBy(by) if now >= by => self.cut(),
            Watching::Not | Watching::AskAt(_) | Watching::Ask | Watching::AnswerBy(_) => {}
        }
    }

    /// Lets go of it if it has been idle for too long, or has become too old.
    pub(super) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        let idle_for = now.saturating_duration_since(self.idle_since());
        if self.is_idle() && idle_for >= idle_timeout || now >= self.retires_at {
            self.retire();
        }
    }

    fn poll_pings(&self, pings: &mut PingPong, context: &mut Context<'_>) -> Result<(), h2::Error> {
        if let Watching::Ask = self.ping.get() {
            pings.send_ping(Ping::opaque())?;
            self.ping
                .set(Watching::AnswerBy(Instant::now() + PONG_TIMEOUT));
        }
        if let Watching::AnswerBy(_) = self.ping.get()
            && let Poll::Ready(pong) = pings.poll_pong(context)
        {
            pong?;
            self.ping.set(Watching::Not);
        }
        Ok(())
    }

    fn wake_driver(&self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl StreamPlace {
    /// The stream was refused: either the connection takes no more at all, or has enough of them for now.
    pub(super) fn note_refusal(&mut self) {
        self.was_refused = true;
        self.shared.refuses.set(true);
        self.shared.takes_more();
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.streams_open.set(shared.streams_open.get() - 1);
        shared.idle_since.set(Instant::now());
        if !self.was_refused {
            // One that was served has made room.
            shared.refuses.set(false);
        } else if shared.refuses.get() && shared.streams_open.get() == 0 {
            // Nothing is on it whose end could make room.
            shared.retire();
        }
    }
}

/// More than the windows of all streams, so that none of them ever waits for another one to be read.
fn connection_window_bytes(streams_max: usize) -> u32 {
    let streams_max = u32::try_from(streams_max).unwrap_or(u32::MAX);
    streams_max
        .saturating_mul(STREAM_WINDOW_BYTES)
        .clamp(CONNECTION_WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
}

/// Moves frames until the connection has ended, and gives its place back then.
async fn drive(
    worker: &'static Worker,
    shared: Rc<Shared>,
    mut connection: client::Connection<Duplex, Bytes>,
    handle: DuplexHandle,
) {
    let _driven = Driven {
        worker,
        shared: &shared,
    };
    let mut pings = connection.ping_pong();
    let in_order = poll_fn(|context| {
        shared.driver.replace(Some(context.waker().clone()));
        if shared.is_cut.get() {
            return Poll::Ready(false);
        }
        let asked = pings.as_mut();
        if let Some(Err(_)) = asked.map(|pings| shared.poll_pings(pings, context)) {
            return Poll::Ready(false);
        }
        if let Poll::Ready(outcome) = Pin::new(&mut connection).poll(context) {
            return Poll::Ready(outcome.is_ok());
        }
        match handle.poll_ended(context) {
            // What came before is read first; then the protocol ends it.
            Poll::Ready(Ending::Peer) | Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(false),
        }
    })
    .await;
    shared.retire();
    match handle.ending() {
        Some(Ending::Panicked) => worker.note_panic(),
        Some(Ending::Stalled) => shared.has_stalled.set(true),
        _ => {}
    }
    // From here on its streams end.
    drop(connection);
    let close_timeout = if in_order {
        CLOSE_TIMEOUT
    } else {
        Duration::ZERO
    };
    handle.close(close_timeout).await;
}

/// Whatever becomes of the task, nobody is left waiting for what it drives.
struct Driven<'s> {
    worker: &'static Worker,
    shared: &'s Shared,
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.shared.retire();
        self.shared.socket.interrupt(Interrupt::Shutdown);
        self.worker.idle.forget(self.shared);
        drop(self.shared.places.take());
        self.shared.closing.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
