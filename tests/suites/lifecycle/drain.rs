//! Ending without losing a request.

use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, eventually, openai};
use std::net::TcpStream;

/// An upstream that holds every stream after its first event until the signal comes.
fn holding(go_on: &Signal) -> Upstream {
    let go_on = go_on.clone();
    Upstream::start(move |exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("a")));
        go_on.wait();
        exchange.send(chunk(&openai::completed()));
        exchange.send(LAST_CHUNK);
    })
}

#[test]
fn without_anything_to_serve_it_ends_at_once() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()).set("node", "workers", 2));
    let mut idle = gateway.client();
    assert_eq!(idle.call(&Request::plain()).status(), 200);
    gateway.stop();
    idle.assert_closed();
}

#[test]
fn an_open_stream_is_served_to_its_end() {
    let go_on = Signal::new();
    let upstream = holding(&go_on);
    let mut gateway = Gateway::start(&Config::simple(upstream.address()).set("node", "workers", 2));
    let mut client = gateway.client();
    client.send(Request::streamed().id("open").bytes());
    assert_eq!(client.begin_response().status(), 200);
    assert_eq!(
        client.read_payload(openai::delta("a").len()),
        openai::delta("a")
    );
    let mut idle = gateway.client();
    idle.call(&Request::get("/health"));

    gateway.terminate();
    gateway.log().wait_event("draining");
    idle.assert_closed();
    assert_nobody_listens(&gateway);
    let ready = gateway.admin("/ready");
    assert_eq!(ready.status(), 503, "{}", ready.json());
    assert_eq!(gateway.admin("/health").status(), 200);

    go_on.send();
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );
    client.assert_closed();
    let status = gateway.wait_exit();
    assert!(status.success(), "{status}");
    // The last lines were written.
    assert_eq!(gateway.logged("open")["ended"], "complete");
}

/// New connections are refused, or closed without an answer.
fn assert_nobody_listens(gateway: &Gateway) {
    eventually("nobody listens", || {
        match TcpStream::connect(gateway.address()) {
            Err(_) => Some(()),
            Ok(stream) => {
                drop(stream);
                None
            }
        }
    });
}

#[test]
fn a_request_that_is_on_its_way_is_answered() {
    let reached = Signal::new();
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let (reached, go_on) = (reached.clone(), go_on.clone());
        move |exchange| {
            reached.send();
            go_on.wait();
            exchange.send(openai::plain());
        }
    });
    let mut gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    client.send(Request::plain().bytes());
    reached.wait();
    gateway.terminate();
    gateway.log().wait_event("draining");
    go_on.send();
    let answer = client.read_response();
    assert_eq!(
        (answer.status(), answer.payload.as_slice()),
        (200, openai::PLAIN_BODY)
    );
    client.assert_closed();
    assert!(gateway.wait_exit().success());
}

#[test]
fn a_body_that_is_still_coming_is_served_too() {
    let upstream = Upstream::answering(openai::plain());
    let mut gateway = Gateway::start(&Config::simple(upstream.address()));
    let request = Request::plain();
    let bytes = request.bytes();
    let mut client = gateway.client();
    client.send(&bytes[..bytes.len() - 5]);
    // Its head was read, so it is in flight.
    eventually("the request is in flight", || {
        (gateway.metric("relay_tenant_requests_in_flight", &[]) == 1.0).then_some(())
    });
    gateway.terminate();
    // The worker has heard of it when it does not listen any more.
    assert_nobody_listens(&gateway);
    client.send(&bytes[bytes.len() - 5..]);
    let answer = client.read_response();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.value("connection"), Some("close"));
    client.assert_closed();
    assert!(gateway.wait_exit().success());
}

#[test]
fn what_does_not_end_in_time_is_cut_and_seen_to_be() {
    let go_on = Signal::new();
    let upstream = holding(&go_on);
    let mut gateway = Gateway::start(&Config::simple(upstream.address()).timeout("drain", "300ms"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("cut").bytes());
    client.begin_response();
    client.read_payload(openai::delta("a").len());
    gateway.terminate();
    gateway.wait_exit();
    let (rest, ending) = client.finish_response();
    assert_eq!(ending, Ending::Truncated);
    // The client is told, and the request has its record.
    let told = String::from_utf8(rest).expect("an event");
    assert!(told.starts_with("event: error\n"), "{told}");
    let line = gateway.logged("cut");
    assert_eq!(line["ended"], "deadline", "{line}");
    go_on.send();
}

#[test]
fn a_second_signal_does_no_harm() {
    let go_on = Signal::new();
    let upstream = holding(&go_on);
    let mut gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    client.begin_response();
    client.read_payload(openai::delta("a").len());
    gateway.terminate();
    gateway.log().wait_event("draining");
    gateway.terminate();
    go_on.send();
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );
    assert!(gateway.wait_exit().success());
}
