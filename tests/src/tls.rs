//! TLS as the two ends of the gateway speak it: clients that trust whom a test tells them to, and servers for scripted providers.

use crate::pki::{Authority, Identity};
use crate::wire::Wire;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Sessions that are remembered.
const SESSIONS: usize = 64;

/// The versions that a side offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
    /// Both.
    Both,
}

impl Versions {
    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&TLS12],
            Self::Tls13 => vec![&TLS13],
            Self::Both => vec![&TLS13, &TLS12],
        }
    }
}

/// How a client shakes hands. Its sessions are remembered, so that a second connection resumes; each `TlsClient` that is made
/// remembers its own, and a clone shares them.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts this authority; offers HTTP/1.1.
    pub fn trusting(authority: &Authority) -> Self {
        Self::new(authority, Versions::Both, None)
    }

    /// The same, with a certificate of its own.
    pub fn with_certificate(authority: &Authority, identity: &Identity) -> Self {
        Self::new(authority, Versions::Both, Some(identity))
    }

    /// Trusts this authority; offers HTTP/1.1 and these versions.
    ///
    /// # Panics
    /// If rustls does not take what it is given.
    pub fn new(authority: &Authority, versions: Versions, identity: Option<&Identity>) -> Self {
        let builder = ClientConfig::builder_with_protocol_versions(&versions.supported())
            .with_root_certificates(authority.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain(), identity.key())
                .expect("a certificate and its key"),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS)));
        Self {
            config: Arc::new(config),
        }
    }

    /// Offers these protocols, in this order.
    pub fn alpn(self, protocols: &[&str]) -> Self {
        self.change(|config| config.alpn_protocols = names(protocols))
    }

    /// Names no host in its ClientHello.
    pub fn without_sni(self) -> Self {
        self.change(|config| config.enable_sni = false)
    }

    /// Never resumes.
    pub fn without_resumption(self) -> Self {
        self.change(|config| config.resumption = Resumption::disabled())
    }

    fn change(self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = (*self.config).clone();
        change(&mut config);
        Self {
            config: Arc::new(config),
        }
    }

    /// Connects and shakes hands with the server of this name.
    ///
    /// # Errors
    /// If one of both sides will not; [`rustls_error`] says what this one had against it.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Wire> {
        self.shake_hands(Wire::connect(address), name)
    }

    /// Shakes hands over this connection.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    ///
    /// # Panics
    /// If this is no name.
    pub fn shake_hands(&self, wire: Wire, name: &str) -> io::Result<Wire> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        wire.secure(Connection::Client(connection.expect("a configuration")))
    }
}

/// How a server shakes hands. Clones share its sessions.
#[derive(Clone, Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Shows this certificate; takes HTTP/1.1 and whoever comes, and remembers sessions.
    pub fn new(identity: &Identity) -> Self {
        Self::with(identity, Versions::Both, None)
    }

    /// With everything chosen: clients have to show a certificate of this authority, if one is given.
    ///
    /// # Panics
    /// If rustls does not take what it is given.
    pub fn with(identity: &Identity, versions: Versions, clients: Option<&Authority>) -> Self {
        let builder = ServerConfig::builder_with_protocol_versions(&versions.supported());
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots()));
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let mut config = builder
            .with_single_cert(identity.chain(), identity.key())
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Self {
            config: Arc::new(config),
        }
    }

    /// Takes these protocols, the first it is offered of them.
    pub fn alpn(self, protocols: &[&str]) -> Self {
        self.change(|config| config.alpn_protocols = names(protocols))
    }

    /// Never resumes.
    pub fn without_resumption(self) -> Self {
        self.change(|config| {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        })
    }

    fn change(self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = (*self.config).clone();
        change(&mut config);
        Self {
            config: Arc::new(config),
        }
    }

    /// Shakes hands with whoever has connected.
    ///
    /// # Errors
    /// If one of both sides will not.
    ///
    /// # Panics
    /// Never: the configuration was made above.
    pub fn shake_hands(&self, wire: Wire) -> io::Result<Wire> {
        let connection = ServerConnection::new(Arc::clone(&self.config));
        wire.secure(Connection::Server(connection.expect("a configuration")))
    }
}

/// What rustls had against the other side, if that is why a handshake failed.
pub fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn names(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect()
}
