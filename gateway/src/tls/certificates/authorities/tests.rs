//! What is said of a file of authorities, beside what rustls then does with it.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const HOST: &str = "a.example";

/// Each made with `openssl x509 -req` (3.0), the last one with a subjectAltName. The keys are gone.
const V1_ROOT: &str = include_str!("tests/x509-v1-root.pem");
const V1_INTERMEDIATE: &str = include_str!("tests/x509-v1-intermediate.pem");
const LEAF_OF_V1_ROOT: &str = include_str!("tests/leaf-of-x509-v1-root.pem");

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params
}

const fn authority() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

fn naming_host(mut params: CertificateParams) -> CertificateParams {
    params
        .subject_alt_names
        .push(SanType::DnsName(HOST.try_into().unwrap()));
    params
}

fn own(params: CertificateParams) -> Issuer {
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(params: CertificateParams, by: &Issuer) -> Issuer {
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), by).unwrap()
}

fn leaf(by: &Issuer) -> Issuer {
    issued(naming_host(params("Leaf", IsCa::NoCa)), by)
}

/// A file that holds these.
fn file(certificates: &[&str]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, certificates.concat()).unwrap();
    (directory, path)
}

fn read(certificates: &[&str]) -> Result<Authorities, Fault> {
    read_authorities(&file(certificates).1)
}

/// What is said: an error, or warnings.
fn said(certificates: &[&str]) -> Result<Vec<String>, String> {
    match read(certificates) {
        Ok(read) => Ok(read.warnings.into_iter().map(|one| one.why).collect()),
        Err(fault) => Err(fault.why),
    }
}

/// What rustls says of a server that shows this where that is trusted.
fn verified(trusted: &str, shown: &str) -> Result<(), rustls::Error> {
    let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der(trusted)).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    // In 2030.
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
    let verdict = verifier.verify_server_cert(&der(shown), &[], &name, &[], now);
    verdict.map(|_| ())
}

#[test]
fn authorities_are_read_one_and_all() {
    let one = own(params("Root", authority())).pem();
    assert_eq!(read(&[&one, &one]).ok().unwrap().roots.len(), 2);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, why) in [("", "holds no certificate"), (broken, "number 2")] {
        let text = if text.is_empty() {
            String::new()
        } else {
            format!("{one}{text}")
        };
        let fault = read(&[&text]).err().unwrap();
        assert_eq!(fault.role, Role::Authorities);
        assert!(fault.why.contains(why), "{fault}");
    }
}

#[test]
fn authorities_of_every_kind_are_taken_without_a_word() {
    let root = own(params("Root", authority()));
    let between = issued(params("Between", authority()), &root);
    let mut with_host = naming_host(params("Cluster", authority()));
    with_host.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let with_host = own(with_host);
    for (trusted, shown) in [
        (root.pem(), leaf(&root).pem()),
        (between.pem(), leaf(&between).pem()),
        (with_host.pem(), leaf(&with_host).pem()),
        (V1_ROOT.to_owned(), LEAF_OF_V1_ROOT.to_owned()),
    ] {
        assert_eq!(said(&[&trusted]), Ok(vec![]), "{trusted}");
        assert_eq!(verified(&trusted, &shown), Ok(()), "{trusted}");
    }
}

#[test]
fn a_server_s_own_certificate_will_do_where_it_has_issued_it_itself() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let mut params = naming_host(params("Self", is_ca));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = own(params).pem();
        assert_eq!(said(&[&own]), Ok(vec![]));
        assert_eq!(verified(&own, &own), Ok(()));
    }
}

#[test]
fn what_somebody_else_has_issued_to_a_server_or_a_client_is_refused_with_what_to_put_there() {
    let root = own(params("Root", authority()));
    let mut for_signing = naming_host(params("Leaf", IsCa::NoCa));
    for_signing.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut address = params("Leaf", IsCa::ExplicitNoCa);
    let localhost = std::net::Ipv4Addr::LOCALHOST;
    address.subject_alt_names = vec![SanType::IpAddress(localhost.into())];
    let mut all = vec![
        naming_host(params("Leaf", IsCa::NoCa)),
        naming_host(params("Leaf", IsCa::ExplicitNoCa)),
        for_signing,
        address,
    ];
    for purpose in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ] {
        let mut nameless = params("Leaf", IsCa::ExplicitNoCa);
        nameless.extended_key_usages = vec![purpose.clone()];
        let mut named = naming_host(params("Leaf", IsCa::NoCa));
        named.extended_key_usages = vec![purpose];
        all.extend([nameless, named]);
    }
    for leaf in all {
        let leaf = issued(leaf, &root).pem();
        let why = said(&[&leaf]).unwrap_err();
        assert!(why.contains("number 1 (\"CN=Leaf\")"), "{why}");
        assert!(why.contains("not an authority's"), "{why}");
        assert!(why.contains("its issuer (\"CN=Root\")"), "{why}");
        assert!(verified(&leaf, &leaf).is_err());
    }
}

#[test]
fn one_that_verifies_nothing_beside_others_is_a_warning() {
    let root = own(params("Root", authority()));
    let leaf = leaf(&root);
    let warnings = said(&[&root.pem(), &leaf.pem()]).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("number 2 (\"CN=Leaf\")"));
    let why = said(&[&leaf.pem(), &leaf.pem()]).unwrap_err();
    assert!(why.contains("number 1"), "{why}");
}

#[test]
fn what_is_not_marked_as_an_authority_s_is_a_warning_where_it_may_be_none() {
    let root = own(params("Root", authority()));
    let between = |is_ca, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params("Between", is_ca);
        change(&mut params);
        issued(params, &root)
    };
    let for_servers = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let for_signing = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    };
    // One that may sign others is an authority's, whatever else stands there.
    let may_sign = |params: &mut CertificateParams| {
        for_servers(params);
        *params = naming_host(params.clone());
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    };
    let mut unmarked = vec![];
    for by in [
        between(IsCa::NoCa, &|_| {}),
        between(IsCa::NoCa, &for_servers),
        between(IsCa::NoCa, &for_signing),
        between(IsCa::NoCa, &may_sign),
        between(IsCa::ExplicitNoCa, &|_| {}),
        between(IsCa::ExplicitNoCa, &for_signing),
        between(IsCa::ExplicitNoCa, &may_sign),
    ] {
        assert_eq!(verified(&by.pem(), &leaf(&by).pem()), Ok(()));
        unmarked.push((by.pem(), "Between"));
    }
    unmarked.push((V1_INTERMEDIATE.to_owned(), "Old Intermediate"));
    for (certificate, name) in unmarked {
        let warnings = said(&[&certificate]).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let about = format!("number 1 (\"CN={name}\"), that is not marked");
        assert!(warnings[0].contains(&about), "{warnings:?}");
    }
}

#[test]
fn an_authority_that_is_a_server_too_is_a_warning() {
    let both = own(naming_host(params("Both", authority())));
    let warnings = said(&[&both.pem()]).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("CA:FALSE"), "{warnings:?}");
    assert_eq!(verified(&both.pem(), &leaf(&both).pem()), Ok(()));
    let refused = verified(&both.pem(), &both.pem()).unwrap_err();
    assert!(refused.to_string().contains("CaUsedAsEndEntity"));
}

#[test]
fn names_are_shown_in_one_line_and_not_at_any_length() {
    let root = own(params("Root", authority()));
    let name = format!("a\nb\u{1b}[2J{}", "x".repeat(1_000));
    let leaf = issued(naming_host(params(&name, IsCa::NoCa)), &root).pem();
    let why = said(&[&leaf]).unwrap_err();
    assert!(!why.contains(char::is_control), "{why}");
    assert!(why.chars().count() < 400, "{why}");
}
