//! `codex-relay accounts …` against a scripted admin address: what is asked, what is shown, and the exit codes.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

/// What one request said: the line, and the body if there was one.
type Asked = (String, Option<Value>);

/// Answers from a table of paths, and remembers what was asked.
struct Admin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Admin {
    /// `saved`: what orders are answered with.
    fn start(saved: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap(), &seen, saved);
            }
        });
        Self { address, asked }
    }

    fn accounts(&self, arguments: &[&str]) -> Output {
        accounts(&[arguments, &["--admin", &self.address.to_string()]].concat())
    }

    fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(stream: &mut TcpStream, asked: &Mutex<Vec<Asked>>, saved: bool) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "the request is cut");
        request.extend_from_slice(&some[..count]);
        let text = String::from_utf8(request.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let field = |line: &str| line.strip_prefix("Content-Length: ").map(str::to_owned);
        let length = head.lines().find_map(field);
        if length.is_none_or(|length| length == body.len().to_string()) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let line = head.lines().next().unwrap();
    let line = line.strip_suffix(" HTTP/1.0").unwrap().to_owned();
    if !body.is_empty() {
        assert!(
            head.contains("\r\nContent-Type: application/json"),
            "{head}"
        );
    }
    let (status, value) = match line.as_str() {
        "GET /accounts" => {
            let accounts = [blocked(true), well()];
            (
                "200 OK",
                json!({ "accounts": accounts, "panic": ["openai"] }),
            )
        }
        "GET /accounts/openai-1" => ("200 OK", blocked(true)),
        "GET /accounts/drained" => ("200 OK", drained()),
        "POST /accounts/claude-1/drain" => {
            let error = json!({ "error": "no time before now" });
            ("400 Bad Request", error)
        }
        "POST /accounts/claude-1/enable" => {
            ("503 Service Unavailable", json!({ "error": "not now" }))
        }
        _ if line.starts_with("POST /accounts/openai-1/") => ("200 OK", blocked(saved)),
        _ => ("404 Not Found", json!({ "error": "no such account" })),
    };
    asked
        .lock()
        .unwrap()
        .push((line, serde_json::from_str(&body).ok()));
    write!(stream, "HTTP/1.0 {status}\r\n\r\n{value}").unwrap();
}

/// Far enough ahead that the distance is always in days.
const UNTIL: &str = "2999-01-01T00:00:00.500000Z";

fn blocked(saved: bool) -> Value {
    json!({
        "name": "openai-1", "upstream": "openai", "region": "eu", "state": "blocked",
        "reason": "rate_limited", "until": UNTIL, "since": "2026-01-01T00:00:00.000000Z",
        "stated": true,
        "wish": {
            "word": "enabled", "since": "2026-01-02T00:00:00.000000Z", "until": null,
            "reason": "back\u{1b}[2J"
        },
        "health": {
            "state": "blocked", "reason": "rate_limited", "until": UNTIL, "stated": true
        },
        "openings": 3, "in_flight": 2, "max_concurrent": 64, "protocol": "http2", "latency_ms": 820,
        "share": 0.5,
        "addresses": [
            { "address": "203.0.113.10", "state": "usable", "reason": null, "until": null },
            { "address": "2001:db8::1", "state": "blocked", "reason": "unreachable", "until": UNTIL },
        ],
        "saved": saved, "unsaved_reason": if saved { Value::Null } else { json!("the disk is full") },
    })
}

/// As above, but that the operator has ordered something.
fn drained() -> Value {
    let mut account = blocked(true);
    account["state"] = json!("draining");
    account["reason"] = json!("new key");
    account["until"] = Value::Null;
    account["stated"] = json!(false);
    account
}

fn well() -> Value {
    json!({
        "name": "claude-1", "upstream": "anthropic", "region": "us", "state": "usable",
        "reason": null, "until": null, "since": null, "stated": false,
        "wish": { "word": "enabled", "since": null, "until": null, "reason": null },
        "health": { "state": "usable", "reason": null, "until": null, "stated": false },
        "openings": 0, "in_flight": 0, "max_concurrent": 8, "protocol": null, "latency_ms": null,
        "share": 1.0,
        "addresses": [
            { "address": "203.0.113.20", "state": "usable", "reason": null, "until": null },
        ],
        "saved": true, "unsaved_reason": null,
    })
}

fn accounts(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_codex-relay"))
        .arg("accounts")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The cells of each line of a table, without how far away times are, which depends on the day.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| {
            let cells = line
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty());
            cells
                .map(|cell| cell.split(" (in ").next().unwrap())
                .collect()
        })
        .collect()
}

#[test]
fn all_accounts_are_listed() {
    let admin = Admin::start(true);
    let output = admin.accounts(&["list"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (table, panic) = text(&output.stdout).split_once("\n\n").unwrap();
    let expected = [
        vec![
            "ACCOUNT",
            "UPSTREAM",
            "REGION",
            "STATE",
            "WHY",
            "UNTIL",
            "IN FLIGHT",
            "ADDRESSES",
        ],
        vec![
            "openai-1",
            "openai",
            "eu",
            "blocked",
            "rate_limited, stated by the provider",
            "2999-01-01T00:00:00Z",
            "2/64",
            "1/2",
        ],
        vec![
            "claude-1",
            "anthropic",
            "us",
            "usable",
            "-",
            "-",
            "0/8",
            "1/1",
        ],
    ];
    assert_eq!(cells(table), expected);
    assert!(table.contains("Z (in 3"), "in how long: {table}");
    assert!(panic.starts_with("No account of openai is well"), "{panic}");

    let one = admin.accounts(&["list", "--upstream", "anthropic"]);
    assert_eq!(text(&one.stdout).lines().count(), 2, "{one:?}");
    let none = admin.accounts(&["list", "--upstream", "gemini"]);
    assert_eq!((none.status.code(), text(&none.stdout)), (Some(64), ""));

    let json = admin.accounts(&["list", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["accounts"], json!([blocked(true), well()]));
}

#[test]
fn one_account_is_shown_with_all_that_is_known() {
    let admin = Admin::start(true);
    let output = admin.accounts(&["show", "openai-1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    let (lines, addresses) = shown.split_once("\n\n").unwrap();
    for expected in [
        "account    openai-1",
        "state      blocked",
        "why        rate_limited, stated by the provider",
        "since      2026-01-01T00:00:00Z (",
        "until      2999-01-01T00:00:00Z (in ",
        "operator   enabled since 2026-01-02T00:00:00Z (",
        ": back\u{fffd}[2J",
        "back-off   blocked 3 times in a row without a time from the provider",
        "in flight  2 of 64 at most",
        "protocol   HTTP/2",
        "latency    820 ms",
        "share      50 % of its usual load",
        "saved      yes",
    ] {
        assert!(lines.contains(expected), "{expected}: {shown}");
    }
    let expected = [
        vec!["ADDRESS", "STATE", "WHY", "UNTIL"],
        vec!["203.0.113.10", "usable", "-", "-"],
        vec![
            "2001:db8::1",
            "blocked",
            "unreachable",
            "2999-01-01T00:00:00Z",
        ],
    ];
    assert_eq!(cells(addresses), expected);
    let json = admin.accounts(&["show", "openai-1", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json, blocked(true));
    assert!(!lines.contains("health"), "it says nothing more: {shown}");
}

#[test]
fn an_order_does_not_hide_that_the_account_is_blocked() {
    let admin = Admin::start(true);
    let output = admin.accounts(&["show", "drained"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    for expected in [
        "state      draining\n",
        "why        new key\n",
        "until      -\n",
        "health     blocked (rate_limited, stated by the provider) until 2999-01-01T00:00:00Z (in ",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn orders_are_passed_on_and_what_has_become_of_them_is_shown() {
    let admin = Admin::start(true);
    for (arguments, path, body) in [
        (&["drain", "openai-1"][..], "drain", json!({})),
        (
            &[
                "disable",
                "openai-1",
                "--for",
                "2h",
                "--reason",
                "a \"b\"\r\n",
            ],
            "disable",
            json!({ "for_seconds": 7200, "reason": "a \"b\"\r\n" }),
        ),
        (
            &["enable", "openai-1", "--until", "2999-01-01T01:00:00+01:00"],
            "enable",
            json!({ "until": "2999-01-01T00:00:00Z" }),
        ),
        (&["reset", "openai-1"], "reset", json!({})),
        (
            &["reset", "openai-1", "--reason", "new key"],
            "reset",
            json!({ "reason": "new key" }),
        ),
    ] {
        let output = admin.accounts(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let line = format!("POST /accounts/openai-1/{path}");
        assert_eq!(admin.take_asked(), [(line, Some(body))]);
        let shown = text(&output.stdout);
        let begin = "openai-1 is blocked (rate_limited, stated by the provider) until 2999-";
        assert!(shown.starts_with(begin), "{shown}");
        assert!(shown.contains(", 2 requests in flight\n"), "{shown}");
        let hinted = shown.contains("accounts reset openai-1");
        assert_eq!(hinted, path == "enable", "{shown}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn an_order_that_is_not_on_disk_is_said_to_be() {
    let admin = Admin::start(false);
    let output = admin.accounts(&["drain", "openai-1"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("not on disk (the disk is full)"),
        "{output:?}"
    );
}

#[test]
fn what_the_gateway_refuses_is_said_in_its_words() {
    let admin = Admin::start(true);
    let refused = admin.accounts(&["drain", "claude-1"]);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert_eq!(text(&refused.stderr), "no time before now\n");
    let unknown = admin.accounts(&["drain", "openai-2"]);
    assert_eq!(unknown.status.code(), Some(64), "{unknown:?}");
    assert_eq!(text(&unknown.stderr), "no such account\n");
    let unable = admin.accounts(&["enable", "claude-1"]);
    assert_eq!(unable.status.code(), Some(74), "{unable:?}");
    assert_eq!(text(&unable.stderr), "not now\n");
}

#[test]
fn what_is_no_admin_address_is_said_to_be_none() {
    for (status, body) in [
        (
            "401 Unauthorized",
            r#"{"error":{"code":"missing_api_key"}}"#,
        ),
        ("404 Not Found", "<html>"),
        ("200 OK", r#"{"hello":"world"}"#),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut some = [0; 4096];
                let count = stream.read(&mut some).unwrap();
                assert!(count > 0, "the request is cut");
                request.extend_from_slice(&some[..count]);
            }
            write!(stream, "HTTP/1.1 {status}\r\nserver: x\r\n\r\n{body}").unwrap();
        });
        let output = accounts(&["list", "--admin", &address.to_string()]);
        server.join().unwrap();
        let said = text(&output.stderr);
        let expected = format!("what answers at {address} is not the admin address of a gateway");
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(74), "{status}: {output:?}");
    }
}

#[test]
fn a_name_that_cannot_be_one_is_not_sent() {
    let admin = Admin::start(true);
    for name in ["", "a/b", "a b", "openai-1/reset", "x\r\nHost: y", ".."] {
        let output = admin.accounts(&["reset", name]);
        assert_eq!(output.status.code(), Some(64), "{name:?}: {output:?}");
        assert!(
            text(&output.stderr).contains("no account can have"),
            "{output:?}"
        );
        assert_eq!(admin.take_asked(), [], "{name:?}");
    }
}

#[test]
fn a_gateway_that_does_not_run_is_said_not_to() {
    // The port was free a moment ago, and nobody listens there now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for arguments in [&["list"][..], &["show", "openai-1"], &["reset", "openai-1"]] {
        let output = accounts(&[arguments, &["--admin", &address]].concat());
        assert_eq!(output.status.code(), Some(74), "{output:?}");
        let expected = format!("no gateway answers at the admin address {address}: does it run?\n");
        assert_eq!(text(&output.stderr), expected);
    }
}

#[test]
fn the_admin_address_is_that_of_the_configuration() {
    let admin = Admin::start(true);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    let config = format!(
        r#"
        [admin]
        address = "{}"
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "openai"
        base_url = "http://127.0.0.1:1"
        [[account]]
        name = "openai-1"
        upstream = "openai"
        credential = {{ env = "NOT_SET_HERE" }}
        egress = ["127.0.0.1"]
        "#,
        admin.address
    );
    fs::write(&file, config).unwrap();
    let output = accounts(&["show", "openai-1", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn orders_that_say_too_much_or_too_little_are_usage_errors() {
    for arguments in [
        &[][..],
        &["list"],
        &["show", "--admin", "127.0.0.1:1"],
        &["drain", "a", "--admin", "127.0.0.1:1", "--for", "0s"],
        &["drain", "a", "--admin", "127.0.0.1:1", "--for", "2"],
        &[
            "drain",
            "a",
            "--admin",
            "127.0.0.1:1",
            "--until",
            "tomorrow",
        ],
        &[
            "drain",
            "a",
            "--admin",
            "127.0.0.1:1",
            "--for",
            "2h",
            "--until",
            "2999-01-01T00:00:00Z",
        ],
        &["reset", "a", "--admin", "127.0.0.1:1", "--for", "2h"],
    ] {
        let output = accounts(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}
