//! What the operator sees and sets.

use relay_tests::dead_end::Refusing;
use relay_tests::gateway::Launch;
use relay_tests::http::{chunk, find, response};
use relay_tests::{
    Account, Config, Ending, Gateway, RawClient, Request, Signal, Tenant, Upstream, eventually,
    openai,
};
use std::net::{SocketAddr, TcpStream};

#[test]
fn the_admin_address_answers() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let health = gateway.admin("/health");
    assert_eq!(
        (health.status(), &health.json()["status"]),
        (200, &"ok".into())
    );
    assert_eq!(gateway.admin("/ready").status(), 200);
    let version = gateway.admin("/version").json();
    assert!(
        version["version"]
            .as_str()
            .is_some_and(|version| version.contains('.')),
        "{version}"
    );
    let metrics = gateway.admin("/metrics");
    let content_type = metrics.head.value("content-type").unwrap_or_default();
    assert!(
        metrics.status() == 200 && content_type.starts_with("text/plain"),
        "{content_type}"
    );
    assert_eq!(gateway.admin("/v1/responses").status(), 404);
    // Tenants do not reach it through the listener.
    for path in ["/metrics", "/ready", "/version"] {
        let answer = gateway.call(&Request::get(path).without("Authorization"));
        answer.assert_refused(401, "missing_api_key");
    }
}

#[test]
fn the_listener_says_that_it_is_alive() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    for _ in 0..2 {
        let health = client.call(&Request::get("/health").without("Authorization"));
        assert_eq!(health.status(), 200);
        assert_eq!(health.head.value("content-type"), Some("application/json"));
        let body = health.json();
        for member in ["status", "version", "time"] {
            assert!(body[member].is_string(), "{body}");
        }
    }
    let head = client.call(&Request::new("HEAD", "/health").without("Authorization"));
    assert_eq!((head.status(), head.payload.len()), (200, 0));
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn metrics_count_what_happened() {
    let held = Signal::new();
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let (held, go_on) = (held.clone(), go_on.clone());
        move |exchange| match exchange.request.target.as_str() {
            "/v1/error" => drop(exchange.send(openai::error(500, "x", &[]))),
            "/v1/held" => {
                exchange.send(openai::STREAM_HEAD);
                exchange.send(chunk(&openai::delta("a")));
                held.send();
                go_on.wait();
                exchange.close();
            }
            "/v1/responses" => drop(exchange.send(openai::stream(&["a"]))),
            _ => drop(exchange.send(openai::plain())),
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let tenant = "tenant=\"acme\"";
    gateway.call(&Request::streamed());
    gateway.call(&Request::get("/v1/models"));
    gateway.call(&Request::get("/v1/error"));
    gateway.call(&Request::plain().key("rk-unknown"));
    let mut client = gateway.client();
    client.send(Request::post("/v1/held", r#"{"stream":true}"#).bytes());
    held.wait();
    client.begin_response();
    gateway.log().wait_requests(4);
    eventually("the gauges", || {
        let open = gateway.metric("relay_streams_open", &[]);
        let in_flight = gateway.metric("relay_tenant_requests_in_flight", &[tenant]);
        let account = gateway.metric("relay_account_requests_in_flight", &["account=\"first\""]);
        ((open, in_flight, account) == (1.0, 1.0, 1.0)).then_some(())
    });
    go_on.send();
    client.finish_response();
    gateway.log().wait_requests(5);
    let requests = |labels: &[&str]| gateway.metric("relay_requests_total", labels);
    eventually("five requests", || (requests(&[]) == 5.0).then_some(()));
    assert_eq!(
        requests(&[tenant, "route=\"responses\"", "outcome=\"complete\""]),
        1.0
    );
    assert_eq!(requests(&[tenant, "outcome=\"upstream_error\""]), 1.0);
    assert_eq!(requests(&["outcome=\"invalid_api_key\""]), 1.0);
    assert_eq!(
        gateway.metric("relay_streams_total", &["ended=\"complete\""]),
        1.0
    );
    assert_eq!(
        gateway.metric("relay_streams_total", &["ended=\"upstream_broken\""]),
        1.0
    );
    assert_eq!(
        gateway.metric("relay_upstream_failures_total", &["account=\"first\""]),
        1.0
    );
    // What the stream says of itself, and of the one that broke off what follows from its length: 15 bytes and an event. What is
    // asked for with GET has been there before.
    let tokens = |kind| gateway.metric("relay_tokens_total", &[tenant, kind]);
    assert_eq!(
        (tokens("kind=\"input\""), tokens("kind=\"output\"")),
        (11.0 + 4.0, 7.0 + 1.0)
    );
    eventually("nothing in flight", || {
        let open = gateway.metric("relay_streams_open", &[]);
        let in_flight = gateway.metric("relay_tenant_requests_in_flight", &[tenant]);
        (open + in_flight == 0.0).then_some(())
    });
}

#[test]
fn every_log_line_is_one_json_object() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    gateway.call(&Request::plain());
    let odd = "{\"model\":\"a\\n\\\"\u{e4}\\u0000\"}";
    gateway.call(&Request::post("/v1/responses", odd));
    let long = format!(r#"{{"model":"long-{}"}}"#, "x".repeat(5000));
    gateway.call(&Request::post("/v1/responses", long));
    let requests = gateway.log().wait_requests(3);
    let model = requests[2]["model"].as_str().unwrap_or_default();
    assert!(
        model.len() < 300,
        "{} bytes of what a client sent are in the log",
        model.len()
    );
    let metrics = gateway.admin("/metrics").payload;
    assert!(
        find(&metrics, b"long-").is_none(),
        "what a client sent is a label"
    );
    for line in gateway.log().lines() {
        assert!(line.json.is_object(), "{}", line.text);
        assert!(
            line.json["event"].is_string() && line.json["time"].is_string(),
            "{}",
            line.text
        );
    }
}

#[test]
fn the_log_may_go_to_a_file_and_leave_requests_out() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address());
    let gateway = Gateway::start(&config.clone().set("log", "requests", false));
    gateway.call(&Request::plain());
    gateway.terminate();
    gateway.log().wait_event("draining");
    let lines = gateway.log().lines();
    assert!(
        lines.iter().all(|line| line.event() != "request"),
        "{}",
        gateway.log().text()
    );

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("relay.log");
    // The harness learns the addresses from the log, so they are chosen here.
    let [listener, admin] = ["127.0.7.201", "127.0.7.202"].map(|host| {
        let port = Refusing::start().address().port();
        SocketAddr::new(host.parse().expect("an address"), port)
    });
    let config = config
        .set("log", "output", format!("{:?}", file.display().to_string()))
        .set("[listener]", "address", format!("\"{listener}\""))
        .set("admin", "address", format!("\"{admin}\""));
    let _gateway = Launch::new().run(&config);
    eventually("a gateway that listens", || {
        TcpStream::connect(listener).ok()
    });
    assert_eq!(
        RawClient::connect(listener)
            .call(&Request::plain().id("filed"))
            .status(),
        200
    );
    eventually("a line in the file", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines()
            .any(|line| line.contains("\"filed\""))
            .then_some(())
    });
}

/// Streams where a stream is asked for: an event at once, and the last one for a signal.
fn streams_until(finish: &Signal) -> Upstream {
    let finish = finish.clone();
    Upstream::start(move |exchange| {
        if find(&exchange.request.body, b"stream").is_none() {
            exchange.send(openai::plain());
            return;
        }
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("a")));
        finish.wait();
        exchange.send([&chunk(&openai::completed())[..], b"0\r\n\r\n"].concat());
    })
}

/// A client in the middle of a stream that has brought its first event.
fn streaming(gateway: &Gateway) -> RawClient {
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    client.begin_response();
    let first = openai::delta("a");
    assert_eq!(client.read_payload(first.len()), first);
    client
}

/// So many heartbeats come to a client in the middle of a stream.
fn read_beats(client: &mut RawClient, count: usize) {
    let beat = b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";
    for _ in 0..count {
        assert_eq!(client.read_payload(beat.len()), beat);
    }
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let finish = Signal::new();
    let upstream = streams_until(&finish);
    let config = Config::simple(upstream.address())
        .limit("connections_per_worker_max", 2)
        .timeout("heartbeat", "100ms");
    let gateway = Gateway::start(&config);
    let [mut first, mut second] = [streaming(&gateway), streaming(&gateway)];
    let mut third = gateway.client();
    third.send(Request::get("/v1/third").bytes());
    // Those who are in are served as before.
    for client in [&mut first, &mut second] {
        read_beats(client, 3);
    }
    third.assert_silent();
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.target != "/v1/third")
    );
    drop(first);
    assert_eq!(third.read_response().status(), 200);
    finish.send();
    finish.send();
    assert_eq!(second.finish_response().1, Ending::Complete);
}

#[test]
fn idle_connections_are_kept_while_nobody_waits_for_their_places() {
    let go_on = Signal::new();
    let upstream = streams_until(&go_on);
    let config = Config::simple(upstream.address())
        .limit("connections_per_worker_max", 2)
        .timeout("heartbeat", "100ms");
    let gateway = Gateway::start(&config);
    let mut idle = gateway.client();
    assert_eq!(idle.call(&Request::plain()).status(), 200);
    let mut busy = streaming(&gateway);
    // For longer than it takes until idle connections make room.
    read_beats(&mut busy, 3);
    assert_eq!(idle.call(&Request::plain()).status(), 200);
    go_on.send();
    assert_eq!(busy.finish_response().1, Ending::Complete);
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let go_on = Signal::new();
    let upstream = streams_until(&go_on);
    let config = Config::simple(upstream.address()).limit("connections_per_worker_max", 16);
    let gateway = Gateway::start(&config);
    let mut busy = streaming(&gateway);
    let mut idle: Vec<_> = (1..16).map(|_| gateway.client()).collect();
    for client in &mut idle {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    // All places are taken, and nobody leaves.
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    // Who was being served did not have to go for that.
    go_on.send();
    let (payload, _) = busy.finish_response();
    assert_eq!(payload, openai::completed());
    assert_eq!(busy.call(&Request::plain()).status(), 200);
}

#[test]
fn idle_connections_alone_make_room_too() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address()).limit("connections_per_worker_max", 16);
    let gateway = Gateway::start(&config);
    let mut idle: Vec<_> = (0..16).map(|_| gateway.client()).collect();
    for client in &mut idle {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn bodies_beyond_what_may_be_held_are_refused() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address())
        .limit("retry_body_bytes_max", 1_048_576)
        .limit("held_body_bytes_max", 1_048_576);
    let gateway = Gateway::start(&config);
    let body = vec![b' '; 700_000];
    let request = Request::new("POST", "/v1/responses").body(&body);
    let mut half = gateway.client();
    half.send(request.head_bytes());
    half.send(&body[..690_000]);
    eventually("the first body is held", || {
        (gateway.metric("relay_held_body_bytes", &[]) >= 600_000.0).then_some(())
    });
    let mut other = gateway.client();
    other.try_send(request.bytes());
    let error = other
        .read_response()
        .assert_refused(503, "gateway_overloaded");
    assert!(error.retryable);
    drop((half, other));
    eventually("there is room again", || {
        (gateway.call(&request).status() == 200).then_some(())
    });
}

#[test]
fn several_listeners_serve_the_same() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address()).set("node", "workers", 2);
    let gateway = Gateway::start(&config.listener("127.0.0.1:0").listener("127.0.7.203:0"));
    let addresses = gateway.addresses();
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        let mut client = RawClient::connect(address);
        assert_eq!(client.call(&Request::plain()).status(), 200, "{address}");
    }
}

#[test]
fn header_rules_are_the_operators_choice() {
    let answer = response(
        200,
        &[
            ("x-internal", "1"),
            ("x-codex-limit", "2"),
            ("content-type", "text/plain"),
        ],
        b"x",
    );
    let upstream = Upstream::answering(answer.clone());
    let other = Upstream::answering(answer);
    let config = Config::simple(upstream.address())
        .set("headers.request", "allow_also", "[\"x-trace-*\"]")
        .set("headers.request", "remove", "[\"originator\"]")
        .set("headers.request.set", "X-Added", "\"by the operator\"")
        .set("headers.response", "allow_also", "[\"x-internal\"]")
        .set("headers.response", "remove", "[\"x-codex-limit\"]")
        .upstream("other", &format!("http://{}", other.address()))
        .upstream_key("other", "headers.request.remove", "[\"x-trace-id\"]")
        .upstream_key(
            "other",
            "headers.request.set",
            "{ x-added = \"for the other\" }",
        )
        .account(Account::new("second", "127.0.7.2").upstream("other"))
        .tenant(Tenant::new("beta", "rk-beta-0123456789").upstreams(&["other"]));
    let gateway = Gateway::start(&config);
    let request = Request::plain()
        .field("X-Trace-Id", "1")
        .field("X-Other", "2")
        .field("Originator", "3")
        .field("x-added", "4")
        .field("Version", "5");
    let answer = gateway.call(&request);
    assert_eq!(answer.head.value("x-internal"), Some("1"));
    assert_eq!(answer.head.value("x-codex-limit"), None);
    gateway.call(&request.key("rk-beta-0123456789"));
    let heads = [upstream.only_request().head, other.only_request().head];
    let values = |name: &str| [heads[0].value(name), heads[1].value(name)];
    assert_eq!(values("x-trace-id"), [Some("1"), None]);
    assert_eq!(values("x-other"), [None, None]);
    assert_eq!(values("originator"), [None, None]);
    assert_eq!(
        values("x-added"),
        [Some("by the operator"), Some("for the other")]
    );
    assert_eq!(values("version"), [Some("5"), Some("5")]);
}
