//! What is looked at before the gateway serves, and with which rights.

use super::{Place, first_of, shown};
use relay_tests::gateway::Launch;
use relay_tests::request::HOST;
use relay_tests::{Gateway, Leaf, ListenerTls, Request};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// `nobody`
const NOBODY: u32 = 65_534;

#[test]
fn a_key_of_another_certificate_keeps_it_from_starting() {
    let place = Place::new();
    let other = place.authority.server(&[HOST]);
    let config = place
        .config(place.tls())
        .file("gateway.key", other.key_pem());
    let mut started = Launch::new().run(&config);
    assert_eq!(started.wait_exit().code(), Some(78));
    let errors = started.errors().text();
    assert!(
        errors.contains("listener[0].tls.certificates[0].key_file: "),
        "{errors}"
    );
    assert!(
        errors.contains("gateway.key is not the key of the certificate in "),
        "{errors}"
    );
    assert!(!started.output().text().contains("listening"));
}

#[test]
fn what_is_probably_not_meant_is_told_and_served() {
    let place = Place::new();
    let expired = place.authority.issue(&Leaf::server(&[HOST]).expired());
    let gateway = Gateway::start(&place.config(ListenerTls::new(&expired)));
    let line = gateway.log().wait_event("config_warning");
    let warning = line["warning"].as_str().unwrap_or_default();
    assert!(
        warning.contains("gateway.pem has expired: it ended at 2021-12-31"),
        "{warning}"
    );
    assert_eq!(gateway.admin("/ready").status(), 200);
}

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        eprintln!("not shown: only root may give files away");
    }
    is_root
}

fn give_away(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        chown(path, Some(NOBODY), Some(NOBODY)).expect("files of root");
    }
    chown(directory, Some(NOBODY), Some(NOBODY)).expect("a directory of root");
}

#[test]
fn a_user_without_rights_serves_with_files_of_its_own_and_replaces_them() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let launch = Launch::new()
        .under(env!("CARGO_BIN_EXE_without-privileges"))
        .prepare(give_away);
    let gateway = launch.gateway(&place.config(place.tls()));
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
    let next = place.authority.server(&[HOST]);
    super::reload::replace(&gateway, "gateway.pem", &next.chain_pem());
    super::reload::replace(&gateway, "gateway.key", next.key_pem());
    let (status, told) = super::reload::order(&gateway);
    assert_eq!(status, 200, "{told}");
    let wire = place.client().without_resumption();
    let wire = wire.connect(gateway.address(), HOST).expect("a handshake");
    assert_eq!(shown(&wire), first_of(&next));
    // A key that it may not read leaves the one that it has.
    let key = gateway.directory().join("gateway.key");
    chown(&key, Some(0), Some(0)).expect("a file of nobody");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a file of root");
    let (status, told) = super::reload::order(&gateway);
    assert_eq!(status, 422, "{told}");
    let error = told["refused"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("permission denied"), "{told}");
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

#[test]
fn a_user_without_rights_cannot_start_with_files_of_root() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let launch = Launch::new()
        .under(env!("CARGO_BIN_EXE_without-privileges"))
        .prepare(|directory| {
            give_away(directory);
            let key = directory.join("gateway.key");
            chown(key, Some(0), Some(0)).expect("a file of nobody");
        });
    let mut started = launch.run(&place.config(place.tls()));
    assert_eq!(started.wait_exit().code(), Some(78));
    let errors = started.errors().text();
    assert!(
        errors.contains("gateway.key cannot be read: permission denied"),
        "{errors}"
    );
}

/// Started by root it reads everything, and gives up the right to do so before it serves.
#[test]
fn root_is_told_what_it_will_not_be_able_to_read_again() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let launch = Launch::new().prepare(|directory| {
        let key = directory.join("gateway.key");
        chown(key, Some(NOBODY), Some(NOBODY)).expect("a file of root");
    });
    let gateway = launch.gateway(&place.config(place.tls()));
    let line = gateway.log().wait_event("certificate_not_replaceable");
    assert_eq!(line["level"], "warning");
    let key = gateway.directory().join("gateway.key");
    assert_eq!(line["file"], key.display().to_string());
    let mut client = gateway.secure_client(&place.client());
    assert_eq!(client.call(&Request::plain()).status(), 200);
}
