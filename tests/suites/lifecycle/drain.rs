//! Ending without losing a request.

use relay_tests::config::{Account, Tenant};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{
    Config, Ending, Gateway, RawClient, Request, Signal, Upstream, eventually, openai,
};
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
    assert!(told.contains("gateway_shutting_down"), "{told}");
    let line = gateway.logged("cut");
    assert_eq!(line["ended"], "shutdown", "{line}");
    assert_nobody_is_blamed(&gateway);
    go_on.send();
}

/// As many as block an account that does not answer in time.
const IN_FLIGHT: usize = 3;

#[test]
fn what_has_no_answer_by_then_is_refused_and_no_account_is_blamed() {
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |_| go_on.wait()
    });
    let config = Config::for_upstream(upstream.address())
        .tenant(Tenant::acme())
        .account(Account::first().set("max_concurrent", IN_FLIGHT))
        .timeout("drain", "300ms");
    let mut gateway = Gateway::start(&config);
    let ids = ["asked-1", "asked-2", "asked-3", "queued", "half"];
    let mut clients: Vec<RawClient> = Vec::new();
    for (index, id) in ids.into_iter().enumerate() {
        let bytes = Request::streamed().id(id).bytes();
        let sent_bytes = bytes.len() - if id == "half" { 5 } else { 0 };
        let mut client = gateway.client();
        client.send(&bytes[..sent_bytes]);
        clients.push(client);
        eventually("the request is in flight", || {
            let in_flight = gateway.metric("relay_tenant_requests_in_flight", &[]);
            (in_flight == (index + 1) as f64).then_some(())
        });
    }
    upstream.wait_for("as many as there are places", |record| {
        (record.requests.len() == IN_FLIGHT).then_some(())
    });
    gateway.terminate();
    for client in &mut clients {
        let answer = client.read_response();
        let error = answer.assert_refused(503, "gateway_shutting_down");
        assert!(error.retryable);
        assert_eq!(answer.head.value("connection"), Some("close"));
    }
    gateway.wait_exit();
    for id in ids {
        let line = gateway.logged(id);
        assert_eq!(line["ended"], "shutdown", "{line}");
        assert!(line.get("known").is_none(), "nothing is charged: {line}");
    }
    assert_nobody_is_blamed(&gateway);
    go_on.send();
}

/// Asked when it has ended: whatever it thought of the account by then has been said.
fn assert_nobody_is_blamed(gateway: &Gateway) {
    let lines = gateway.log().lines();
    let told = lines.iter().find(|line| line.event() == "account_state");
    assert!(told.is_none(), "{told:?}");
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
