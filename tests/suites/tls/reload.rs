//! Certificates that are replaced while the gateway runs.

use super::{Place, first_of, shown};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::request::HOST;
use relay_tests::{
    Ending, Gateway, Identity, RawClient, Request, Signal, Upstream, eventually, openai,
};
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use std::fs;

/// Puts a file in the place of another one, as deployments do.
pub(crate) fn replace(gateway: &Gateway, name: &str, text: &str) {
    let at = |name: &str| gateway.directory().join(name);
    fs::write(at("new"), text).expect("a writable directory");
    fs::rename(at("new"), at(name)).expect("a writable directory");
}

fn install(gateway: &Gateway, identity: &Identity) {
    replace(gateway, "gateway.pem", &identity.chain_pem());
    replace(gateway, "gateway.key", identity.key_pem());
}

/// `POST /tls/reload`
pub(crate) fn order(gateway: &Gateway) -> (u16, Value) {
    let address = gateway.admin_address();
    let mut client = RawClient::connect(address);
    client.send(format!(
        "POST /tls/reload HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    let response = client.read_response();
    (response.status(), response.json())
}

fn shown_now(place: &Place, gateway: &Gateway) -> Vec<u8> {
    let client = place.client().without_resumption();
    let wire = client.connect(gateway.address(), HOST);
    shown(&wire.expect("a handshake"))
}

#[test]
fn new_connections_get_the_new_certificate_and_streams_go_on() {
    let go_on = Signal::new();
    let mut place = Place::new();
    place.upstream = {
        let go_on = go_on.clone();
        Upstream::start(move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::delta("a")));
            go_on.wait();
            exchange.send(chunk(&openai::completed()));
            exchange.send(LAST_CHUNK);
        })
    };
    let gateway = Gateway::start(&place.config(place.tls()).set("node", "workers", 2));
    let mut stream = gateway.secure_client(&place.client());
    stream.send(Request::streamed().bytes());
    assert_eq!(stream.begin_response().status(), 200);
    assert_eq!(
        stream.read_payload(openai::delta("a").len()),
        openai::delta("a")
    );

    let next = place.authority.server(&[HOST]);
    install(&gateway, &next);
    let (status, told) = order(&gateway);
    assert_eq!(status, 200, "{told}");
    let file = gateway
        .directory()
        .join("gateway.pem")
        .display()
        .to_string();
    assert_eq!(told["replaced"][0]["file"], file, "{told}");
    assert_eq!(
        told["replaced"][0]["listener"],
        gateway.address().to_string()
    );
    assert_eq!(told["refused"], Value::Array(Vec::new()));
    // By whichever worker.
    for _ in 0..16 {
        assert_eq!(shown_now(&place, &gateway), first_of(&next));
    }
    go_on.send();
    assert_eq!(
        stream.finish_response(),
        (openai::completed(), Ending::Complete)
    );

    let line = gateway.log().wait_event("certificate_replaced");
    assert_eq!(
        (line["level"].as_str(), line["file"].as_str()),
        (Some("info"), Some(&*file))
    );
    let replaced = ["result=\"replaced\""];
    assert_eq!(gateway.metric("relay_tls_reloads_total", &replaced), 1.0);
    let (again, told) = order(&gateway);
    assert_eq!(
        (again, &told["replaced"]),
        (200, &Value::Array(Vec::new())),
        "nothing is new"
    );
}

#[test]
fn a_session_goes_on_over_a_reload() {
    let place = Place::new();
    let gateway = place.gateway();
    let client = place.client();
    assert_eq!(
        gateway
            .secure_client(&client)
            .call(&Request::plain())
            .status(),
        200
    );
    install(&gateway, &place.authority.server(&[HOST]));
    assert_eq!(order(&gateway).0, 200);
    let resumed = gateway.secure_client(&client);
    assert!(resumed.secured().expect("TLS").was_resumed);
}

#[test]
fn files_are_looked_at_without_being_asked() {
    let place = Place::new();
    let gateway = place.gateway();
    let next = place.authority.server(&[HOST]);
    install(&gateway, &next);
    gateway.log().wait_event("certificate_replaced");
    assert_eq!(shown_now(&place, &gateway), first_of(&next));
}

#[test]
fn a_signal_has_them_looked_at() {
    let place = Place::new();
    let gateway = place.gateway();
    let next = place.authority.server(&[HOST]);
    install(&gateway, &next);
    let pid = i32::try_from(gateway.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), rustix::process::Signal::HUP).expect("a child");
    gateway.log().wait_event("reloading");
    gateway.log().wait_event("certificate_replaced");
    assert_eq!(shown_now(&place, &gateway), first_of(&next));
}

#[test]
fn what_is_broken_or_written_in_part_leaves_what_is_in_force() {
    let place = Place::new();
    let gateway = place.gateway();
    let next = place.authority.server(&[HOST]);
    let expired = place
        .authority
        .issue(&relay_tests::Leaf::server(&[HOST]).expired());
    let before = first_of(&place.identity);
    for (certificate, key, why) in [
        // The key is still to come.
        (
            next.chain_pem(),
            place.identity.key_pem().to_owned(),
            "is not the key of the certificate",
        ),
        (
            next.chain_pem()[..200].to_owned(),
            next.key_pem().to_owned(),
            "is not whole",
        ),
        (
            String::new(),
            next.key_pem().to_owned(),
            "holds no certificate",
        ),
        (next.chain_pem(), String::new(), "holds no private key"),
        (
            expired.chain_pem(),
            expired.key_pem().to_owned(),
            "has expired",
        ),
    ] {
        replace(&gateway, "gateway.pem", &certificate);
        replace(&gateway, "gateway.key", &key);
        let (status, told) = order(&gateway);
        assert_eq!(status, 422, "{why}: {told}");
        let error = told["refused"][0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{why}: {told}");
        assert_eq!(shown_now(&place, &gateway), before, "{why}");
        assert_eq!(gateway.admin("/ready").status(), 200, "{why}");
    }
    let line = gateway.log().wait_event("certificate_refused");
    assert_eq!(line["level"], "error");
    let secret = place
        .identity
        .key_pem()
        .lines()
        .nth(1)
        .expect("a key in PEM");
    assert!(!gateway.log().text().contains(secret));
    let refused = gateway.metric("relay_tls_reloads_total", &["result=\"refused\""]);
    assert!(refused >= 5.0, "{refused}");
    let file = gateway.directory().join("gateway.pem");
    let file = format!("file=\"{}\"", file.display());
    let is_refused = || gateway.metric("relay_tls_file_refused", &[&file]);
    assert_eq!(is_refused(), 1.0);
    install(&gateway, &next);
    assert_eq!(order(&gateway).0, 200);
    assert_eq!(is_refused(), 0.0);
    assert_eq!(shown_now(&place, &gateway), first_of(&next));
}

#[test]
fn of_several_certificates_one_that_breaks_does_not_hold_up_the_others() {
    let place = Place::new();
    let other = |names: &str| place.authority.server(&[names]);
    let tls = place.tls().certificate("other", &other("other.example"));
    let gateway = Gateway::start(&place.config(tls));
    replace(&gateway, "gateway.key", "");
    let next = other("other.example");
    replace(&gateway, "other.pem", &next.chain_pem());
    replace(&gateway, "other.key", next.key_pem());
    let (status, told) = order(&gateway);
    assert_eq!(status, 422, "{told}");
    assert_eq!(told["replaced"].as_array().map(Vec::len), Some(1), "{told}");
    let client = place.client();
    let wire = client.connect(gateway.address(), "other.example");
    assert_eq!(shown(&wire.expect("a handshake")), first_of(&next));
    assert_eq!(shown_now(&place, &gateway), first_of(&place.identity));
}

#[test]
fn when_a_certificate_ends_can_be_watched() {
    let place = Place::new();
    let gateway = place.gateway();
    let file = format!(
        "file=\"{}\"",
        gateway.directory().join("gateway.pem").display()
    );
    let listener = format!("listener=\"{}\"", gateway.address());
    let left = eventually("the first look", || {
        let left = gateway.metric("relay_tls_certificate_expiry_seconds", &[&file, &listener]);
        (left != 0.0).then_some(left)
    });
    assert!(left > 86_400.0, "{left}");
    let expired = place
        .authority
        .issue(&relay_tests::Leaf::server(&[HOST]).expired());
    let config = place.config(relay_tests::ListenerTls::new(&expired));
    let gateway = Gateway::start(&config);
    eventually("the first look", || {
        let left = gateway.metric("relay_tls_certificate_expiry_seconds", &[]);
        (left < 0.0).then_some(())
    });
}

#[test]
fn orders_are_taken_from_no_web_page() {
    let place = Place::new();
    let gateway = place.gateway();
    let mut client = RawClient::connect(gateway.admin_address());
    client.send("POST /tls/reload HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response().status(), 403);
}
