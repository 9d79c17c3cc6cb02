//! Certificates, good ones and every kind of bad one.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a certificate is issued for; made good, and spoilt by the methods.
#[derive(Clone, Debug)]
pub struct Leaf {
    params: CertificateParams,
    rsa: bool,
}

impl Leaf {
    /// A server of these names and addresses.
    ///
    /// # Panics
    /// If one of them is neither.
    pub fn server(names: &[&str]) -> Self {
        Self::new(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client of this name.
    ///
    /// # Panics
    /// If it is no name.
    pub fn client(name: &str) -> Self {
        Self::new(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn new(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Self {
        let alternatives: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).expect("names and addresses");
        params.distinguished_name.push(
            DnType::CommonName,
            names.first().copied().unwrap_or("nobody"),
        );
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        Self { params, rsa: false }
    }

    /// Was good until the end of 2021.
    pub fn expired(mut self) -> Self {
        self.params.not_before = date_time_ymd(2021, 1, 1);
        self.params.not_after = date_time_ymd(2021, 12, 31);
        self
    }

    /// Will be good in the year 3000.
    pub fn not_yet_valid(mut self) -> Self {
        self.params.not_before = date_time_ymd(3000, 1, 1);
        self.params.not_after = date_time_ymd(3001, 1, 1);
        self
    }

    /// Marked as an authority's, as `openssl req -x509` makes them all.
    pub fn marked_as_authority(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// For this purpose instead.
    pub fn purpose(mut self, purpose: ExtendedKeyUsagePurpose) -> Self {
        self.params.extended_key_usages = vec![purpose];
        self
    }

    /// Names its host in the subject alone, which has not counted since RFC 6125.
    pub fn named_by_subject_alone(mut self) -> Self {
        self.params.subject_alt_names.clear();
        self
    }

    /// With an RSA key (which takes long to make) instead of one on P-256.
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    fn key_pair(&self) -> KeyPair {
        let made = match self.rsa {
            false => KeyPair::generate(),
            true => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        made.expect("a key")
    }
}

/// Issues certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// From its own certificate upwards, without the root's.
    chain: Vec<Certificate>,
    root: Certificate,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("Test Root")
    }
}

impl Authority {
    /// A root.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(authority_params(name), key);
        let issuer = issuer.expect("parameters of a root");
        let root = issuer.as_ref().clone();
        Self {
            issuer,
            chain: Vec::new(),
            root,
        }
    }

    /// An authority below this one.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn subordinate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(authority_params(name), key, &self.issuer);
        let issuer = issuer.expect("parameters of an authority");
        let mut chain = vec![issuer.as_ref().clone()];
        chain.extend(self.chain.iter().cloned());
        Self {
            issuer,
            chain,
            root: self.root.clone(),
        }
    }

    /// Somebody below this one who may not issue anything, and does so all the same.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn impostor(&self, name: &str) -> Self {
        let mut params = authority_params(name);
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer);
        let issuer = issuer.expect("parameters of a certificate");
        let mut chain = vec![issuer.as_ref().clone()];
        chain.extend(self.chain.iter().cloned());
        Self {
            issuer,
            chain,
            root: self.root.clone(),
        }
    }

    /// A server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue(&Leaf::server(names))
    }

    /// A client of this name.
    pub fn client(&self, name: &str) -> Identity {
        self.issue(&Leaf::client(name))
    }

    /// Issues this one.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn issue(&self, leaf: &Leaf) -> Identity {
        let key = leaf.key_pair();
        let certificate = leaf.params.signed_by(&key, &self.issuer);
        let mut chain = vec![certificate.expect("parameters of a leaf")];
        chain.extend(self.chain.iter().cloned());
        Identity {
            chain,
            key: key.serialize_pem(),
        }
    }

    /// The root's certificate.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// The root as what is trusted.
    ///
    /// # Panics
    /// Never: it was made above.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("a root");
        roots
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// A certificate, what is sent along with it, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: Vec<Certificate>,
    key: String,
}

impl Identity {
    /// Vouched for by nobody but itself.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn self_signed(leaf: &Leaf) -> Self {
        let key = leaf.key_pair();
        let certificate = leaf.params.self_signed(&key);
        Self {
            chain: vec![certificate.expect("parameters of a leaf")],
            key: key.serialize_pem(),
        }
    }

    /// Without the certificates of the authorities between it and the root.
    pub fn alone(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// The certificate itself, then what is sent along.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|one| one.der().clone()).collect()
    }

    /// The same as in a file.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(Certificate::pem).collect()
    }

    /// The key.
    ///
    /// # Panics
    /// Never: it was made above.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key in PEM")
    }

    /// The same as in a file (PKCS #8).
    pub fn key_pem(&self) -> &str {
        &self.key
    }
}
