//! What is known of the accounts survives: ends of every kind, damage, and disks that take nothing.

use fastrand::Rng;
use relay_tests::gateway::Launch;
use relay_tests::{Account, Config, Gateway, Request, Upstream, eventually, openai};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Times that the gateway is killed.
const KILLS: usize = 200;

/// Accounts that nobody asks for: what happens to them is the operator's word alone.
const ORDERED: [&str; 3] = ["drained", "enabled", "disabled"];

fn state_dir() -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = format!("{:?}", directory.path().join("kept"));
    (directory, path)
}

/// The account `first` of an upstream that requests go to, and others of another one.
fn config(upstream: SocketAddr, state_dir: &str) -> Config {
    let other = |name: &str, number: usize| {
        Account::new(name, &format!("127.0.9.{number}")).upstream("other")
    };
    let ordered = ORDERED.iter().enumerate();
    ordered.fold(
        Config::simple(upstream)
            .upstream("other", "http://127.0.0.1:1")
            .set("node", "state_dir", state_dir),
        |config, (index, name)| config.account(other(name, index + 1)),
    )
}

/// An order to the admin API; `None` if the gateway was killed over it.
fn try_order(admin: SocketAddr, account: &str, verb: &str, reason: &str) -> Option<Value> {
    let body = format!("{{\"reason\":{reason:?}}}");
    let mut stream = TcpStream::connect(admin).ok()?;
    let request = format!(
        "POST /accounts/{account}/{verb} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, json) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(json).ok()
}

fn order(gateway: &Gateway, account: &str, verb: &str, reason: &str) -> Value {
    let answer = try_order(gateway.admin_address(), account, verb, reason);
    answer.expect("an answer in JSON")
}

fn saved_order(gateway: &Gateway, account: &str, verb: &str, reason: &str) {
    let answer = order(gateway, account, verb, reason);
    assert_eq!(answer["saved"], true, "{answer}");
}

fn account(gateway: &Gateway, name: &str) -> Value {
    gateway.admin(&format!("/accounts/{name}")).json()
}

fn wish(gateway: &Gateway, name: &str) -> (Value, Value) {
    let wish = account(gateway, name)["wish"].take();
    (wish["word"].clone(), wish["reason"].clone())
}

/// Waits until an account is blocked and that is saved; until when it is.
fn blocked_until(gateway: &Gateway, name: &str) -> Value {
    eventually("a block that is saved", || {
        let account = account(gateway, name);
        let is_it = account["state"] == "blocked" && account["saved"] == true;
        is_it.then(|| account["until"].clone())
    })
}

/// On a slow disk what was kept comes after the start.
fn wait_restored(gateway: &Gateway) {
    gateway.log().wait_event("state_restored");
}

fn quarantined(state_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(state_dir).expect("a state directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().display().to_string());
    names.filter(|name| name.contains("quarantine")).collect()
}

/// Whether the last gateway had begun to write and had not sealed the files again.
fn is_unsealed(state_dir: &Path) -> bool {
    let seal = fs::read_to_string(state_dir.join("state/seal"));
    seal.is_ok_and(|seal| seal.lines().any(|line| line.starts_with("open ")))
}

/// Whether an order was not saved, since somebody else held the files.
fn is_held(answer: &Value) -> bool {
    let reason = answer["unsaved_reason"].as_str().unwrap_or_default();
    reason.starts_with("another gateway holds ")
}

/// Orders one after the other, until the gateway is killed over one. By account: the latest that was reported as saved.
fn give_orders(admin: SocketAddr, first: u64) -> (BTreeMap<&'static str, u64>, u64) {
    let mut saved = BTreeMap::new();
    for number in first.. {
        let name = ORDERED[number as usize % ORDERED.len()];
        let verb = ["drain", "disable"][number as usize / 7 % 2];
        match try_order(admin, name, verb, &number.to_string()) {
            Some(answer) if answer["saved"] == true => drop(saved.insert(name, number)),
            // What the gateway before it has started to read its state may be there for a while after that was killed.
            Some(answer) => assert!(is_held(&answer), "not saved: {answer}"),
            None => return (saved, number),
        }
    }
    unreachable!("there are more numbers than orders")
}

/// Whatever was reported as saved before is there, or what was ordered after it.
fn check_orders(gateway: &Gateway, saved: &BTreeMap<&str, u64>, last: u64) {
    for (name, least) in saved {
        let (word, reason) = wish(gateway, name);
        let number: u64 = reason
            .as_str()
            .and_then(|reason| reason.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {reason}, saved was {least}"));
        assert!(
            (*least..=last).contains(&number),
            "{name}: {number} of {least} to {last}"
        );
        let words = ["drained", "disabled"];
        assert_eq!(word, words[number as usize / 7 % 2], "{name} {number}");
    }
}

#[test]
fn a_gateway_that_is_killed_at_any_moment_forgets_nothing_that_was_saved() {
    let limited = openai::error(429, "rate_limit_exceeded", &[("Retry-After", "3600")]);
    let upstream = Upstream::answering(limited);
    let (directory, path) = state_dir();
    let config = config(upstream.address(), &path);
    let kept = directory.path().join("kept");
    let mut rng = Rng::with_seed(200);
    let (mut saved, mut next) = (BTreeMap::new(), 1);
    let mut blocked = None;
    let mut starts = Vec::new();
    let mut unsealed = 0;
    for kill in 0..KILLS {
        if kill % 4 == 3 {
            let starting = Launch::new().run(&config);
            thread::sleep(Duration::from_micros(rng.u64(..60_000)));
            drop(starting);
            continue;
        }
        unsealed += usize::from(is_unsealed(&kept));
        let began_at = Instant::now();
        let gateway = Gateway::start(&config);
        starts.push(began_at.elapsed());
        if !saved.is_empty() {
            wait_restored(&gateway);
        }
        check_orders(&gateway, &saved, next);
        if let Some(until) = &blocked {
            let first = account(&gateway, "first");
            assert_eq!(
                (&first["state"], &first["until"]),
                (&"blocked".into(), until)
            );
        }
        if kill % 8 == 0 {
            saved_order(&gateway, "first", "reset", "");
            gateway.call(&Request::plain());
            blocked = Some(blocked_until(&gateway, "first"));
        }
        if kill % 8 == 5 {
            // While the last is written and the files are sealed.
            gateway.terminate();
            thread::sleep(Duration::from_micros(rng.u64(..60_000)));
            drop(gateway);
            continue;
        }
        let admin = gateway.admin_address();
        let orders = thread::spawn(move || give_orders(admin, next + 1));
        thread::sleep(Duration::from_micros(rng.u64(..60_000)));
        drop(gateway);
        let (newly_saved, last) = orders.join().expect("orders that are saved");
        saved.extend(newly_saved);
        next = last;
    }
    assert_eq!(quarantined(&kept), [""; 0]);
    assert_eq!(saved.len(), ORDERED.len());
    assert!(
        unsealed > KILLS / 4,
        "only {unsealed} kills came while files were written to"
    );
    starts.sort();
    let usual = starts[starts.len() / 2];
    let longest = starts[starts.len() - 1];
    println!(
        "{next} orders; {unsealed} kills before the seal; starts: {usual:?} as a rule, {longest:?} at most"
    );
}

#[test]
fn a_block_for_want_of_a_credential_ends_with_the_credential() {
    let upstream = Upstream::answering(openai::error(401, "invalid_api_key", &[]));
    let (_directory, path) = state_dir();
    let first = Account::first().set("credential", "{ env = \"FIRST_KEY\" }");
    let config =
        Config::for_upstream(upstream.address())
            .account(first)
            .set("node", "state_dir", path);
    let launch = |key: &str| Launch::new().environment("FIRST_KEY", key).gateway(&config);
    let gateway = launch("sk-old");
    gateway.call(&Request::plain());
    let until = blocked_until(&gateway, "first");
    gateway.stop();

    let gateway = launch("sk-old");
    wait_restored(&gateway);
    let first = account(&gateway, "first");
    assert_eq!(
        (&first["state"], &first["until"]),
        (&"blocked".into(), &until)
    );
    assert_eq!(first["reason"], "refused");
    assert_eq!(first["saved"], true);
    gateway.stop();

    let gateway = launch("sk-new");
    assert_eq!(account(&gateway, "first")["state"], "usable");
    gateway.stop();
}

#[test]
fn damaged_state_is_put_away_and_said_to_be() {
    let upstream = Upstream::answering(openai::plain());
    let (directory, path) = state_dir();
    let config = config(upstream.address(), &path);
    let gateway = Gateway::start(&config);
    saved_order(&gateway, "drained", "drain", "before");
    gateway.stop();

    let kept = directory.path().join("kept");
    let database = kept.join("state/db/db");
    let mut bytes = fs::read(&database).expect("a database");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&database, bytes).expect("a writable file");

    let gateway = Gateway::start(&config);
    let event = gateway.log().wait_event("state_quarantined");
    assert_eq!(event["reason"], "files");
    let meaning = event["meaning"].as_str().unwrap_or_default();
    assert!(meaning.contains("orders"), "{event}");
    let name = quarantined(&kept).pop().expect("something put away");
    assert!(
        event["kept_as"]
            .as_str()
            .is_some_and(|path| path.ends_with(&name)),
        "{event}"
    );
    eventually("a counter", || {
        (gateway.metric("relay_state_quarantined_total", &[]) == 1.0).then_some(())
    });
    assert_eq!(wish(&gateway, "drained").0, "enabled");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    saved_order(&gateway, "drained", "drain", "after");
    gateway.stop();

    let gateway = Gateway::start(&config);
    wait_restored(&gateway);
    assert_eq!(
        wish(&gateway, "drained"),
        ("drained".into(), "after".into())
    );
    assert_eq!(quarantined(&kept), [name]);
    gateway.stop();
}

#[test]
fn two_gateways_do_not_share_their_state_and_the_second_takes_it_over() {
    let upstream = Upstream::answering(openai::plain());
    let (_directory, path) = state_dir();
    let config = config(upstream.address(), &path);
    let first = Gateway::start(&config);
    saved_order(&first, "drained", "drain", "by the first");
    let second = Gateway::start(&config);
    let event = second.log().wait_event("state_not_saved");
    let why = event["error"].as_str().unwrap_or_default();
    assert!(why.contains("a `node.state_dir` of its own"), "{event}");
    assert_eq!(second.call(&Request::plain()).status(), 200);
    let answer = order(&second, "disabled", "disable", "by the second");
    assert_eq!(answer["saved"], false, "{answer}");
    assert!(answer["unsaved_reason"].is_string(), "{answer}");
    saved_order(&first, "drained", "drain", "by the first again");
    first.stop();

    second.log().wait_event("state_saved_again");
    assert_eq!(
        wish(&second, "drained"),
        ("drained".into(), "by the first again".into())
    );
    assert_eq!(
        wish(&second, "disabled"),
        ("disabled".into(), "by the second".into())
    );
    second.stop();
    let third = Gateway::start(&config);
    wait_restored(&third);
    assert_eq!(
        wish(&third, "drained"),
        ("drained".into(), "by the first again".into())
    );
    assert_eq!(
        wish(&third, "disabled"),
        ("disabled".into(), "by the second".into())
    );
    third.stop();
}

/// A file system of its own; `None`, with a line that says why, where it cannot be had.
struct Disk(TempDir);

impl Disk {
    fn mounted() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown: only root may mount a disk of a few megabytes");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = c"size=24m";
        mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            options,
        )
        .expect("a tmpfs");
        Some(Self(directory))
    }

    fn state_dir(&self) -> String {
        format!("{:?}", self.0.path())
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).expect("a file");
        let block = vec![1; 64 << 10];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("a file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_served_without_and_used_again_when_there_is_room() {
    let Some(disk) = Disk::mounted() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let config = config(upstream.address(), &disk.state_dir());
    let gateway = Gateway::start(&config);
    saved_order(&gateway, "drained", "drain", "in time");
    disk.fill();
    let answer = order(&gateway, "disabled", "disable", "too late");
    assert_eq!(answer["saved"], false, "{answer}");
    gateway.log().wait_event("state_not_saved");
    eventually("a metric", || {
        (gateway.metric("relay_state_saving", &[]) == 0.0).then_some(())
    });
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    disk.free();
    gateway.log().wait_event("state_saved_again");
    eventually("what waited", || {
        (account(&gateway, "disabled")["saved"] == true).then_some(())
    });
    gateway.stop();

    disk.fill();
    let gateway = Gateway::start(&config);
    gateway.log().wait_event("state_not_saved");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    saved_nothing(&gateway);
    disk.free();
    gateway.log().wait_event("state_saved_again");
    assert_eq!(
        wish(&gateway, "drained"),
        ("drained".into(), "in time".into())
    );
    assert_eq!(
        wish(&gateway, "disabled"),
        ("disabled".into(), "too late".into())
    );
    gateway.stop();
    assert_eq!(quarantined(disk.0.path()), [""; 0]);
}

#[test]
fn a_read_only_disk_is_served_without() {
    let Some(disk) = Disk::mounted() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let config = config(upstream.address(), &disk.state_dir());
    mount_remount(disk.0.path(), MountFlags::RDONLY, "").expect("a read-only disk");
    let gateway = Gateway::start(&config);
    gateway.log().wait_event("state_not_saved");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    saved_nothing(&gateway);
    gateway.stop();
}

fn saved_nothing(gateway: &Gateway) {
    let answer = order(gateway, "enabled", "drain", "for now");
    assert_eq!(answer["saved"], false, "{answer}");
    assert_eq!(answer["wish"]["word"], "drained", "{answer}");
}
