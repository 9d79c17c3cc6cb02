//! Bodies that are held back until asked for, and answers that do not wait for them.

use relay_tests::http::response;
use relay_tests::{Config, Gateway, Request, Signal, Upstream, openai};

#[test]
fn the_gateway_asks_for_the_body_itself() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    for value in ["100-continue", "100-Continue"] {
        let request = Request::plain().field("Expect", value);
        client.send(request.head_bytes());
        let head = client.begin_response();
        assert_eq!(head.status(), 100);
        assert_eq!(client.finish_response().0, b"");
        client.send(request.body_bytes());
        assert_eq!(client.read_response().status(), 200);
    }
    // One that does not wait is served too.
    client.send(Request::plain().field("Expect", "100-continue").bytes());
    let mut answer = client.read_response();
    if answer.status() == 100 {
        answer = client.read_response();
    }
    assert_eq!(answer.status(), 200);
    for request in upstream.requests() {
        assert_eq!(request.head.value("expect"), None);
        assert_eq!(request.body, Request::plain().body_bytes());
    }
}

#[test]
fn a_chunked_body_is_asked_for_too() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let request = Request::new("POST", "/v1/responses").chunked(&[br#"{"model":"gpt-5"}"#]);
    let request = request.field("Expect", "100-continue");
    let mut client = gateway.client();
    client.send(request.head_bytes());
    assert_eq!(client.read_response().status(), 100);
    client.send(request.body_bytes());
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(upstream.only_request().body, br#"{"model":"gpt-5"}"#);
}

#[test]
fn nobody_is_asked_for_a_body_that_will_be_refused() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let request = Request::plain()
        .field("Expect", "100-continue")
        .key("rk-unknown");
    let mut client = gateway.client();
    client.send(request.head_bytes());
    client
        .read_response()
        .assert_refused(401, "invalid_api_key");
    let large = Request::new("POST", "/v1/responses").field("Content-Length", "99999999999");
    let mut client = gateway.client();
    client.send(large.field("Expect", "100-continue").head_bytes());
    client
        .read_response()
        .assert_refused(413, "request_too_large");
    client.assert_closed();
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn http_1_0_is_never_told_to_continue() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    client.send(
        Request::plain()
            .http10()
            .field("Expect", "100-continue")
            .bytes(),
    );
    assert_eq!(client.read_response().status(), 200);
    client.assert_closed();
}

/// A body too large to be kept for another attempt, so that it is passed on as it comes.
fn large(total_bytes: usize) -> Vec<u8> {
    let mut body = br#"{"model":"gpt-5","input":""#.to_vec();
    body.resize(total_bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let answered = Signal::new();
    let upstream = Upstream::start_at_head({
        let answered = answered.clone();
        move |exchange| {
            exchange.send(response(
                400,
                &[("content-type", "application/json")],
                br#"{"error":{}}"#,
            ));
            answered.send();
            exchange.wait_closed();
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let body = large(8 * 1024 * 1024);
    let request = Request::post("/v1/responses", &body);
    let mut client = gateway.client();
    client.send(request.head_bytes());
    client.send(&body[..2 * 1024 * 1024]);
    answered.wait();
    let answer = client.read_response();
    assert_eq!(
        (answer.status(), answer.payload.as_slice()),
        (400, &br#"{"error":{}}"#[..])
    );
    assert_eq!(answer.head.value("x-relay-error-source"), Some("upstream"));
    // Six more MiB are more than is read for nothing.
    client.try_send(&body[2 * 1024 * 1024..]);
    client.assert_closed();
    // The upstream's connection is in the middle of a request: nothing else may go there.
    upstream.wait_ended(0);
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn a_client_may_go_on_after_an_early_answer_to_nearly_all_of_its_body() {
    let head_seen = Signal::new();
    let upstream = Upstream::start_at_head({
        let head_seen = head_seen.clone();
        move |exchange| {
            if exchange.request.number == 0 {
                head_seen.send();
                exchange.send(response(400, &[], b"early"));
                return;
            }
            exchange.read_body();
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let body = large(2 * 1024 * 1024);
    let request = Request::post("/v1/responses", &body);
    let split = body.len() - 30_000;
    let mut client = gateway.client();
    client.send(request.head_bytes());
    client.send(&body[..split]);
    head_seen.wait();
    let answer = client.read_response();
    assert_eq!(
        (answer.status(), answer.payload.as_slice()),
        (400, &b"early"[..])
    );
    if answer.head.value("connection") == Some("close") {
        client.try_send(&body[split..]);
        client.assert_closed();
    } else {
        client.send(&body[split..]);
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    // Either way the rest of the body was not taken for a request.
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    assert!(upstream.requests().iter().all(|request| {
        request.body == body
            || request.body == Request::plain().body_bytes()
            || request.body.is_empty()
    }));
}
