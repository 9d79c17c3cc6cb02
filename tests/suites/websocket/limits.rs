//! What a tenant may use holds in a WebSocket as it does outside.

use super::{config, provider};
use relay_tests::websocket::{
    ClientSocket, Message, closed, create, created, next, open, respond, response, upgrade,
};
use relay_tests::{Account, Config, Gateway, Request, Tenant, Upstream, eventually};
use serde_json::Value;

fn start(tenant: Tenant) -> (Upstream, Gateway) {
    let upstream = provider(respond);
    let gateway = Gateway::start(&config(upstream.address()).tenant(tenant));
    (upstream, gateway)
}

/// Asks for a response and gets it: the number-th here.
fn ask(socket: &mut ClientSocket, model: &str, number: usize) {
    socket.send(create(model)).expect("an open WebSocket");
    for event in response(&format!("resp_{number}"), 7) {
        assert_eq!(next(socket), Message::text(event));
    }
}

/// The client is told why in the dialect's own form, and then the connection is closed with this code.
/// Returns what stands for the fields of an answer.
fn assert_refused(socket: &mut ClientSocket, status: u16, code: &str, close: u16) -> Value {
    let told = next(socket).into_text().expect("text");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["type"], &told["status"]),
        (&"error".into(), &status.into()),
        "{told}"
    );
    assert_eq!(told["error"]["code"], code, "{told}");
    let (found, reason) = closed(socket).expect("a code");
    assert_eq!(found, close, "{reason}");
    assert!(reason.starts_with(code), "{reason}");
    assert_eq!(told["headers"]["x-relay-error-source"], "gateway", "{told}");
    told["headers"].clone()
}

/// After how many seconds the client is to come again.
fn retry_after(value: Option<&str>) -> u64 {
    let seconds = value.expect("a time to wait");
    seconds.parse().expect("seconds")
}

/// Messages that the provider has got.
fn asked_of(upstream: &Upstream, connection: usize) -> usize {
    upstream.wait_ended(connection);
    let received = upstream.connections()[connection].received.clone();
    // Masked frames of text, none of which is longer than what takes two bytes of length.
    let head_end = received
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let (mut at, mut count) = (head_end, 0);
    while at + 2 <= received.len() {
        let (opcode, length) = (received[at] & 15, usize::from(received[at + 1] & 127));
        count += usize::from(opcode == 1);
        at += 6 + length;
    }
    count
}

#[test]
fn models_are_those_of_the_tenant() {
    let (upstream, gateway) = start(Tenant::acme().models(&["gpt-5*"]));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
    ask(&mut socket, "gpt-5-mini", 2);
    socket.send(create("o9")).unwrap();
    let headers = assert_refused(&mut socket, 403, "model_not_allowed", 1008);
    assert_eq!(headers["x-should-retry"], "false");
    assert_eq!(headers["retry-after"], Value::Null);
    assert_eq!(asked_of(&upstream, 0), 2);
    for (connection, message) in [
        r#"{"type":"response.create","input":"no model"}"#,
        r#"{"type":"response.create","model":"gpt-5","model":"o9"}"#,
        r#"{"type":"response.cancel","type":"response.create","model":5}"#,
        "no JSON",
    ]
    .into_iter()
    .enumerate()
    {
        let (_, mut socket) = open(gateway.address(), &upgrade());
        socket.send(Message::text(message)).unwrap();
        assert_refused(&mut socket, 400, "model_required", 1008);
        assert_eq!(asked_of(&upstream, connection + 1), 0, "{message}");
    }
    // What is not known cannot be checked, whatever model it names.
    for message in [
        r#"{"type":"session.update","model":"gpt-5"}"#,
        r#"{"model":"gpt-5","input":""}"#,
        r#"{"type":"response.cancel","type":"response.create","model":"gpt-5"}"#,
    ] {
        let (_, mut socket) = open(gateway.address(), &upgrade());
        socket.send(Message::text(message)).unwrap();
        assert_refused(&mut socket, 400, "message_not_supported", 1008);
    }
    // Whatever kind of message it is.
    let (_, mut socket) = open(gateway.address(), &upgrade());
    let text = create("o9").into_text().unwrap();
    socket
        .send(Message::binary(text.as_bytes().to_vec()))
        .unwrap();
    assert_refused(&mut socket, 403, "model_not_allowed", 1008);
}

#[test]
fn each_response_counts_as_a_request() {
    let (upstream, gateway) = start(Tenant::acme().limits("requests_per_day = 3"));
    // To open it is one.
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
    socket.send(create("gpt-5")).unwrap();
    for event in response("resp_2", 7) {
        assert_eq!(next(&mut socket), Message::text(event));
    }
    // That was the last one: what it brought has come, and then the connection is closed.
    assert_refused(&mut socket, 429, "tenant_quota_exceeded", 1008);
    assert_eq!(asked_of(&upstream, 0), 2);
    gateway
        .call(&upgrade())
        .assert_refused(429, "tenant_quota_exceeded");
}

#[test]
fn a_rate_that_is_reached_comes_back() {
    let (upstream, gateway) = start(Tenant::acme().limits("requests_per_minute = 2"));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
    socket.send(create("gpt-5")).unwrap();
    let headers = assert_refused(&mut socket, 429, "tenant_rate_limited", 1013);
    assert_eq!(asked_of(&upstream, 0), 1);
    // What an answer would have said, which is refused by the same limit a moment later.
    assert_eq!(headers["x-should-retry"], "true");
    let answer = gateway.call(&upgrade());
    answer.assert_refused(429, "tenant_rate_limited");
    let in_answer = retry_after(answer.head.value("retry-after"));
    let in_event = retry_after(headers["retry-after"].as_str());
    assert!(
        in_answer <= in_event && in_event <= 30,
        "{in_event}, then {in_answer}"
    );
}

#[test]
fn tokens_are_charged_as_they_are_counted_and_end_it() {
    // A response is taken for no more than what it says it may write.
    let (_upstream, gateway) = start(Tenant::acme().limits("tokens_per_day = 60"));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    let small = || {
        Message::text(
            r#"{"type":"response.create","model":"gpt-5","max_output_tokens":1,"input":""}"#,
        )
    };
    let mut number = 0;
    loop {
        number += 1;
        socket.send(small()).unwrap();
        let first = next(&mut socket);
        if first != Message::text(created(&format!("resp_{number}"))) {
            let told: Value = serde_json::from_str(&first.into_text().unwrap()).unwrap();
            assert_eq!(told["error"]["code"], "tenant_quota_exceeded");
            break;
        }
        next(&mut socket);
        next(&mut socket);
    }
    // 18 tokens each, and 21 set aside for each.
    assert_eq!(number, 4, "so many were asked for");
    assert_eq!(closed(&mut socket).map(|(code, _)| code), Some(1008));
}

#[test]
fn shadows_refuse_nothing() {
    let limits = "requests_per_day = 1, tokens_per_day = 5, requests_per_minute = 1, \
        shadow = [\"requests_per_day\", \"tokens_per_day\", \"requests_per_minute\"]";
    let (_upstream, gateway) = start(Tenant::acme().limits(limits));
    let (_, mut socket) = open(gateway.address(), &upgrade().id("shadow"));
    for number in 1..=3 {
        ask(&mut socket, "gpt-5", number);
    }
    let shadowed = gateway.log().wait_for("responses", |lines| {
        let lines = lines.iter().map(|line| &line.json);
        let of_it = lines.filter(|line| line["request_id"] == "shadow" && line["status"] == 200);
        let shadowed: Vec<String> = of_it.map(|line| line["shadowed"].to_string()).collect();
        (shadowed.len() == 3).then_some(shadowed)
    });
    for shadowed in shadowed {
        for limit in ["requests_per_day", "tokens_per_day", "requests_per_minute"] {
            assert!(shadowed.contains(limit), "{shadowed}");
        }
    }
}

#[test]
fn one_is_one_request_in_flight() {
    let (_upstream, gateway) = start(Tenant::acme().limits("concurrent_requests = 1"));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
    gateway
        .call(&Request::plain())
        .assert_refused(429, "tenant_concurrency_exceeded");
    gateway
        .call(&upgrade())
        .assert_refused(429, "tenant_concurrency_exceeded");
    ask(&mut socket, "gpt-5", 2);
    drop(socket);
    eventually("a free place", || {
        let labels = ["tenant=\"acme\""];
        let taken = gateway.metric("relay_tenant_requests_in_flight", &labels);
        (taken == 0.0).then_some(())
    });
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
}

#[test]
fn a_tenant_has_so_many_and_no_more() {
    let upstream = provider(respond);
    let config = config(upstream.address())
        .limit("websockets_per_tenant_max", 2)
        .set("node", "workers", 2)
        .tenant(Tenant::new("other", "rk-other-5d1c"));
    let gateway = Gateway::start(&config);
    let mut sockets: Vec<_> = (0..2)
        .map(|_| open(gateway.address(), &upgrade()).1)
        .collect();
    for _ in 0..4 {
        let answer = gateway.call(&upgrade());
        answer.assert_refused(426, "tenant_websocket_limit");
        assert_eq!(answer.head.value("upgrade"), Some("HTTP/1.1"));
    }
    let (_, mut other) = open(gateway.address(), &upgrade().key("rk-other-5d1c"));
    ask(&mut other, "gpt-5", 1);
    sockets.pop();
    eventually("a free place", || {
        let labels = ["tenant=\"acme\""];
        (gateway.metric("relay_tenant_websockets", &labels) == 1.0).then_some(())
    });
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
}

#[test]
fn an_account_has_one_place_for_each() {
    let upstream = provider(respond);
    let account = |name: &str, egress: &str| Account::new(name, egress).set("max_concurrent", 1);
    let config = Config::for_upstream(upstream.address())
        .account(account("a", "127.0.7.1"))
        .account(account("b", "127.0.7.2"))
        .timeout("queue", "100ms")
        .websocket();
    let gateway = Gateway::start(&config);
    let (_, mut one) = open(gateway.address(), &upgrade());
    let (_, mut other) = open(gateway.address(), &upgrade());
    for number in 1..=2 {
        ask(&mut one, "gpt-5", number);
        ask(&mut other, "gpt-5", number);
    }
    let asked = upstream.requests();
    let key = |index: usize| asked[index].head.value("authorization").map(str::to_owned);
    assert_ne!(key(0), key(1));
    assert_eq!(gateway.call(&upgrade()).status(), 503);
}

#[test]
fn a_response_of_another_tenant_s_cannot_be_gone_on_from() {
    let upstream = provider(respond);
    let config = config(upstream.address()).tenant(Tenant::new("other", "rk-other-5d1c"));
    let gateway = Gateway::start(&config);
    let from = |id: &str| {
        Message::text(format!(
            r#"{{"type":"response.create","model":"gpt-5","previous_response_id":"{id}"}}"#
        ))
    };
    let (_, mut socket) = open(gateway.address(), &upgrade());
    ask(&mut socket, "gpt-5", 1);
    // Of this connection's own.
    socket.send(from("resp_1")).unwrap();
    for event in response("resp_2", 7) {
        assert_eq!(next(&mut socket), Message::text(event));
    }
    let (_, mut other) = open(gateway.address(), &upgrade().key("rk-other-5d1c"));
    other.send(from("resp_2")).unwrap();
    assert_refused(&mut other, 400, "previous_response_not_found", 1008);
    // One that is stored is the tenant's on other connections too.
    let (_, mut later) = open(gateway.address(), &upgrade());
    later.send(from("resp_2")).unwrap();
    for event in response("resp_1", 7) {
        assert_eq!(next(&mut later), Message::text(event));
    }
}
