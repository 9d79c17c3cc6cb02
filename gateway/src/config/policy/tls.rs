//! TLS on either side: which files and names, never the keys themselves.

use rustls::pki_types::ServerName;
use std::path::PathBuf;

/// `listener.tls`
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// At least one; the first one serves whoever asks for no name or for an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// Nothing older is spoken.
    pub min_version: TlsVersion,
    /// Clients are asked for certificates.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// PEM: the authorities that are trusted for them.
    pub ca_file: PathBuf,
    /// A client without one is refused.
    pub required: bool,
}

/// `https` of `upstream.base_url`, `upstream.server_name` and `upstream.ca_file`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// SNI, and the name that the certificate must have.
    pub server_name: ServerName<'static>,
    /// PEM: the authorities that are trusted; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}
