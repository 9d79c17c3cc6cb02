//! The files of TLS are looked into before a configuration is called fine, each mistake with its key.
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

const CONFIGURATION: &str = r#"
[[listener]]
address = "127.0.0.1:8443"
[listener.tls]
certificates = [
    { certificate_file = "a.pem", key_file = "a.key" },
    { certificate_file = "b.pem", key_file = "b.key" },
]
client_ca_file = "clients.pem"
[[upstream]]
name = "openai"
base_url = "https://api.example"
ca_file = "provider.pem"
[[account]]
name = "one"
upstream = "openai"
credential = { env = "PATH" }
egress = ["127.0.0.1"]
[[tenant]]
name = "team"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }]
upstreams = ["openai"]
"#;

fn place() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("relay.toml"), CONFIGURATION).unwrap();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
        let at = |end: &str| directory.path().join(format!("{name}.{end}"));
        fs::write(at("pem"), made.cert.pem()).unwrap();
        fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(at("key"), Permissions::from_mode(0o600)).unwrap();
    }
    for name in ["clients.pem", "provider.pem"] {
        fs::copy(directory.path().join("a.pem"), directory.path().join(name)).unwrap();
    }
    directory
}

/// The exit code of `check-config`, and its lines without the file's name.
fn check(directory: &TempDir) -> (Option<i32>, Vec<String>) {
    let file = directory.path().join("relay.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_codex-relay"))
        .args(["check-config", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let shown = file.display().to_string();
    let lines = text.lines().map(|line| line.replace(&shown, "FILE"));
    (output.status.code(), lines.collect())
}

#[test]
fn good_files_are_fine() {
    let (code, lines) = check(&place());
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[test]
fn every_file_that_cannot_be_used_is_told_with_its_key_and_its_line() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::remove_file(at("a.pem")).unwrap();
    fs::copy(at("a.key"), at("b.key")).unwrap();
    fs::write(at("clients.pem"), "").unwrap();
    fs::write(at("provider.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    let (code, lines) = check(&place);
    assert_eq!(code, Some(78), "{lines:#?}");
    for (line, (position, key, why)) in lines.iter().zip([
        (
            "6:",
            "listener[0].tls.certificates[0].certificate_file",
            "a.pem does not exist",
        ),
        (
            "7:",
            "listener[0].tls.certificates[1].key_file",
            "b.key is not the key of the certificate in ",
        ),
        (
            "9:",
            "listener[0].tls.client_ca_file",
            "clients.pem holds no certificate",
        ),
        ("13:", "upstream[0].ca_file", "provider.pem is not whole"),
    ]) {
        assert!(line.starts_with(&format!("FILE:{position}")), "{line}");
        assert!(line.contains(&format!(" {key}: ")), "{line}");
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn what_is_probably_not_meant_is_told_and_no_error() {
    let place = place();
    let key = place.path().join("a.key");
    fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    let (code, lines) = check(&place);
    assert_eq!(code, Some(0), "{lines:#?}");
    let warning = lines.iter().find(|line| line.starts_with("warning: "));
    let warning = warning.unwrap();
    assert!(
        warning.contains("listener[0].tls.certificates[0].key_file"),
        "{warning}"
    );
    assert!(
        warning.contains("everybody on this host may read"),
        "{warning}"
    );
}

#[test]
fn a_certificate_that_is_no_authoritys_is_told_with_whose_belongs_there() {
    let place = place();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Some Authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["api.example".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "api.example");
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority).unwrap().pem();
    let files = [
        ("9:", "listener[0].tls.client_ca_file", "clients.pem"),
        ("13:", "upstream[0].ca_file", "provider.pem"),
    ];
    for (_, _, name) in files {
        fs::write(place.path().join(name), &leaf).unwrap();
    }
    let (code, lines) = check(&place);
    assert_eq!(code, Some(78), "{lines:#?}");
    for (line, (position, key, name)) in lines.iter().zip(files) {
        assert!(line.starts_with(&format!("FILE:{position}")), "{line}");
        assert!(line.contains(&format!(" {key}: ")), "{line}");
        let why = format!("{name} holds a certificate, number 1 (\"CN=api.example\"), that is not");
        assert!(line.contains(&why), "{line}");
        assert!(
            line.contains("of its issuer (\"CN=Some Authority\")"),
            "{line}"
        );
    }
    assert_eq!(lines.len(), 3, "{lines:#?}");

    // Beside an authority's it does no harm.
    for (_, _, name) in files {
        let both = format!("{}{leaf}", authority.pem());
        fs::write(place.path().join(name), both).unwrap();
    }
    let (code, lines) = check(&place);
    assert_eq!(code, Some(0), "{lines:#?}");
    let warnings = lines.iter().filter(|line| line.starts_with("warning: "));
    assert_eq!(warnings.clone().count(), 2, "{lines:#?}");
    assert!(warnings.clone().all(|line| line.contains("number 2")));
}

#[test]
fn who_reads_the_journal_need_not_be_able_to_read_the_keys() {
    let place = place();
    for name in ["a.key", "b.key"] {
        fs::remove_file(place.path().join(name)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_codex-relay"))
        .args(["audit", "query", "-c"])
        .arg(place.path().join("relay.toml"))
        .arg("--journal")
        .arg(place.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("a.key"), "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
}
