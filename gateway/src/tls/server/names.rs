//! Which certificate a client is shown: by the name that it asks for (SNI, RFC 6066 section 3).

use crate::tls::certificates::Pair;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Certificates by name.
pub(super) struct ByName {
    /// The first one is for whoever asks for no name, or for one that nobody has.
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, Vec<usize>>,
    /// Behind `*.`, which stands for one label and no more (RFC 6125 section 6.4.3).
    wildcard: HashMap<String, Vec<usize>>,
}

impl fmt::Debug for ByName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} certificates", self.all.len())
    }
}

impl ByName {
    pub(super) fn new(pairs: &[Arc<Pair>]) -> Self {
        let mut made = Self {
            all: pairs.iter().map(|pair| pair.certified.clone()).collect(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        for (index, pair) in pairs.iter().enumerate() {
            for name in &pair.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut made.wildcard, rest),
                    None => (&mut made.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(index);
            }
        }
        made
    }

    /// Of those that have the name, the first one whose signatures the client can check: there may be one with an RSA key and one
    /// with an ECDSA key, and one of them may have the name by a wildcard alone.
    fn choose(&self, name: Option<&str>, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let [exact, wildcard] = name.map_or([&[][..]; 2], |name| self.find(name));
        let named = || exact.iter().chain(wildcard);
        let certified = named().filter_map(|&index| self.all.get(index));
        let mut fitting = certified.filter(|one| one.key.choose_scheme(offered).is_some());
        let any = || self.all.get(named().next().copied().unwrap_or(0));
        fitting.next().or_else(any).cloned()
    }

    /// Those that have exactly this name, and those that have it by a wildcard.
    fn find(&self, name: &str) -> [&[usize]; 2] {
        let name = name.to_ascii_lowercase();
        let exact = self.exact.get(&name);
        let rest = name.split_once('.').map(|(_, rest)| rest);
        let wildcard = rest.and_then(|rest| self.wildcard.get(rest));
        [exact, wildcard].map(|found| found.map_or(&[][..], Vec::as_slice))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::CertificateFiles;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use std::time::SystemTime;

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

    fn pair(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<Pair> {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("certificate"),
            key: directory.path().join("key"),
        };
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Arc::new(Pair::read(&files, SystemTime::now()).unwrap_or_else(|fault| panic!("{fault}")))
    }

    #[test]
    fn exact_names_go_before_wildcards_and_those_before_the_first() {
        let pairs = [
            pair(&["first.example"], &PKCS_ECDSA_P256_SHA256),
            pair(&["*.a.example", "A.example"], &PKCS_ECDSA_P256_SHA256),
            pair(&["b.a.example", "*.b.a.example"], &PKCS_ECDSA_P256_SHA256),
        ];
        let by_name = ByName::new(&pairs);
        for (name, expected) in [
            (None, 0),
            (Some("unknown.example"), 0),
            (Some("first.example"), 0),
            (Some("a.example"), 1),
            (Some("x.a.example"), 1),
            (Some("X.A.EXAMPLE"), 1),
            (Some("b.a.example"), 2),
            (Some("c.b.a.example"), 2),
            // A star stands for one label: not for two, not for none.
            (Some("d.c.b.a.example"), 0),
            (Some("x.y.a.example"), 0),
            (Some("example"), 0),
            (Some(""), 0),
        ] {
            let chosen = by_name.choose(name, ECDSA).unwrap();
            assert_eq!(chosen.cert, pairs[expected].certified.cert, "{name:?}");
        }
    }

    #[test]
    fn what_has_the_name_by_a_wildcard_stands_behind_what_has_it_exactly() {
        let pairs = [
            pair(&["other.example"], &PKCS_ECDSA_P256_SHA256),
            pair(&["*.example"], &PKCS_ECDSA_P256_SHA256),
            pair(&["a.example"], &PKCS_ED25519),
        ];
        let by_name = ByName::new(&pairs);
        for (offered, expected) in [
            (ECDSA, 1),
            (&[SignatureScheme::ED25519], 2),
            (&[SignatureScheme::RSA_PSS_SHA256], 2),
        ] {
            let chosen = by_name.choose(Some("a.example"), offered).unwrap();
            assert_eq!(chosen.cert, pairs[expected].certified.cert, "{offered:?}");
        }
    }

    #[test]
    fn of_two_with_one_name_the_client_is_shown_what_it_can_check() {
        let pairs = [
            pair(&["other.example"], &PKCS_ECDSA_P256_SHA256),
            pair(&["a.example"], &PKCS_ED25519),
            pair(&["a.example"], &PKCS_ECDSA_P256_SHA256),
        ];
        let by_name = ByName::new(&pairs);
        let chosen = |offered| by_name.choose(Some("a.example"), offered).unwrap();
        assert_eq!(chosen(ECDSA).cert, pairs[2].certified.cert);
        assert_eq!(
            chosen(&[SignatureScheme::ED25519]).cert,
            pairs[1].certified.cert
        );
        // Whoever can check none of them is told so by the handshake, not by another name's certificate.
        assert_eq!(
            chosen(&[SignatureScheme::RSA_PSS_SHA256]).cert,
            pairs[1].certified.cert
        );
    }
}
