//! Starting a worker, and what it does besides serving: looking into its mailbox, and finishing.

use super::drain::DrainBell;
use super::mailbox::Mailbox;
use super::{Clients, Figures, Heartbeats, Worker};
use crate::accounts::{Accounts, Chooser};
use crate::config::Policy;
use crate::connections::Connections;
use crate::journal::{Acceptance, Writer};
use crate::limits::{Allowances, InFlight};
use crate::listen::accept::{self, Beginning};
use crate::tls::Clients as TlsClients;
use crate::tls::handshakes::Untold;
use crate::tls::server::{Server, View};
use crate::upstreams::IdleConnections;
use relay_io::{Engine, HandshakeGate, Listener, Pool, Wheel, spawn};
use relay_wire::head::HeadLimits;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Ticks of the wheel between two looks at the kept connections (1 s).
const SWEEP_TICKS: u32 = 20;

/// How long answers that only their usage is waited for may still take when the gateway drains.
const ORPHANS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a worker is made of; sent to its thread.
pub struct Parts {
    /// Its number, from 0.
    pub number: u32,
    /// The core it is pinned to, if it is.
    pub core: Option<usize>,
    /// What drives it.
    pub engine: Engine,
    /// What the operator wants.
    pub policy: Arc<Policy>,
    /// Its sockets, one for each listener.
    pub sockets: Vec<TcpListener>,
    /// What each of them shakes hands with, if it does.
    pub servers: Vec<Option<Arc<Server>>>,
    /// Counters shared with the other workers.
    pub in_flight: &'static InFlight,
    /// What tenants and keys have used.
    pub allowances: &'static Allowances,
    /// Whether what requests use can be kept on record.
    pub acceptance: &'static Acceptance,
    /// What all threads share about the accounts.
    pub accounts: &'static Accounts,
    /// Who holds how many connections, over all workers.
    pub connections: &'static Connections,
    /// TLS towards providers.
    pub tls_clients: Arc<TlsClients>,
    /// Orders.
    pub mailbox: &'static Mailbox,
    /// Its figures.
    pub figures: &'static Figures,
    /// Its end of its queue of reports.
    pub journal: Writer,
    /// Client connections it may have.
    pub connections_max: usize,
}

/// Starts the worker's thread. It ends when it was ordered to drain and nothing is left.
///
/// # Errors
/// The thread could not be started.
pub fn start(parts: Parts) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("worker-{}", parts.number))
        .spawn(move || {
            if let Some(core) = parts.core {
                // Unpinned is slower, not wrong.
                let _ = relay_io::pin_to_core(core);
            }
            let number = parts.number;
            let _end = NotesEnd {
                worker: number,
                mailbox: parts.mailbox,
                connections: parts.connections,
            };
            if let Err(error) = relay_io::run(parts.engine, run(parts)).flatten() {
                eprintln!("codex-relay: worker {number} could not start: {error}");
            }
        })
}

/// Tells the control thread that the worker has ended, however it ended, and the others that it keeps nothing from them.
struct NotesEnd {
    worker: u32,
    mailbox: &'static Mailbox,
    connections: &'static Connections,
}

impl Drop for NotesEnd {
    fn drop(&mut self) {
        self.connections.shortages.note_heard(self.worker, u64::MAX);
        self.mailbox.note_worker_done();
    }
}

async fn run(parts: Parts) -> io::Result<()> {
    let engine = parts.engine;
    let limits = &parts.policy.limits;
    let worker: &'static Worker = Box::leak(Box::new(Worker {
        head_limits: HeadLimits {
            head_bytes_max: limits.head_bytes_max,
            fields_max: limits.head_fields_max,
            target_bytes_max: limits.target_bytes_max,
        },
        number: parts.number,
        in_flight: parts.in_flight,
        allowances: parts.allowances,
        acceptance: parts.acceptance,
        accounts: parts.accounts,
        connections: parts.connections,
        pool: Pool::new(),
        wheel: Wheel::new(engine),
        handshakes: HandshakeGate::new(limits.tls_handshakes_max),
        idle: IdleConnections::new(&parts.policy, parts.number, &parts.connections.shortages),
        tls: parts.tls_clients,
        chooser: Chooser::new(parts.policy.clone(), parts.in_flight, parts.accounts),
        journal: parts.journal,
        clients: Clients {
            open: Rc::default(),
            max: parts.connections_max,
            figures: parts.figures,
        },
        heartbeats: Heartbeats::new(),
        mailbox: parts.mailbox,
        addresses: RefCell::new(parts.mailbox.addresses().into()),
        addresses_version: Cell::new(parts.mailbox.addresses_version()),
        held_body_bytes: Rc::default(),
        random: RefCell::new(fastrand::Rng::new()),
        figures: parts.figures,
        untold_handshakes: Untold::default(),
        ending: Cell::new(false),
        draining_since: Cell::new(None),
        drain_bell: DrainBell::default(),
        clocks: Cell::new((Instant::now(), SystemTime::now())),
        head_buffers: RefCell::default(),
        policy: parts.policy,
    }));
    let mut listeners = Vec::new();
    let settings = worker.policy.listeners.iter();
    for ((socket, server), settings) in parts.sockets.into_iter().zip(parts.servers).zip(settings) {
        let listener = Rc::new(Listener::adopt(socket, engine)?);
        listeners.push(listener.clone());
        let beginning = match server {
            Some(server) => Beginning::Tls(View::new(server)),
            None => Beginning::Plaintext {
                http2_allowed: settings.http2,
            },
        };
        spawn(accept::run(worker, listener, beginning));
    }
    worker.mailbox.note_worker_started();
    let mut ticks: u32 = 0;
    worker
        .wheel
        .turn(|| {
            ticks = ticks.wrapping_add(1);
            worker.clocks.set((Instant::now(), SystemTime::now()));
            worker.read_mailbox(&listeners);
            worker.idle.tend();
            if ticks.is_multiple_of(SWEEP_TICKS) {
                worker.idle.sweep(&worker.policy.timeouts);
            }
            worker.publish_figures();
            worker.is_draining() && worker.clients.count() == 0
        })
        .await;
    Ok(())
}

impl Worker {
    fn read_mailbox(&self, listeners: &[Rc<Listener>]) {
        let version = self.mailbox.addresses_version();
        if version != self.addresses_version.get() {
            self.addresses_version.set(version);
            self.addresses.replace(self.mailbox.addresses().into());
        }
        if !self.mailbox.is_draining() {
            return;
        }
        let began_at = self.draining_since.get();
        if began_at.is_none() {
            self.draining_since.set(Some(Instant::now()));
            for listener in listeners {
                listener.stop();
            }
            self.drain_bell.ring();
        }
        // At every tick again: a connection may have become idle since.
        self.idle.clear();
        self.wheel.end_idle();
        if began_at.is_some_and(|at| at.elapsed() >= ORPHANS_TIMEOUT) {
            self.wheel.end_orphaned();
        }
        if self.mailbox.is_ending() {
            self.wheel.end_all();
            // Said only now: who is told so earlier may be about to close when its socket is ended.
            self.ending.set(true);
        }
    }

    fn publish_figures(&self) {
        self.figures
            .upstream_connections_idle
            .store(self.idle.count() as u64, Ordering::Relaxed);
        self.figures
            .held_body_bytes
            .store(self.held_body_bytes.get() as u64, Ordering::Relaxed);
    }
}
