//! The control thread: everything that is not on the path of a request.
//!
//! A tokio runtime on the process's main thread, started by tokio-uring where io_uring may be used. It writes the log and
//! the metrics from the workers' reports, answers the admin address, resolves the upstreams' names, watches over what the
//! kernel enforces, and listens for signals. No byte of a request's body passes through it.

pub mod accounts;
pub mod admin;
pub mod certificates;
pub mod egress;
mod enforcement;
mod health;
mod intake;
pub mod journal;
mod line;
mod lines;
pub mod log;
pub mod metrics;
pub mod names;
mod probes;
mod upstream_tls;

use crate::accounts::Accounts;
use crate::config::Policy;
use crate::connections::Connections;
use crate::journal::{Acceptance, Reader};
use crate::kernel::Kernel;
use crate::limits::{Allowances, InFlight};
use crate::state::StateStore;
use crate::tls::Clients;
use crate::tls::server::Files;
use crate::worker::Figures;
use crate::worker::mailbox::Mailbox;
use admin::Admin;
use egress::OpenConnections;
use enforcement::Enforcement;
use health::Watch;
use intake::Intake;
use journal::Books;
use log::Log;
use metrics::{Counted, Metrics};
use probes::Prober;
use relay_io::Engine;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use upstream_tls::Refusals;

/// How often the workers' reports are collected.
const COLLECT_INTERVAL: Duration = Duration::from_millis(20);

/// How often what was observed is folded into the histograms.
const FOLD_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last lines of the log may take.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to save what is left of the accounts' state.
const LAST_STATE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to bring the last records to the disk.
const LAST_RECORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// What the control thread works with.
pub struct Control {
    /// What the operator wants.
    pub policy: Arc<Policy>,
    /// Orders to the workers.
    pub mailbox: &'static Mailbox,
    /// Counters shared by the workers.
    pub in_flight: &'static InFlight,
    /// What tenants and keys have used.
    pub allowances: &'static Allowances,
    /// Whether what requests use can be kept on record.
    pub acceptance: &'static Acceptance,
    /// What all threads share about the accounts.
    pub accounts: &'static Accounts,
    /// What of it survives a restart.
    pub state: Arc<StateStore>,
    /// Figures of each worker.
    pub figures: Vec<&'static Figures>,
    /// Reports of each worker.
    pub journals: Vec<Reader>,
    /// The admin address, open already.
    pub admin: std::net::TcpListener,
    /// Where their records are kept, if they are.
    pub kept: Option<journal::Opened>,
    /// What drives the workers.
    pub engine: Engine,
    /// Where log lines go.
    pub log: Log,
    /// What the kernel enforces.
    pub kernel: Kernel,
    /// Who holds how many connections.
    pub connections: &'static Connections,
    /// What the listeners shake hands with.
    pub files: Vec<Files>,
    /// TLS towards providers.
    pub tls_clients: Arc<Clients>,
}

/// How the gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was ordered to, and everything was served.
    Drained,
    /// It was ordered to, and the time to serve what was left is over.
    DrainTimedOut,
    /// It was interrupted while it drained.
    Forced,
    /// A worker ended although nobody ordered it to.
    WorkerLost,
}

/// Runs the control thread until the workers have ended. The process has to end after that: what it still does, on a disk
/// that hangs for example, is not waited for.
///
/// # Errors
/// The runtime, the admin address or the signals could not be set up.
pub fn run(mut control: Control) -> io::Result<End> {
    if control.engine != Engine::Epoll {
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => {
                let end = runtime.block_on(serve(control));
                // Dropped, it waits for all that it has begun.
                std::mem::forget(runtime);
                return end;
            }
            // There was one when it was tried; the limit of locked memory may be used up since.
            Err(error) => {
                let members = [("error", error.to_string()), ("thread", "control".into())];
                control.log.warning("io_uring_refused", &members);
                control.kept = control.kept.map(journal::Opened::without_ring);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(serve(control));
    runtime.shutdown_background();
    end
}

async fn serve(control: Control) -> io::Result<End> {
    let Control {
        policy,
        mailbox,
        in_flight,
        allowances,
        acceptance,
        accounts,
        state,
        figures,
        journals,
        kept,
        admin,
        engine,
        mut log,
        kernel,
        connections,
        files,
        tls_clients,
    } = control;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let features = kernel.features().clone();
    let counted = Counted::new(&policy, connections, kernel.live(), features.clone());
    let (metrics, counters) =
        Metrics::install(figures.clone(), in_flight, allowances, accounts, counted)
            .map_err(io::Error::other)?;
    let open = Arc::new(OpenConnections::default());
    let mut enforcement = Enforcement::new(kernel, &policy, open.clone(), &accounts.health);
    let mut watch = Watch::new(&policy, accounts);
    let (certificates, mut replaced) = certificates::start(files);
    let mut intake = Intake {
        policy: policy.clone(),
        journals,
        figures,
        counters,
        upstream_tls: Refusals::default(),
        books: kept.map(|kept| Books::begin(policy.clone(), kept, acceptance, &mut log)),
        log,
    };
    let listener = tokio::net::TcpListener::from_std(admin)?;
    let pages = Admin {
        policy: policy.clone(),
        acceptance,
        mailbox,
        accounts,
        state: state.clone(),
        in_flight,
        metrics: metrics.clone(),
        engine,
        features,
        connections,
        open,
        certificates: certificates.clone(),
    };
    tokio::spawn(admin::serve(listener, pages));
    tokio::spawn(names::keep_resolved(policy.clone(), mailbox));
    let mut oddities = probes::start(&Prober {
        policy: policy.clone(),
        mailbox,
        connections,
        accounts,
        tls: tls_clients,
    });
    let mut drain_ends_at = None;
    let mut last_word = None;
    let mut last_fold = Instant::now();
    let mut is_ready = false;
    loop {
        allowances.turn(SystemTime::now());
        intake.tick().await;
        let log = &mut intake.log;
        enforcement.tick(&policy, log).await;
        oddities.tell(&policy, &mut intake.upstream_tls, &mut intake.log);
        let log = &mut intake.log;
        replaced.tell(log);
        state.note(&watch.tick(&policy, accounts.health.clock().now(), log));
        state.tick(log);
        if last_fold.elapsed() >= FOLD_INTERVAL {
            last_fold = Instant::now();
            metrics.fold();
        }
        log.write_out().await;
        if last_word.is_some() {
            break;
        }
        if !is_ready && mailbox.workers_started() == policy.node.workers {
            is_ready = true;
            let workers = policy.node.workers.to_string();
            log.event(
                "ready",
                &[("workers", workers), ("engine", engine.as_str().into())],
            );
            continue;
        }
        let workers_left = mailbox.workers_running();
        if mailbox.is_draining() {
            if workers_left == 0 {
                last_word = Some(End::Drained);
            } else if drain_ends_at.is_some_and(|at| Instant::now() >= at) {
                end_at_once(&mut last_word, End::DrainTimedOut, mailbox, &mut intake).await;
                continue;
            }
        } else if workers_left < policy.node.workers {
            last_word = Some(End::WorkerLost);
        }
        tokio::select! {
            () = tokio::time::sleep(COLLECT_INTERVAL) => {}
            _ = hang_up.recv() => {
                intake.log.event("reloading", &[]);
                // What is found is told like all that is found.
                if certificates.order().is_err() {
                    intake.log.error("certificates_not_watched", &[]);
                }
            }
            again = ordered(&mut terminate, &mut interrupt) => match (drain_ends_at, again) {
                (None, _) => {
                    let limit = policy.timeouts.drain;
                    let left = if limit.is_zero() { FOR_EVER } else { limit };
                    drain_ends_at = Some(Instant::now() + left);
                    mailbox.order_drain();
                    let limit = limit.as_secs().to_string();
                    intake.log.event("draining", &[("drain_timeout_s", limit)]);
                }
                // Somebody at a terminal who does not want to wait. Service managers repeat SIGTERM without meaning that.
                (Some(_), Order::Interrupt) => end_at_once(&mut last_word, End::Forced, mailbox, &mut intake).await,
                (Some(_), Order::Terminate) => {}
            },
        }
    }
    let end = last_word.unwrap_or(End::Drained);
    intake.finish(LAST_RECORDS_TIMEOUT).await;
    let log = &mut intake.log;
    enforcement.finish(&policy, log, LAST_LINES_TIMEOUT).await;
    state.finish(LAST_STATE_TIMEOUT).await;
    state.tick(log);
    log.event("stopped", &[("reason", format!("{end:?}"))]);
    log.finish(LAST_LINES_TIMEOUT).await;
    Ok(end)
}

/// How long streams that are cut at the end may take to be told and recorded.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Cuts what is still open, so that clients are told and every request has its record.
async fn end_at_once(
    last_word: &mut Option<End>,
    end: End,
    mailbox: &Mailbox,
    intake: &mut Intake,
) {
    mailbox.order_end();
    let waits_until = Instant::now() + CUT_TIMEOUT;
    while mailbox.workers_running() > 0 && Instant::now() < waits_until {
        // All of them end at once: their reports would not find room in the queues until then.
        intake.tick().await;
        intake.log.write_out().await;
        tokio::time::sleep(COLLECT_INTERVAL).await;
    }
    *last_word = Some(end);
}

/// Longer than any process runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What a signal asks for.
enum Order {
    Terminate,
    Interrupt,
}

async fn ordered(terminate: &mut Signal, interrupt: &mut Signal) -> Order {
    tokio::select! {
        _ = terminate.recv() => Order::Terminate,
        _ = interrupt.recv() => Order::Interrupt,
    }
}
