//! One worker thread's world: everything that the requests of one core share, and nothing that another core touches but
//! a few counters.

pub mod drain;
pub mod mailbox;
pub mod protocols;
pub mod start;
pub(crate) mod unwind;

use crate::accounts::{Accounts, Chooser};
use crate::config::Policy;
use crate::config::policy::{AccountId, UpstreamId};
use crate::connections::Connections;
use crate::journal::{Acceptance, Report, Writer};
use crate::limits::{Allowances, InFlight};
use crate::tls::Clients as TlsClients;
use crate::tls::handshakes::{Arrived, Handshakes, Untold};
use crate::upstreams::IdleConnections;
use drain::DrainBell;
use mailbox::Mailbox;
use protocols::Protocols;
use relay_io::{HandshakeGate, Pool, Secured, TlsError, Wheel};
use relay_wire::dialect::Dialect;
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, chunk_size_line};
use relay_wire::head::HeadLimits;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};
use unwind::CatchUnwind;

/// Buffers for heads that are kept.
const HEAD_BUFFERS_MAX: usize = 64;

/// The capacity up to which one is.
const HEAD_BUFFER_BYTES_MAX: usize = 8 * 1024;

/// A worker's world. Lives as long as the process; belongs to one thread.
pub struct Worker {
    /// Which one it is, from 0.
    pub number: u32,
    /// What the operator wants.
    pub policy: Arc<Policy>,
    /// Bounds of a head, as the parser wants them.
    pub head_limits: HeadLimits,
    /// Counters shared with the other workers.
    pub in_flight: &'static InFlight,
    /// What tenants and keys may use and have used.
    pub allowances: &'static Allowances,
    /// Whether what requests use can be kept on record.
    pub acceptance: &'static Acceptance,
    /// What all threads share about the accounts.
    pub accounts: &'static Accounts,
    /// Who holds how many connections, over all workers.
    pub connections: &'static Connections,
    /// Buffers.
    pub pool: Pool,
    /// Deadlines.
    pub wheel: Wheel,
    /// What TLS handshakes may take of the worker's time.
    pub handshakes: HandshakeGate,
    /// Connections to providers, kept for the next request.
    pub idle: IdleConnections,
    /// TLS towards providers.
    pub tls: Arc<TlsClients>,
    /// Which account is asked.
    pub chooser: Chooser,
    /// Reports to the control thread.
    pub journal: Writer,
    /// Client connections of this worker.
    pub clients: Clients,
    /// What is sent while a provider is silent.
    pub heartbeats: Heartbeats,
    mailbox: &'static Mailbox,
    addresses: RefCell<Rc<[Vec<SocketAddr>]>>,
    addresses_version: Cell<u64>,
    held_body_bytes: Rc<Cell<usize>>,
    random: RefCell<fastrand::Rng>,
    figures: &'static Figures,
    untold_handshakes: Untold,
    /// The sockets have been told to end.
    ending: Cell<bool>,
    draining_since: Cell<Option<Instant>>,
    drain_bell: DrainBell,
    /// The same moment on both clocks, renewed at every tick.
    clocks: Cell<(Instant, SystemTime)>,
    head_buffers: RefCell<Vec<Vec<u8>>>,
}

/// Figures of one worker that the control thread reads at any time.
#[derive(Default)]
#[repr(align(128))]
pub struct Figures {
    /// Client connections open.
    pub connections: AtomicU64,
    /// Client connections accepted.
    pub connections_accepted: AtomicU64,
    /// Streams being forwarded.
    pub streams_open: AtomicU64,
    /// Requests begun.
    pub requests_begun: AtomicU64,
    /// Connections to providers opened.
    pub upstream_connections_opened: AtomicU64,
    /// Connections to providers kept idle.
    pub upstream_connections_idle: AtomicU64,
    /// Bytes of request bodies held.
    pub held_body_bytes: AtomicU64,
    /// Reports that found no room.
    pub reports_lost: AtomicU64,
    /// TLS handshakes of clients.
    pub handshakes: Handshakes,
    /// What clients speak.
    pub protocols: Protocols,
}

/// Only the owning thread writes, so a load and a store do, without a locked instruction.
fn add(figure: &AtomicU64, change: i64) {
    figure.store(
        figure.load(Ordering::Relaxed).wrapping_add_signed(change),
        Ordering::Relaxed,
    );
}

impl Worker {
    /// A random number, for names and jitter; not for secrets.
    pub fn random_u128(&self) -> u128 {
        self.random.borrow_mut().u128(..)
    }

    /// A random number from 0 up to 1.
    pub fn random_fraction(&self) -> f64 {
        self.random.borrow_mut().f64()
    }

    /// The time of day at a moment just passed, without asking the kernel.
    pub fn wall_clock(&self, at: Instant) -> SystemTime {
        let (instant, time) = self.clocks.get();
        match at.checked_duration_since(instant) {
            Some(later) => time + later,
            None => time - instant.duration_since(at),
        }
    }

    /// A buffer to write a head into; to be given back with `keep_head_buffer`.
    pub fn head_buffer(&self) -> Vec<u8> {
        self.head_buffers
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(1024))
    }

    /// Keeps a buffer for the next head, if it is not an unusual one and not one of many.
    pub fn keep_head_buffer(&self, buffer: Vec<u8>) {
        let mut kept = self.head_buffers.borrow_mut();
        if kept.len() < HEAD_BUFFERS_MAX && buffer.capacity() <= HEAD_BUFFER_BYTES_MAX {
            kept.push(buffer);
        }
    }

    /// No new connections, and every answer is its connection's last.
    pub fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// What is still served has to end now.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Where the upstream can be reached, as last resolved.
    pub fn addresses_of(&self, upstream: UpstreamId) -> Addresses {
        Addresses {
            all: self.addresses.borrow().clone(),
            upstream,
        }
    }

    /// The body of the answer to `GET /health`.
    pub fn health_body(&self) -> String {
        format!(
            "{{\"status\":\"ok\",\"version\":\"{}\",\"time\":\"{}\"}}\n",
            env!("CARGO_PKG_VERSION"),
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    }

    /// Counts a request.
    pub fn count_request(&self) {
        add(&self.figures.requests_begun, 1);
    }

    /// Counts an open stream until the result is dropped.
    pub fn count_open_stream(&self) -> OpenStream {
        add(&self.figures.streams_open, 1);
        OpenStream(self.figures)
    }

    /// Counts a connection opened to a provider.
    pub fn note_connection_opened(&self) {
        add(&self.figures.upstream_connections_opened, 1);
    }

    /// Reports that a connection could not be accepted.
    pub fn note_accept_error(&self, error: &std::io::Error) {
        self.journal.report(Report::AcceptFailed(error.to_string()));
    }

    /// Counts a client's TLS handshake that is over, and reports one of those that failed.
    pub fn note_handshake(&self, arrived: Arrived, outcome: &Result<Secured, TlsError>) {
        let (now, _) = self.clocks.get();
        let counts = &self.figures.handshakes;
        if let Some(failed) = counts.note(&self.untold_handshakes, arrived, outcome, now) {
            self.journal.report(Report::HandshakeFailed(failed));
        }
    }

    /// Reports that there was no agreement on TLS with the provider of an account.
    pub fn note_upstream_tls_refused(&self, account: AccountId, reason: Cow<'static, str>) {
        let report = Report::UpstreamTlsRefused { account, reason };
        self.journal.report(report);
    }

    /// Reports that serving a connection panicked.
    pub fn note_panic(&self) {
        self.journal.report(Report::Panicked);
    }

    /// Starts a task of this thread. A panic ends it and nothing else.
    pub fn spawn(&'static self, task: impl Future<Output = ()> + 'static) {
        // Boxed here: a task that is captured keeps its place beside the box it was moved to.
        let task = CatchUnwind::new(task);
        relay_io::spawn(async move {
            if task.await.is_err() {
                self.note_panic();
            }
        });
    }

    /// An account of held bytes that stands at zero.
    pub fn hold_nothing(&self) -> HeldBytes {
        HeldBytes {
            total: self.held_body_bytes.clone(),
            bytes: 0,
            bytes_max: self.policy.limits.held_body_bytes_max,
        }
    }
}

/// Addresses of one upstream.
pub struct Addresses {
    all: Rc<[Vec<SocketAddr>]>,
    upstream: UpstreamId,
}

impl std::ops::Deref for Addresses {
    type Target = [SocketAddr];

    fn deref(&self) -> &[SocketAddr] {
        &self.all[usize::from(self.upstream.0)]
    }
}

/// A stream that is being forwarded.
pub struct OpenStream(&'static Figures);

impl Drop for OpenStream {
    fn drop(&mut self) {
        add(&self.0.streams_open, -1);
    }
}

/// Client connections of one worker, and how many there may be.
pub struct Clients {
    open: Rc<Cell<usize>>,
    max: usize,
    figures: &'static Figures,
}

/// One client connection.
pub struct ClientPlace {
    open: Rc<Cell<usize>>,
    figures: &'static Figures,
}

impl Clients {
    /// No more may be accepted for now.
    pub fn is_full(&self) -> bool {
        self.open.get() >= self.max
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.get()
    }

    /// Counts one more, until the place is dropped.
    pub fn enter(&self) -> ClientPlace {
        self.open.set(self.open.get() + 1);
        add(&self.figures.connections, 1);
        add(&self.figures.connections_accepted, 1);
        ClientPlace {
            open: self.open.clone(),
            figures: self.figures,
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        add(&self.figures.connections, -1);
    }
}

/// Bytes of one request body that are being held; given back when dropped.
pub struct HeldBytes {
    total: Rc<Cell<usize>>,
    bytes: usize,
    bytes_max: usize,
}

impl HeldBytes {
    /// Counts more, if the worker may hold so many.
    pub fn grow(&mut self, bytes: usize) -> bool {
        if self.total.get() + bytes > self.bytes_max {
            return false;
        }
        self.total.set(self.total.get() + bytes);
        self.bytes += bytes;
        true
    }

    /// Nothing is held any more.
    pub fn give_back(&mut self) {
        self.total.set(self.total.get() - self.bytes);
        self.bytes = 0;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Heartbeats, ready to be sent: by dialect, plain and as a chunk. Made once per worker and never freed.
pub struct Heartbeats([[Option<&'static [u8]>; 2]; Dialect::ALL.len()]);

impl Heartbeats {
    fn new() -> Self {
        Self(Dialect::ALL.map(|dialect| match dialect.heartbeat() {
            Some(event) => {
                let mut line = [0; CHUNK_SIZE_LINE_MAX];
                let taken = chunk_size_line(event.len(), &mut line);
                let chunk = [&line[CHUNK_SIZE_LINE_MAX - taken..], event, b"\r\n"].concat();
                [Some(event), Some(Box::leak(chunk.into_boxed_slice()))]
            }
            None => [None, None],
        }))
    }

    /// The heartbeat of a dialect, if it has one.
    pub fn of(&self, dialect: Dialect, chunked: bool) -> Option<&'static [u8]> {
        let position = Dialect::ALL.iter().position(|&known| known == dialect)?;
        self.0[position][usize::from(chunked)]
    }
}
