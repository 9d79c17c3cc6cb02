//! `codex-relay egress …`: checks and the log.

use crate::two_accounts;
use relay_tests::gateway::{Launch, Started};
use relay_tests::{
    Account, Config, Gateway, Mode, RawClient, Request, Signal, Tenant, Upstream, eventually,
    in_each_mode, openai,
};
use serde_json::Value;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};

/// `codex-relay egress echo`, and where it listens.
fn echo() -> (Started, SocketAddr) {
    let started = Launch::new().alone(&["egress", "echo", "--listen", "127.0.0.1:0"]);
    let address = started.output().wait_for("its address", |lines| {
        let address = lines.first()?.text.strip_prefix("listening on ")?;
        address.parse().ok()
    });
    (started, address)
}

/// `codex-relay egress check … --json`: the exit code and the checks.
fn check(gateway: &Gateway, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let admin = gateway.admin_address().to_string();
    let arguments = [&["egress", "check", "--json", "--admin", &admin], more].concat();
    let finished = gateway.command(&arguments);
    let checks = finished.json();
    (finished.code, checks.as_array().expect("a list").clone())
}

#[test]
fn whoever_connects_to_the_far_side_is_told_its_address() {
    let (_echo, address) = echo();
    let mut client = TcpStream::connect(address).expect("a listener");
    let mut line = String::new();
    client.read_to_string(&mut line).expect("an answer");
    let own = client.local_addr().expect("an address");
    assert_eq!(line, format!("{own}\n"));
}

fn every_address_of_every_account_is_seen_by_the_far_side(mode: &Mode) {
    let upstream = Upstream::untouched();
    let gateway = mode.gateway(&two_accounts(&upstream));
    let (_echo, address) = echo();
    let to = address.to_string();
    let (code, checks) = check(&gateway, &["--to", &to]);
    assert_eq!((code, checks.len()), (Some(0), 3), "{checks:?}");
    let expected = [
        ("first", "127.0.7.1"),
        ("first", "127.0.7.2"),
        ("second", "127.0.7.3"),
    ];
    for (check, (account, address)) in checks.iter().zip(expected) {
        assert_eq!(
            (&check["account"], &check["address"]),
            (&account.into(), &address.into())
        );
        assert_eq!(check["destination"], to);
        assert_eq!(check["seen"], check["local"], "{check}");
        let seen = check["seen"].as_str().unwrap_or_default();
        assert!(seen.starts_with(&format!("{address}:")), "{check}");
    }
    let (code, checks) = check(&gateway, &["--to", &to, "--account", "second"]);
    assert_eq!((code, checks.len()), (Some(0), 1), "{checks:?}");

    let admin = gateway.admin_address().to_string();
    let table = gateway.command(&["egress", "check", "--admin", &admin, "--to", &to]);
    assert_eq!(table.output.lines().count(), 4, "{table:?}");
    let unknown = gateway.command(&["egress", "check", "--admin", &admin, "--account", "third"]);
    assert!(
        unknown.code != Some(0) && unknown.errors.contains("third"),
        "{unknown:?}"
    );
}

fn what_does_not_work_is_told_with_who_is_to_blame(mode: &Mode) {
    let upstream = Upstream::untouched();
    let account = Account::first().egress("203.0.113.9");
    let gateway = mode.gateway(&Config::for_upstream(upstream.address()).account(account));
    let (code, checks) = check(&gateway, &[]);
    assert_eq!(code, Some(1), "{checks:?}");
    assert!(checks[0]["error"].is_null(), "{checks:?}");
    let error = checks[1]["error"].as_str().unwrap_or_default();
    assert!(error.contains("not one of this host"), "{checks:?}");
    // Nobody listens there any more.
    let (echo, address) = echo();
    drop(echo);
    let (code, checks) = check(&gateway, &["--to", &address.to_string()]);
    assert_eq!(code, Some(1), "{checks:?}");
    let error = checks[0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("destination"), "{checks:?}");
}

in_each_mode! {
    every_address_of_every_account_is_seen_by_the_far_side,
    what_does_not_work_is_told_with_who_is_to_blame,
}

#[test]
fn no_web_page_can_order_a_check() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = RawClient::connect(gateway.admin_address());
    client.send("POST /egress/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(client.read_response().status(), 415);
    assert_eq!(upstream.connection_count(), 0);
}

/// `codex-relay egress log … --json`
fn log(gateway: &Gateway, more: &[&str]) -> Vec<Value> {
    let finished = gateway.command(&[&["egress", "log", "--json"], more].concat());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines = finished.output.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_connection_is_in_the_log_once_it_has_ended() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let end = Signal::new();
    let upstream = Upstream::start({
        let end = end.clone();
        move |exchange| {
            exchange.send(openai::plain());
            if exchange.request.target == "/v1/first" {
                end.wait();
                exchange.close();
            }
        }
    });
    let config = Config::for_upstream(upstream.address()).account(Account::first());
    let mut gateway = mode.gateway(&config);
    assert_eq!(gateway.call(&Request::get("/v1/first")).status(), 200);
    let peer = upstream.only_request().peer.expect("a peer").to_string();
    let admin = gateway.admin_address().to_string();
    let open = eventually("it is open, and kept", || {
        log(&gateway, &["--open", "--admin", &admin]).pop()
    });
    assert_eq!(
        (&open["account"], &open["source"]),
        (&"first".into(), &peer.clone().into())
    );
    assert!(
        open["closed"].is_null() && open["opened"].is_string(),
        "{open}"
    );
    assert_eq!(log(&gateway, &[]), Vec::<Value>::new());

    end.send();
    // Who wants to use it finds that it has ended.
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let record = eventually("it has ended", || log(&gateway, &[]).pop());
    assert_eq!(
        (&record["source"], &record["opened"]),
        (&peer.into(), &open["opened"])
    );
    assert_eq!(
        record["destination"],
        upstream.address().to_string().as_str()
    );
    assert_eq!(record["violation"], false);
    for member in ["bytes_sent", "bytes_received"] {
        assert!(
            record[member].as_u64().is_some_and(|bytes| bytes > 100),
            "{record}"
        );
    }
    let closed = record["closed"].as_str().unwrap_or_default();
    assert!(Some(closed) > record["opened"].as_str(), "{record}");

    gateway.terminate();
    assert!(gateway.wait_exit().success());
    assert_eq!(log(&gateway, &["--since", "1d"]).first(), Some(&record));
    assert_eq!(log(&gateway, &["--account", "second"]).len(), 0);
    assert_eq!(log(&gateway, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    let table = gateway.command(&["egress", "log"]);
    assert!(table.output.lines().count() >= 2, "{table:?}");
}

#[test]
fn connections_that_are_kept_at_the_end_are_in_the_log_of_who_ends() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::plain());
    });
    let config = Config::bare()
        .upstream("openai", &format!("http://{}", upstream.address()))
        .account(Account::first())
        .tenant(Tenant::acme().set("connections", 8));
    let mut gateway = mode.gateway(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let peer = upstream.only_request().peer.expect("a peer").to_string();
    let admin = gateway.admin_address().to_string();
    eventually("it is open, and nobody's", || {
        let open = log(&gateway, &["--open", "--admin", &admin]);
        let is_nobodys = gateway.metric("relay_tenant_connections", &["side=\"upstream\""]) == 0.0;
        (open.len() == 1 && is_nobodys).then_some(())
    });
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    let records = log(&gateway, &[]);
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(record["source"], peer.as_str());
    assert_eq!(record["tenant"], "acme", "{record}");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let Some(mode) = Mode::kernel() else {
        return;
    };
    let upstream = Upstream::answering(openai::plain());
    let config = Config::for_upstream(upstream.address()).account(Account::first());
    let config = config.timeout("pool_idle", "100ms");
    let gateway = mode.gateway(&config);
    let directory = gateway.directory().join("state/egress-log");
    std::fs::remove_dir(&directory).expect("a directory without a file");
    std::fs::write(&directory, "").expect("a file in its place");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let line = gateway.log().wait_event("egress_log_failed");
    assert_eq!(line["level"], "warning");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn without_the_kernel_there_is_no_log_and_that_is_said() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let admin = gateway.admin_address().to_string();
    for arguments in [
        &["egress", "log"][..],
        &["egress", "log", "--open", "--admin", &admin],
    ] {
        let finished = gateway.command(arguments);
        assert!(finished.code != Some(0), "{finished:?}");
        assert!(finished.errors.contains("kernel"), "{finished:?}");
        assert_eq!(finished.errors.lines().count(), 1, "{finished:?}");
    }
}

#[test]
fn a_gateway_that_does_not_run_is_not_asked_for_long() {
    let upstream = Upstream::untouched();
    let mut gateway = Gateway::start(&Config::simple(upstream.address()));
    let admin = gateway.admin_address().to_string();
    gateway.terminate();
    gateway.wait_exit();
    let finished = gateway.command(&["egress", "check", "--admin", &admin]);
    assert!(finished.code != Some(0), "{finished:?}");
    assert!(finished.errors.contains("does it run?"), "{finished:?}");
    // The file says port 0.
    let finished = gateway.command(&["egress", "check"]);
    assert!(finished.errors.contains("--admin"), "{finished:?}");
}
