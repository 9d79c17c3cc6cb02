use super::*;
use crate::config;
use std::path::{Path, PathBuf};

/// Two accounts with two addresses and one, of an upstream with these further keys.
fn policy(upstream: &str) -> Policy {
    let text = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        {upstream}
        [[account]]
        name = "first"
        upstream = "provider"
        credential = {{ env = "KEY" }}
        egress = ["127.0.7.1", "127.0.7.2"]
        [[account]]
        name = "second"
        upstream = "provider"
        credential = {{ env = "KEY" }}
        egress = ["127.0.7.3"]
        "#
    );
    let environment = |_: &str| Some("sk-test".into());
    config::parse(&text, Path::new("test.toml"), &environment)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, text).unwrap();
    path
}

fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

fn with_file(protocol: &str, path: &Path) -> Policy {
    policy(&format!(
        "base_url = \"https://api.example\"\nprotocol = {protocol:?}\nca_file = {path:?}"
    ))
}

fn source(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn no_two_addresses_resume_each_others_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let policy = with_file("auto", &file(&directory, &authority()));
    let clients = Clients::new(&policy).unwrap();
    let mut stores: Vec<String> = Vec::new();
    for (account, address) in [(0, "127.0.7.1"), (0, "127.0.7.2"), (1, "127.0.7.3")] {
        for offer in [Offer::Configured, Offer::Http1] {
            let config = clients.config(AccountId(account), source(address), offer);
            let config = config.unwrap();
            let again = clients.config(AccountId(account), source(address), offer);
            assert!(Arc::ptr_eq(&config, &again.unwrap()));
            stores.push(format!("{:p}", &*config));
        }
    }
    stores.sort_unstable();
    stores.dedup();
    assert_eq!(stores.len(), 6, "one for each address and offer");
    let foreign = clients.config(AccountId(1), source("127.0.7.1"), Offer::Configured);
    assert!(foreign.is_none(), "another account's address");
}

#[test]
fn what_is_offered_is_what_the_upstream_is_configured_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, &authority());
    for (protocol, wanted) in [
        ("http1", &[HTTP_1][..]),
        ("http2", &[HTTP_2]),
        ("auto", &[HTTP_2, HTTP_1]),
    ] {
        let clients = Clients::new(&with_file(protocol, &path)).unwrap();
        let offered = |offer| {
            let config = clients.config(AccountId(0), source("127.0.7.1"), offer);
            config.unwrap().alpn_protocols.clone()
        };
        assert_eq!(offered(Offer::Configured), wanted, "{protocol}");
        assert_eq!(offered(Offer::Http1), [HTTP_1], "{protocol}");
    }
}

#[test]
fn plaintext_needs_nothing() {
    let clients = Clients::new(&policy("base_url = \"http://api.example\"")).unwrap();
    let config = clients.config(AccountId(0), source("127.0.7.1"), Offer::Configured);
    assert!(config.is_none());
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mixed = format!("{}{broken}", authority());
    for text in ["", "not PEM at all", broken, mixed.as_str()] {
        let path = file(&directory, text);
        let error = Clients::new(&with_file("http1", &path)).err().unwrap();
        let told = error.to_string();
        assert!(told.contains(path.to_str().unwrap()), "{text}: {told}");
    }
    let missing = directory.path().join("missing.pem");
    let error = Clients::new(&with_file("http1", &missing)).err().unwrap();
    let told = error.to_string();
    assert!(told.contains("missing.pem"), "{told}");
}

#[test]
fn reasons_are_told_in_words() {
    for (error, told) in [
        (CertificateError::Expired, "certificate expired"),
        (CertificateError::NotValidYet, "certificate not valid yet"),
        (
            CertificateError::NotValidForName,
            "certificate for another name",
        ),
        (
            CertificateError::UnknownIssuer,
            "certificate of an unknown issuer",
        ),
        (
            CertificateError::InvalidPurpose,
            "certificate not for servers",
        ),
    ] {
        assert_eq!(reason(&Error::InvalidCertificate(error)), told);
    }
    assert_eq!(
        reason(&Error::NoApplicationProtocol),
        "no protocol in common (ALPN)"
    );
}
