//! TLS towards providers: who is trusted, and what is resumed.
//!
//! There is a configuration for each address of each account, with a store of its own for what can be resumed: a session of one
//! account is never offered by another one, nor from another address, so nothing in a handshake ties them together. Certificates
//! are always verified; nothing here, and nothing that a request says, can change that.

use super::certificates::{Fault, read_authorities};
use crate::config::Policy;
use crate::config::policy::{Account, AccountId, Protocol, UpstreamTls};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Sessions that are remembered for each address of an account: it has one server to resume with, of which rustls keeps so many
/// tickets at most. Each is used once (RFC 8446 section C.4).
const SESSIONS_MAX: usize = 8;

/// What is offered to a provider by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// As the upstream's `protocol` says.
    Configured,
    /// HTTP/1.1 alone: for what can be done over nothing else.
    Http1,
}

/// The configurations of all accounts. Made once, and shared by all threads.
pub struct Clients {
    /// By account, in the order of its addresses; empty where its upstream is called in plaintext.
    by_account: Box<[Box<[OfAddress]>]>,
}

struct OfAddress {
    source: IpAddr,
    configured: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// Why certificates of an upstream could not be verified: no request would ever succeed.
#[derive(Debug)]
pub struct Untrusting(String);

impl std::fmt::Display for Untrusting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Untrusting {}

impl From<Fault> for Untrusting {
    fn from(fault: Fault) -> Self {
        Self(format!(
            "certificates of upstreams cannot be verified: {fault}"
        ))
    }
}

impl Clients {
    /// Reads the certificates that are trusted, and makes all configurations.
    ///
    /// # Errors
    /// A `ca_file` cannot be used, or the system has no certificates.
    pub fn new(policy: &Policy) -> Result<Self, Untrusting> {
        let mut system = None;
        let mut trusted = Vec::new();
        for upstream in &policy.upstreams {
            trusted.push(match &upstream.tls {
                None => None,
                Some(UpstreamTls { ca_file, .. }) => Some(match ca_file {
                    Some(file) => Arc::new(read_authorities(file)?.roots),
                    None => match &system {
                        Some(roots) => Arc::clone(roots),
                        None => system.insert(Arc::new(roots_of_system()?)).clone(),
                    },
                }),
            });
        }
        let of_account = |account: &Account| {
            let upstream = usize::from(account.upstream.0);
            let Some(roots) = &trusted[upstream] else {
                return Ok(Box::default());
            };
            let protocol = policy.upstreams[upstream].protocol;
            let sources = account.egress.iter();
            sources
                .map(|&source| OfAddress::new(source, roots, protocol))
                .collect()
        };
        let by_account = policy.accounts.iter().map(of_account);
        Ok(Self {
            by_account: by_account.collect::<Result<_, _>>()?,
        })
    }

    /// What this account calls with from this address. `None`: its upstream is called in plaintext, or the address is not its own.
    pub fn config(
        &self,
        account: AccountId,
        source: IpAddr,
        offer: Offer,
    ) -> Option<Arc<ClientConfig>> {
        let addresses = &self.by_account[usize::from(account.0)];
        let own = addresses.iter().find(|own| own.source == source)?;
        Some(Arc::clone(match offer {
            Offer::Configured => &own.configured,
            Offer::Http1 => &own.http1,
        }))
    }
}

impl OfAddress {
    fn new(
        source: IpAddr,
        roots: &Arc<RootCertStore>,
        protocol: Protocol,
    ) -> Result<Self, Untrusting> {
        let http1 = config(roots, &[HTTP_1])?;
        let configured = match protocol {
            Protocol::Http1 => Arc::clone(&http1),
            Protocol::Http2 => config(roots, &[HTTP_2])?,
            Protocol::Auto => config(roots, &[HTTP_2, HTTP_1])?,
        };
        Ok(Self {
            source,
            configured,
            http1,
        })
    }
}

/// With a store of its own for sessions. Keys are not logged, and no early data is sent: it could be replayed.
fn config(
    roots: &Arc<RootCertStore>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, Untrusting> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Untrusting(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// The system has what it has: one that is odd does not spoil the others.
fn roots_of_system() -> Result<RootCertStore, Untrusting> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        return Err(Untrusting(format!(
            "the system has no certificates of authorities to verify upstreams with{} (install ca-certificates, or set \
             `ca_file`)",
            why.unwrap_or_default()
        )));
    }
    Ok(roots)
}

/// For the operator: why there was no agreement with a provider. What the provider says itself is not repeated.
pub fn reason(error: &Error) -> Cow<'static, str> {
    match error {
        Error::InvalidCertificate(why) => certificate_reason(why),
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "no protocol in common (ALPN)".into()
        }
        Error::AlertReceived(alert) => format!("refused by the upstream: alert {alert:?}").into(),
        Error::PeerIncompatible(what) => format!("nothing in common: {what:?}").into(),
        Error::PeerMisbehaved(what) => format!("the upstream breaks the protocol: {what:?}").into(),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "what the upstream sends is not TLS".into()
        }
        other => other.to_string().into(),
    }
}

fn certificate_reason(error: &CertificateError) -> Cow<'static, str> {
    use CertificateError as Why;
    match error {
        Why::Expired | Why::ExpiredContext { .. } => "certificate expired".into(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => "certificate not valid yet".into(),
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "certificate for another name".into()
        }
        Why::UnknownIssuer => "certificate of an unknown issuer".into(),
        Why::BadSignature => "certificate with a wrong signature".into(),
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "certificate not for servers".into()
        }
        Why::BadEncoding => "certificate malformed".into(),
        Why::Revoked => "certificate revoked".into(),
        // webpki's word, for which rustls has none.
        Why::Other(why) if why.to_string() == "CaUsedAsEndEntity" => {
            "certificate of an authority, shown as a server's".into()
        }
        Why::Other(why) => format!("certificate not acceptable: {why}").into(),
        other => format!("certificate not acceptable: {other:?}").into(),
    }
}

#[cfg(test)]
mod tests;
