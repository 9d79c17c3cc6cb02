//! From a policy to a running gateway.

use crate::accounts::Accounts;
use crate::config::{Policy, Problem};
use crate::connections::Connections;
use crate::control::log::Log;
use crate::control::{self, Control, End, names};
use crate::journal::{self, Acceptance, Failure, QUEUE_REPORTS};
use crate::kernel::Kernel;
use crate::limits::{Allowances, InFlight};
use crate::state::{Reader, StateStore};
use crate::tls::Clients;
use crate::tls::server::Files;
use crate::worker::Figures;
use crate::worker::mailbox::Mailbox;
use crate::worker::start::{self as worker_start, Parts};
use relay_io::Engine;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

/// Why the gateway did not start. One line that names what is missing.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Descriptors that are not client connections or their upstream counterparts: listeners, rings, log, state.
const DESCRIPTORS_RESERVED: u64 = 256;

/// A gateway whose sockets are open and whose workers run.
pub struct Gateway {
    /// Where tenants connect; with the real port where the configuration says 0.
    pub listeners: Vec<SocketAddr>,
    /// Where the admin API listens.
    pub admin: SocketAddr,
    control: Control,
}

/// Runs the gateway until it was ordered to stop and everything was served.
pub fn run(policy: Policy, warnings: &[Problem], reader: Reader) -> ExitCode {
    match Gateway::start(policy, warnings, reader).and_then(Gateway::serve) {
        Ok(End::Drained | End::DrainTimedOut | End::Forced) => ExitCode::SUCCESS,
        Ok(End::WorkerLost) => {
            eprintln!("codex-relay: a worker ended unexpectedly");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("codex-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Gateway {
    /// Puts the kernel's side in force, opens the sockets, gives up all rights, resolves the upstreams' names, takes over what
    /// is known of the accounts, and starts the workers. `reader`: who reads what is known.
    ///
    /// # Errors
    /// A port is in use, an address is not this host's, a directory cannot be made, something is missing that is required.
    pub fn start(policy: Policy, warnings: &[Problem], reader: Reader) -> Result<Self, StartError> {
        let descriptors = relay_io::raise_descriptor_limit();
        relay_io::share_locked_memory(policy.node.workers);
        relay_io::forbid_core_dumps();
        let mut log = Log::open(&policy)
            .map_err(|error| StartError(format!("cannot open the log: {error}")))?;
        for warning in warnings {
            log.warning("config_warning", &[("warning", warning.to_string())]);
        }
        std::fs::create_dir_all(&policy.node.state_dir).map_err(|error| {
            let path = policy.node.state_dir.display();
            StartError(format!("cannot make the state directory {path}: {error}"))
        })?;
        let tls_clients = Clients::new(&policy).map_err(|error| StartError(error.to_string()))?;
        let tls_clients = Arc::new(tls_clients);
        // A socket belongs to the cgroup in which it was made, and a thread starts with its parent's rights: the kernel's
        // side comes before the first socket, and the rights go before the first thread.
        let mut kernel =
            Kernel::establish(&policy, &mut log).map_err(|missing| not_enforced(&missing))?;
        let (admin, admin_address) = open_admin(policy.admin)?;
        let workers = policy.node.workers;
        let (addresses, sockets) = open_listeners(&policy, workers)?;
        kernel
            .steer(&addresses, &sockets, &mut log)
            .map_err(|missing| not_enforced(&missing))?;
        let files = open_files(&policy, &addresses)?;
        relay_ebpf::drop_capabilities().map_err(|error| {
            StartError(format!(
                "capabilities cannot be given up after the start: {error}"
            ))
        })?;
        for (listener, address) in policy.listeners.iter().zip(&addresses) {
            let members = [
                ("address", address.to_string()),
                ("tls", listener.tls.is_some().to_string()),
                ("http2", listener.http2.to_string()),
            ];
            log.event("listening", &members);
        }
        log.event("admin", &[("address", admin_address.to_string())]);
        for fault in files.iter().flatten().flat_map(Files::unreadable) {
            let members = [
                ("file", fault.path.display().to_string()),
                ("warning", fault.why),
            ];
            log.warning("certificate_not_replaceable", &members);
        }

        for (account, address) in missing_egress(&policy) {
            let members = [("account", account), ("address", address.to_string())];
            log.warning("egress_address_missing", &members);
        }
        let (engine, refused) = Engine::probe();
        if let Some(refused) = refused {
            let why = refused.0.to_string();
            log.event(
                "io_uring_refused",
                &[("error", why), ("engine", engine.as_str().into())],
            );
        }
        let (resolved, errors) = names::resolve_at_start(&policy);
        for error in errors {
            log.warning("name_not_resolved", &[("error", error)]);
        }
        let connections_max = policy
            .limits
            .connections_per_worker_max
            .unwrap_or_else(|| connections_per_worker(descriptors, workers));
        let policy = Arc::new(policy);
        let mailbox: &'static Mailbox = Box::leak(Box::new(Mailbox::new(resolved, workers)));
        let in_flight: &'static InFlight = Box::leak(Box::new(InFlight::new(&policy)));
        let now = SystemTime::now();
        let allowances: &'static Allowances = Box::leak(Box::new(Allowances::new(&policy, now)));
        let acceptance: &'static Acceptance =
            Box::leak(Box::new(Acceptance::new(policy.journal.mode)));
        let accounts: &'static Accounts = Box::leak(Box::new(Accounts::new(&policy)));
        let connections: &'static Connections =
            Box::leak(Box::new(Connections::new(&policy, kernel.live())));
        // What was used before counts for the first request too: before the workers.
        let kept = control::journal::open(&policy, allowances, acceptance, engine, now, &mut log)
            .map_err(|failure| no_journal(&policy, &failure))?;
        // An account that is blocked must not be asked first of all: before the workers.
        let state = StateStore::open(&policy, accounts, reader, &mut log);
        let servers: Vec<_> = files
            .iter()
            .map(|files| files.as_ref().map(Files::server))
            .collect();
        let mut control = Control {
            policy: policy.clone(),
            mailbox,
            in_flight,
            allowances,
            acceptance,
            accounts,
            state: Arc::new(state),
            figures: Vec::new(),
            journals: Vec::new(),
            kept,
            admin,
            engine,
            log,
            kernel,
            connections,
            files: files.into_iter().flatten().collect(),
            tls_clients: tls_clients.clone(),
        };
        let cores = relay_io::allowed_cores();
        let reports_max = reports_max(acceptance.is_strict(), connections_max);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let figures: &'static Figures = Box::leak(Box::default());
            let (journal, reader) = journal::queue(reports_max, &figures.reports_lost);
            control.figures.push(figures);
            control.journals.push(reader);
            let parts = Parts {
                number: index as u32,
                core: (workers <= cores.len()).then(|| cores[index]),
                engine,
                policy: policy.clone(),
                sockets,
                servers: servers.clone(),
                in_flight,
                allowances,
                acceptance,
                accounts,
                connections,
                tls_clients: tls_clients.clone(),
                mailbox,
                figures,
                journal,
                connections_max,
            };
            worker_start::start(parts)
                .map_err(|error| StartError(format!("cannot start worker {index}: {error}")))?;
        }
        Ok(Self {
            listeners: addresses,
            admin: admin_address,
            control,
        })
    }

    /// Serves until it was ordered to stop and everything was served, on this thread.
    ///
    /// # Errors
    /// The control thread's runtime could not be started.
    pub fn serve(self) -> Result<End, StartError> {
        control::run(self.control)
            .map_err(|error| StartError(format!("cannot start the control thread: {error}")))
    }
}

fn no_journal(policy: &Policy, failure: &Failure) -> StartError {
    let directory = policy.journal.directory.display();
    StartError(format!("cannot keep the journal in {directory}: {failure}"))
}

fn not_enforced(missing: &relay_ebpf::Missing) -> StartError {
    StartError(format!(
        "[kernel] mode is \"required\", and the kernel cannot enforce all of it: {missing}"
    ))
}

/// Opens the admin address, and tells its port where the configuration says 0.
fn open_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error: std::io::Error| cannot_listen("the admin API", address, &error);
    let socket = TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let opened = socket.local_addr().map_err(failed)?;
    Ok((socket, opened))
}

/// Opens every listener once for each worker. Where the port is 0 the first worker's is the others' too.
fn open_listeners(
    policy: &Policy,
    workers: usize,
) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), StartError> {
    let mut addresses = Vec::new();
    let mut by_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in &policy.listeners {
        let configured = listener.address;
        // With SO_REUSEPORT alone a second gateway of the same user would share the port without a word.
        if configured.port() != 0 {
            TcpListener::bind(configured)
                .map_err(|error| cannot_listen("tenants", configured, &error))?;
        }
        let mut address = configured;
        for sockets in &mut by_worker {
            let socket = relay_io::bind(address)
                .map_err(|error| cannot_listen("tenants", address, &error))?;
            address = socket
                .local_addr()
                .map_err(|error| StartError(error.to_string()))?;
            sockets.push(socket);
        }
        addresses.push(address);
    }
    Ok((addresses, by_worker))
}

/// Reads what each listener shakes hands with, if it does.
fn open_files(policy: &Policy, addresses: &[SocketAddr]) -> Result<Vec<Option<Files>>, StartError> {
    let listeners = policy.listeners.iter().zip(addresses);
    let opened = listeners.map(|(listener, &address)| {
        Files::open(listener, address, SystemTime::now())
            .map_err(|error| StartError(format!("cannot shake hands on {address}: {error}")))
    });
    opened.collect()
}

/// Accounts' addresses that are not this host's. They may still come; until then requests get `egress_unavailable`.
fn missing_egress(policy: &Policy) -> Vec<(String, IpAddr)> {
    let is_missing = |address: IpAddr| {
        UdpSocket::bind((address, 0))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable)
    };
    let all = policy.accounts.iter().flat_map(|account| {
        account
            .egress
            .iter()
            .map(|&address| (account.name.clone(), address))
    });
    all.filter(|(_, address)| is_missing(*address)).collect()
}

fn cannot_listen(whom: &str, address: SocketAddr, error: &std::io::Error) -> StartError {
    let why = match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "the address is not one of this host's".to_owned(),
        std::io::ErrorKind::PermissionDenied => "not permitted (a port below 1024?)".to_owned(),
        _ => error.to_string(),
    };
    StartError(format!("cannot listen for {whom} on {address}: {why}"))
}

/// Reports that may wait at one worker. Where each request keeps a place for its record, there is one for each connection,
/// within reason, besides those that wait.
fn reports_max(keeps_places: bool, connections_max: usize) -> usize {
    let kept = if keeps_places {
        connections_max.min(3 * QUEUE_REPORTS)
    } else {
        0
    };
    QUEUE_REPORTS + kept
}

/// Every client connection may need a connection to a provider.
fn connections_per_worker(descriptors: u64, workers: usize) -> usize {
    let usable = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2;
    usize::try_from(usable)
        .unwrap_or(usize::MAX)
        .div_euclid(workers)
        .max(16)
}
