//! TLS towards clients: what each listener shakes hands with, and how that is replaced while connections go on.
//!
//! Workers hold a copy of a pointer and look at a counter before each handshake; what was begun with the old certificates
//! goes on with them.

mod files;
mod names;

pub use files::{Asked, Event, Files};

use crate::config::policy::TlsVersion;
use crate::tls::certificates::Pair;
use names::ByName;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier, version};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What one listener shakes hands with. Shared by all workers.
pub struct Server {
    listener: SocketAddr,
    version: AtomicU64,
    current: Mutex<Arc<ServerConfig>>,
}

impl Server {
    fn new(listener: SocketAddr, config: Arc<ServerConfig>) -> Self {
        Self {
            listener,
            version: AtomicU64::new(0),
            current: Mutex::new(config),
        }
    }

    /// Whatever begins from now on begins with this.
    fn publish(&self, config: Arc<ServerConfig>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.version.fetch_add(1, Ordering::Release);
    }

    fn current(&self) -> Arc<ServerConfig> {
        // A thread that panicked while it held the lock left a whole value behind all the same.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

/// One worker's view of a server.
pub struct View {
    server: Arc<Server>,
    version: Cell<u64>,
    config: RefCell<Arc<ServerConfig>>,
}

impl View {
    /// The view of one worker.
    pub fn new(server: Arc<Server>) -> Self {
        // The version first: what is published in between is then looked at once more.
        let version = Cell::new(server.version.load(Ordering::Acquire));
        let config = RefCell::new(server.current());
        Self {
            server,
            version,
            config,
        }
    }

    /// Where the listener listens.
    pub fn listener(&self) -> SocketAddr {
        self.server.listener
    }

    /// What a handshake that begins now is made with.
    pub fn config(&self) -> Arc<ServerConfig> {
        let version = self.server.version.load(Ordering::Acquire);
        if version != self.version.get() {
            self.version.set(version);
            self.config.replace(self.server.current());
        }
        self.config.borrow().clone()
    }
}

/// What does not change while the gateway runs.
struct Rules {
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    http2: bool,
    /// `None`: no session is resumed.
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl Rules {
    /// `verifies_clients`: they are asked for certificates. Then no session is resumed: rustls takes the certificate of the first
    /// connection out of the ticket without asking the authorities again, who may have been replaced since, or the certificate
    /// may have expired.
    fn new(
        min_version: TlsVersion,
        http2: bool,
        verifies_clients: bool,
    ) -> Result<Self, rustls::Error> {
        let ticketer = if verifies_clients {
            None
        } else {
            Some(aws_lc_rs::Ticketer::new()?)
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        Ok(Self {
            builder: builder.with_protocol_versions(versions(min_version))?,
            http2,
            ticketer,
        })
    }

    /// The whole of it. Nothing is ever taken before the handshake is over (0-RTT, RFC 8446 section 8: it could be sent again).
    /// Which suite it is, the client's order decides: all of them are good, and it knows whether it has AES in hardware.
    fn config(
        &self,
        pairs: &[Arc<Pair>],
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Arc<ServerConfig> {
        let builder = self.builder.clone();
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(pairs)));
        config.alpn_protocols = if self.http2 {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            vec![b"http/1.1".to_vec()]
        };
        // Sessions are in the tickets alone: any worker can take them up, and nothing is kept.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match &self.ticketer {
            Some(ticketer) => config.ticketer = ticketer.clone(),
            None => config.send_tls13_tickets = 0,
        }
        Arc::new(config)
    }
}

/// TLS 1.3 and, unless it is too old, TLS 1.2: older ones rustls does not have.
const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::Tls12 => VERSIONS,
        TlsVersion::Tls13 => &VERSIONS[..1],
    }
}
