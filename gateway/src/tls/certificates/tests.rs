//! What is read from files, and what is said of files that cannot be used.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use std::fs::Permissions;
use tempfile::TempDir;

/// A directory with `certificate`, `key` and whatever a test writes beside them.
struct Place(TempDir);

impl Place {
    fn new(certificate: &str, key: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("certificate", certificate);
        place.write("key", key);
        place
    }

    fn good() -> Self {
        let (certificate, key) = made(|_| {});
        Self::new(&certificate, &key)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
        let private = Permissions::from_mode(0o600);
        std::fs::set_permissions(self.0.path().join(name), private).unwrap();
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles {
            certificate: self.0.path().join("certificate"),
            key: self.0.path().join("key"),
        }
    }

    fn read(&self) -> Pair {
        let read = Pair::read(&self.files(), SystemTime::now());
        read.unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn fault(&self) -> Fault {
        let read = Pair::read(&self.files(), SystemTime::now());
        read.err().expect("it was read")
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.read().warnings;
        warnings.into_iter().map(|one| one.why).collect()
    }
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_pair_is_read_with_its_names_and_its_end() {
    let (certificate, key) = made(|params| {
        params.subject_alt_names = CertificateParams::new(vec![
            "A.example".to_owned(),
            "*.b.example".to_owned(),
            "192.0.2.1".to_owned(),
        ])
        .unwrap()
        .subject_alt_names;
        params.not_after = date_time_ymd(2100, 1, 1);
    });
    let pair = Place::new(&certificate, &key).read();
    assert_eq!(pair.names, ["a.example", "*.b.example"]);
    let until = SystemTime::from("2100-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
    assert_eq!(pair.valid.until, until);
    assert_eq!(pair.warnings, []);
}

#[test]
fn one_file_may_hold_both() {
    let (certificate, key) = made(|_| {});
    let place = Place::new(&format!("{key}{certificate}"), "");
    let mut files = place.files();
    files.key.clone_from(&files.certificate);
    let read = Pair::read(&files, SystemTime::now());
    assert_eq!(read.unwrap_or_else(|fault| panic!("{fault}")).warnings, []);
}

#[test]
fn what_is_wrong_is_said_of_the_file_that_is_to_blame() {
    let (certificate, key) = made(|_| {});
    let (_, other) = made(|_| {});
    let half = &certificate[..certificate.len() / 2];
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (certificate, key, role, why) in [
        ("", key.as_str(), Role::Certificate, "holds no certificate"),
        (&key, &key, Role::Certificate, "holds no certificate"),
        (half, &key, Role::Certificate, "is not whole"),
        (garbage, &key, Role::Certificate, "cannot be read"),
        (&certificate, "", Role::Key, "holds no private key"),
        (
            &certificate,
            &certificate,
            Role::Key,
            "holds no private key",
        ),
        (&certificate, &encrypted, Role::Key, "is encrypted"),
        (&certificate, old, Role::Key, "is encrypted"),
        (&certificate, no_key, Role::Key, "cannot be used"),
        (
            &certificate,
            &other,
            Role::Key,
            "is not the key of the certificate",
        ),
    ] {
        let fault = Place::new(certificate, key).fault();
        assert_eq!(fault.role, role, "{fault}");
        assert!(fault.why.contains(why), "{fault}");
        let name = match role {
            Role::Key => "/key ",
            _ => "/certificate ",
        };
        assert!(fault.to_string().contains(name), "{fault}");
    }
}

#[test]
fn files_that_are_none_are_told_apart() {
    let place = Place::good();
    let mut files = place.files();
    files.key = place.0.path().to_owned();
    let fault = |files: &_| Pair::read(files, SystemTime::now()).err().unwrap().why;
    assert!(fault(&files).contains("not a regular file"));
    files.key.push("missing");
    assert!(fault(&files).contains("does not exist"));
    place.write("key", &"x".repeat(FILE_BYTES_MAX + 1));
    assert!(place.fault().why.contains("too large"));
}

#[test]
fn nothing_of_a_key_is_ever_said() {
    let (certificate, key) = made(|_| {});
    // Whatever breaks it: a line less, a line more, a character that does not belong there.
    for line in 0..key.lines().count() {
        let secret: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
        let without: String = (0..)
            .zip(key.lines())
            .filter(|(at, _)| *at != line)
            .map(|(_, text)| format!("{text}\n"))
            .collect();
        let spoilt: String = (0..)
            .zip(key.lines())
            .map(|(at, text)| {
                if at == line {
                    format!("-----BEGIN {text}\n")
                } else {
                    format!("{text}\n")
                }
            })
            .collect();
        for text in [without, spoilt] {
            let place = Place::new(&certificate, &text);
            if let Err(fault) = Pair::read(&place.files(), SystemTime::now()) {
                let said = format!("{fault} {fault:?}");
                assert!(secret.iter().all(|line| !said.contains(line)), "{said}");
            }
        }
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (change, why) in [
        (
            (|params| params.not_after = date_time_ymd(2021, 1, 1)) as fn(&mut CertificateParams),
            "has expired: it ended at 2021-01-01T00:00:00Z",
        ),
        (
            |params| params.not_before = date_time_ymd(3000, 1, 1),
            "is not valid yet: it begins at 3000-01-01T00:00:00Z",
        ),
        (|params| params.subject_alt_names.clear(), "names no host"),
        (
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "not meant for servers",
        ),
    ] {
        let (certificate, key) = made(change);
        let warnings = Place::new(&certificate, &key).warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(why), "{warnings:?}");
    }
}

#[test]
fn a_key_that_everybody_may_read_is_a_warning() {
    let place = Place::good();
    for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
        std::fs::set_permissions(place.files().key, Permissions::from_mode(mode)).unwrap();
        let warnings = place.warnings();
        assert_eq!(warnings.len(), usize::from(open), "{mode:o} {warnings:?}");
        assert!(warnings.iter().all(|why| why.contains("chmod o-rw")));
    }
}

#[test]
fn a_chain_is_good_as_long_as_its_first_certificate_and_stands_in_order() {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "Root");
    root.not_after = date_time_ymd(2021, 1, 1);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Leaf");
    params.not_after = date_time_ymd(2090, 1, 1);
    let leaf = params.signed_by(&key, &root).unwrap().pem();
    let chain = format!("{leaf}{}", root.pem());
    let place = Place::new(&chain, &key.serialize_pem());
    assert_eq!(
        place.warnings(),
        ["holds a certificate, number 2, that has expired: it ended at 2021-01-01T00:00:00Z"]
    );
    let until = SystemTime::from("2090-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
    assert_eq!(place.read().valid.until, until);
    let (stranger, _) = made(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "Stranger");
    });
    place.write("certificate", &format!("{leaf}{stranger}{}", root.pem()));
    let warnings = place.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[1].contains("do not lead from one to the next"),
        "{warnings:?}"
    );
}
