//! TLS of both ends: one certificate for upstream and proxies, and one cipher suite.
//!
//! TLS 1.3 with AES-128-GCM and X25519 is all that either end speaks, so that every proxy between them does the same
//! arithmetic, whatever it would choose by itself.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::{CryptoProvider, aws_lc_rs::cipher_suite, aws_lc_rs::kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

/// Whom the certificate is for, beside 127.0.0.1.
pub const SERVER_NAME: &str = "localhost";
/// The authority that must be trusted.
pub const CA_FILE: &str = "ca.pem";
/// The certificate of upstream and proxies (ECDSA P-256).
pub const CERTIFICATE_FILE: &str = "server.pem";
/// Its key.
pub const KEY_FILE: &str = "server.key";
/// Certificate and key in one file, as some programs want it.
pub const COMBINED_FILE: &str = "server-with-key.pem";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// Makes an authority and a certificate, writes them into a directory and gives back what a server needs.
///
/// # Errors
/// The files cannot be written.
pub fn make_server(dir: &Path) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let mut ca = CertificateParams::new([])?;
    ca.distinguished_name
        .push(DnType::CommonName, "relay-bench CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let names = [SERVER_NAME.to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names)?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &ca)?;

    fs::write(dir.join(CA_FILE), ca.pem())?;
    fs::write(dir.join(CERTIFICATE_FILE), leaf.pem())?;
    fs::write(dir.join(KEY_FILE), key.serialize_pem())?;
    let combined = [leaf.pem(), key.serialize_pem()].concat();
    fs::write(dir.join(COMBINED_FILE), combined)?;

    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// What a client does with a server's tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Connections after the first resume its session.
    Used,
    /// Every handshake is a full one.
    Never,
}

/// A client that trusts the authority of a file.
///
/// # Errors
/// The file holds no certificate.
pub fn client(
    ca_file: &Path,
    alpn: &[&[u8]],
    resumption: Resumption,
) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file)?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    if resumption == Resumption::Never {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// The name that clients verify.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    match ServerName::try_from(SERVER_NAME) {
        Ok(name) => name,
        Err(_) => unreachable!("a constant that is a name"),
    }
}
