//! What becomes of files that are replaced while the gateway runs.

use super::*;
use crate::config::policy::TlsVersion;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::cell::Cell;
use tempfile::TempDir;

/// A listener with one certificate, and perhaps an authority for clients.
struct Place {
    directory: TempDir,
    files: Files,
}

struct Made {
    certificate: String,
    key: String,
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    change(&mut params);
    Made {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2021, 1, 1);
}

impl Place {
    fn new(first: &Made, verifies_clients: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("certificate"), &first.certificate).unwrap();
        std::fs::write(at("key"), &first.key).unwrap();
        std::fs::write(at("authorities"), &first.certificate).unwrap();
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            http2: true,
            tls: Some(ListenerTls {
                certificates: vec![CertificateFiles {
                    certificate: at("certificate"),
                    key: at("key"),
                }],
                min_version: TlsVersion::Tls12,
                client_auth: verifies_clients.then(|| ClientAuth {
                    ca_file: at("authorities"),
                    required: true,
                }),
            }),
        };
        let files = Files::open(&listener, listener.address, SystemTime::now());
        Self {
            directory,
            files: files.unwrap().unwrap(),
        }
    }

    /// As certbot and its like do: a new file in the place of the old one.
    fn replace(&self, name: &str, text: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.directory.path().join(name)).unwrap();
    }

    fn look(&mut self, asked: Asked) -> Look {
        self.files.look(asked, SystemTime::now())
    }

    /// Looks until nothing is unsettled any more; files that stand still need one look more.
    fn settle(&mut self) -> Vec<Event> {
        let first = self.look(Asked::Nobody);
        assert_eq!(first.events, [], "before it stood still");
        assert!(first.is_unsettled);
        let second = self.look(Asked::Nobody);
        assert!(!second.is_unsettled);
        second.events
    }

    fn shown(&self) -> Vec<Vec<u8>> {
        let pairs = self.files.pairs.iter();
        pairs
            .map(|kept| kept.value.certified.cert[0].to_vec())
            .collect()
    }

    fn version(&self) -> u64 {
        self.files
            .server
            .version
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn refused(events: &[Event], why: &str) -> bool {
    matches!(events, [Event::Refused(fault)] if fault.why.contains(why))
}

#[test]
fn nothing_is_done_about_files_that_stay_as_they_are() {
    let mut place = Place::new(&made(|_| {}), true);
    assert_eq!(place.look(Asked::Nobody), Look::default());
    assert_eq!(place.look(Asked::Somebody), Look::default());
    assert_eq!(place.version(), 0);
}

#[test]
fn a_new_pair_is_taken_when_it_stands_still_or_somebody_says_so() {
    let mut place = Place::new(&made(|_| {}), false);
    let view = super::super::View::new(place.files.server());
    let before = (place.shown(), view.config());
    let new = made(|_| {});
    place.replace("certificate", &new.certificate);
    place.replace("key", &new.key);
    let replaced = [Event::Replaced(place.path("certificate"))];
    assert_eq!(place.settle(), replaced);
    assert_ne!(place.shown(), before.0);
    assert_eq!(place.version(), 1);
    let after = view.config();
    assert!(!Arc::ptr_eq(&before.1, &after));
    assert!(
        Arc::ptr_eq(&before.1.ticketer, &after.ticketer),
        "sessions go on"
    );
    assert!(Arc::ptr_eq(&view.config(), &after));

    let newest = made(|_| {});
    place.replace("certificate", &newest.certificate);
    place.replace("key", &newest.key);
    assert_eq!(place.look(Asked::Somebody).events, replaced);
    assert_eq!(place.look(Asked::Nobody), Look::default());
}

#[test]
fn a_certificate_without_its_key_is_not_taken_and_told_once() {
    let mut place = Place::new(&made(|_| {}), false);
    let before = place.shown();
    let new = made(|_| {});
    place.replace("certificate", &new.certificate);
    assert!(refused(&place.settle(), "is not the key of"));
    assert_eq!(place.look(Asked::Nobody), Look::default());
    assert!(refused(
        &place.look(Asked::Somebody).events,
        "is not the key of"
    ));
    assert_eq!((place.shown(), place.version()), (before, 0));
    // Its key comes late.
    place.replace("key", &new.key);
    assert_eq!(place.settle(), [Event::Replaced(place.path("certificate"))]);
    assert_eq!(place.version(), 1);
}

#[test]
fn a_file_that_is_gone_or_broken_leaves_what_is_in_force() {
    let first = made(|_| {});
    let mut place = Place::new(&first, false);
    let before = place.shown();
    std::fs::remove_file(place.path("key")).unwrap();
    assert!(refused(&place.settle(), "does not exist"));
    place.replace("key", "nonsense");
    assert!(refused(&place.settle(), "holds no private key"));
    // What is put right is told as well, though nothing is new for clients.
    place.replace("key", &first.key);
    assert_eq!(place.settle(), [Event::Replaced(place.path("certificate"))]);
    assert_eq!((place.shown(), place.version()), (before, 0));
}

#[test]
fn what_is_not_good_now_does_not_replace_what_is() {
    let mut place = Place::new(&made(|_| {}), false);
    let before = place.shown();
    let old = made(expired);
    place.replace("certificate", &old.certificate);
    place.replace("key", &old.key);
    assert!(refused(&place.settle(), "has expired"));
    assert_eq!(place.shown(), before);
    // But one that has expired may be replaced by another, which the operator knows best.
    let mut place = Place::new(&made(expired), false);
    let old = made(expired);
    place.replace("certificate", &old.certificate);
    place.replace("key", &old.key);
    assert_eq!(place.settle(), [Event::Replaced(place.path("certificate"))]);
}

#[test]
fn what_was_refused_for_its_time_is_taken_when_that_has_come() {
    let mut place = Place::new(&made(|_| {}), false);
    let later = made(|params| params.not_before = date_time_ymd(3000, 1, 1));
    place.replace("certificate", &later.certificate);
    place.replace("key", &later.key);
    assert!(refused(&place.settle(), "is not valid yet"));
    let then = SystemTime::from("3000-01-02T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
    let look = place.files.look(Asked::Nobody, then);
    assert_eq!(look.events, [Event::Replaced(place.path("certificate"))]);
}

#[test]
fn authorities_of_clients_are_replaced_too_and_nothing_is_resumed_with_them() {
    let mut place = Place::new(&made(|_| {}), true);
    let config = place.files.server().current();
    assert!(!config.ticketer.enabled());
    assert_eq!(config.send_tls13_tickets, 0);
    place.replace("authorities", "");
    assert!(refused(&place.settle(), "holds no certificate"));
    assert_eq!(place.version(), 0);
    place.replace("authorities", &made(|_| {}).certificate);
    assert_eq!(place.settle(), [Event::Replaced(place.path("authorities"))]);
    assert_eq!(place.version(), 1);
}

#[test]
fn what_cannot_be_read_again_is_told() {
    let place = Place::new(&made(|_| {}), true);
    assert_eq!(place.files.unreadable(), []);
    for name in ["key", "authorities"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let warnings = place.files.unreadable();
    let roles: Vec<_> = warnings.iter().map(|fault| fault.role).collect();
    assert_eq!(roles, [Role::Key, Role::Authorities]);
}

/// A file that is written while it is read, so many times.
struct Restless {
    path: PathBuf,
    writes_left: Cell<usize>,
}

impl Source for Restless {
    type Value = String;

    const ROLE: Role = Role::Certificate;

    fn paths(&self) -> [&Path; 2] {
        [&self.path, &self.path]
    }

    fn read(&self, _: SystemTime) -> Result<String, Fault> {
        let text = std::fs::read_to_string(&self.path).unwrap();
        if let Some(left) = self.writes_left.get().checked_sub(1) {
            self.writes_left.set(left);
            std::fs::write(&self.path, format!("{text}+")).unwrap();
        }
        Ok(text)
    }

    fn worse(&self, _: &String, _: &String, _: SystemTime) -> Option<Fault> {
        None
    }

    fn is_same(new: &String, old: &String) -> bool {
        new == old
    }
}

#[test]
fn whoever_asks_is_told_of_a_file_that_does_not_stand_still() {
    let now = SystemTime::now();
    for (asked, writes, value, why) in [
        (Asked::Nobody, 1, "old", None),
        (Asked::Somebody, 2, "newer++", None),
        (Asked::Somebody, 3, "old", Some("is being written")),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let writes_left = Cell::new(0);
        let mut kept = Kept::open(Restless { path, writes_left }, now).unwrap();
        std::fs::write(&kept.files.path, "newer").unwrap();
        // It has stood still since, as far as anybody has seen.
        kept.seen = identity(kept.files.paths());
        kept.files.writes_left.set(writes);
        let mut found = Look::default();
        let is_new = kept.look(asked, now, &mut found);
        assert_eq!((kept.value.as_str(), is_new), (value, value != "old"));
        assert_eq!(found.is_unsettled, !is_new);
        match why {
            Some(why) => assert!(refused(&found.events, why), "{found:?}"),
            None => assert_eq!(found.events.len(), usize::from(is_new)),
        }
        // Nothing was taken for good that was not whole.
        kept.files.writes_left.set(0);
        kept.look(Asked::Somebody, now, &mut found);
        assert_eq!(kept.value, format!("newer{}", "+".repeat(writes)));
    }
}
