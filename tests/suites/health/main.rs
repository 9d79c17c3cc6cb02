//! What the operator sees of the accounts' health and does about it: the admin API, probes, metrics.

mod admin;
mod metrics;
mod probes;

use relay_tests::upstream::Received;
use relay_tests::{Account, Config, Gateway, RawClient, Response, Upstream, eventually};
use serde_json::Value;

/// Two accounts, each with an address of its own.
fn two(upstream: &Upstream) -> Config {
    Config::for_upstream(upstream.address())
        .account(Account::new("first", "127.0.7.1"))
        .account(Account::new("second", "127.0.7.2"))
}

/// The name of the account whose key came with a request.
fn asked(request: &Received) -> String {
    let value = request.head.value("authorization").unwrap_or_default();
    let key = value.strip_prefix("Bearer ").unwrap_or_default();
    let names = ["first", "second"].into_iter();
    let is_meant = |name: &&str| Account::new(name, "127.0.7.1").key() == key;
    let found = names.clone().find(is_meant);
    found
        .unwrap_or_else(|| panic!("nobody's key: {key}"))
        .to_owned()
}

/// POST to the admin API.
fn post(gateway: &Gateway, path: &str, content_type: &str, body: &str) -> Response {
    let host = gateway.admin_address().to_string();
    post_to(gateway, &host, path, content_type, body)
}

/// The same under another name.
fn post_to(gateway: &Gateway, host: &str, path: &str, content_type: &str, body: &str) -> Response {
    let mut client = RawClient::connect(gateway.admin_address());
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.read_response()
}

/// An order, which is obeyed: the account as it is then.
fn order(gateway: &Gateway, name: &str, verb: &str, body: &str) -> Value {
    let path = format!("/accounts/{name}/{verb}");
    let answer = post(gateway, &path, "application/json", body);
    assert_eq!(answer.status(), 200, "{path}: {}", answer.json());
    answer.json()
}

/// `GET /accounts/{name}`
fn shown(gateway: &Gateway, name: &str) -> Value {
    gateway.admin(&format!("/accounts/{name}")).json()
}

/// Waits until an account is in this state for this reason.
fn wait_state(gateway: &Gateway, name: &str, state: &str, reason: Option<&str>) {
    eventually(&format!("{name} is {state}"), || {
        let shown = shown(gateway, name);
        let is_it = shown["state"] == state && shown["reason"].as_str() == reason;
        is_it.then_some(())
    });
}

/// The log lines about states of this account, once there are so many.
fn told(gateway: &Gateway, name: &str, count: usize) -> Vec<Value> {
    let what = format!("{count} lines about {name}");
    gateway.log().wait_for(&what, |lines| {
        let lines = lines.iter().filter(|line| line.event() == "account_state");
        let lines = lines.filter(|line| line.json["account"] == name);
        let lines: Vec<Value> = lines.map(|line| line.json.clone()).collect();
        (lines.len() >= count).then_some(lines)
    })
}
