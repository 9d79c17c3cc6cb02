//! Certificates for one test: an authority, and what it signs.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// An authority that both sides trust.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// The name in the server's certificate.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from("gateway.test").unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn signed(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![certificate.der().clone()], key.into())
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// A server that speaks these versions, with tickets.
    pub(crate) fn server(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let (chain, key) = self.signed("gateway.test", ExtendedKeyUsagePurpose::ServerAuth);
        let mut config = ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        config
    }

    /// The same, asking clients for certificates.
    pub(crate) fn server_that_asks(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> ServerConfig {
        let (chain, key) = self.signed("gateway.test", ExtendedKeyUsagePurpose::ServerAuth);
        ServerConfig::builder_with_protocol_versions(versions)
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client with a certificate of its own.
    pub(crate) fn known_client(&self) -> ClientConfig {
        self.known_client_of(self)
    }

    /// A client with a certificate of this authority for servers of another.
    pub(crate) fn known_client_of(&self, servers: &Self) -> ClientConfig {
        let (chain, key) = self.signed("client.test", ExtendedKeyUsagePurpose::ClientAuth);
        ClientConfig::builder()
            .with_root_certificates(servers.roots())
            .with_client_auth_cert(chain, key)
            .unwrap()
    }
}
