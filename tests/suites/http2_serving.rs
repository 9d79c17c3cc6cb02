//! Tenants over HTTP/2: what they are served is what they are served over HTTP/1.1, stream by stream.

use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::http2::{Frame, Peer, code, setting};
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, Wire, eventually, openai};
use std::time::Duration;

/// More than all windows and buffers on the way hold.
const LARGE_BYTES: usize = 3 * 1024 * 1024;

fn config(upstream: &Upstream) -> Config {
    Config::simple(upstream.address()).http2(true)
}

fn connect(gateway: &Gateway) -> Peer {
    Peer::client(Wire::connect(gateway.address()))
}

/// The beginning of a stream, up to the first output: what comes before that is held back for a while.
fn begun() -> Vec<u8> {
    [openai::created(), openai::delta("begun")].concat()
}

/// An upstream that begins a stream, and sends one more event each time the signal comes.
fn paced(texts: &'static [&'static str], go_on: &Signal) -> Upstream {
    let go_on = go_on.clone();
    Upstream::start(move |exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&begun()));
        for text in texts {
            go_on.wait();
            exchange.send(chunk(&openai::delta(text)));
        }
        go_on.wait();
        exchange.send([&chunk(&openai::completed()), LAST_CHUNK].concat());
    })
}

/// An upstream that begins a stream, and waits until nobody wants it any more.
fn waiting() -> Upstream {
    Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&begun()));
        exchange.wait_closed();
    })
}

#[test]
fn a_plain_answer() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    for _ in 0..3 {
        let answer = client.call(&Request::plain().id("mine"));
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert_eq!(answer.payload, openai::PLAIN_BODY);
        assert_eq!(answer.head.value("x-request-id"), Some("mine"));
        for absent in ["connection", "keep-alive", "transfer-encoding"] {
            assert_eq!(answer.head.value(absent), None);
        }
    }
    let counted = "relay_client_connections_by_protocol_total";
    assert_eq!(
        gateway.metric(counted, &["protocol=\"http2\"", "tls=\"false\""]),
        1.0
    );
}

#[test]
fn both_protocols_on_one_listener_and_only_where_it_is_allowed() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream));
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    assert_eq!(connect(&gateway).call(&Request::plain()).status(), 200);

    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    client.send(relay_tests::http2::PREFACE);
    let refused = client.read_response();
    assert!(refused.status() >= 400, "{}", refused.status());
    client.assert_closed();
}

#[test]
fn each_event_arrives_before_the_next_one_is_sent() {
    let go_on = Signal::new();
    let texts = &["one", "two", "three"];
    let upstream = paced(texts, &go_on);
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let stream = client.request(&Request::streamed());
    assert_eq!(client.begin_response(stream).status(), 200);
    let mut event = begun();
    for next in texts {
        assert_eq!(client.read_payload(stream, event.len()), event);
        event = openai::delta(next);
        go_on.send();
    }
    assert_eq!(client.read_payload(stream, event.len()), event);
    go_on.send();
    let rest = client.finish_response(stream);
    assert_eq!(rest, (openai::completed(), Ending::Complete));
}

#[test]
fn large_bodies_in_both_directions() {
    let upstream = Upstream::start(|exchange| {
        let body = exchange.request.body.clone();
        exchange.send(response(
            200,
            &[("content-type", "application/json")],
            &body,
        ));
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let body: Vec<u8> = (0..LARGE_BYTES).map(|at| b'a' + (at % 23) as u8).collect();
    let answer = client.call(&Request::post("/v1/responses", &body));
    assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    assert!(answer.payload == body, "{} bytes", answer.payload.len());
}

#[test]
fn an_answer_that_breaks_off_is_reset_behind_what_came_of_it() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::created()));
        exchange.send(chunk(&openai::delta("a")));
        exchange.reset();
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let stream = client.request(&Request::streamed());
    assert_eq!(client.begin_response(stream).status(), 200);
    let (payload, ending) = client.finish_response(stream);
    assert_ne!(ending, Ending::Complete);
    let begun = [openai::created(), openai::delta("a")].concat();
    assert!(
        payload.starts_with(&begun),
        "{}",
        String::from_utf8_lossy(&payload)
    );
    // It is told why before it is cut off.
    let rest = String::from_utf8_lossy(&payload[begun.len()..]);
    assert!(rest.contains("upstream_stream_incomplete"), "{rest}");
    client.expect_reset(stream, &[code::INTERNAL_ERROR]);
    client.expect_alive();
}

#[test]
fn a_client_that_resets_its_stream_ends_what_is_done_for_it() {
    let upstream = waiting();
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let stream = client.request(&Request::streamed().id("left"));
    client.begin_response(stream);
    client.read_payload(stream, begun().len());
    client.cancel(stream);
    upstream.wait_ended(0);
    assert_eq!(gateway.logged("left")["ended"], "client_gone");
    client.expect_alive();
}

#[test]
fn a_client_that_leaves_ends_all_its_streams() {
    let upstream = waiting();
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let streams = [(); 3].map(|()| client.request(&Request::streamed()));
    for stream in streams {
        client.begin_response(stream);
    }
    drop(client);
    for index in 0..streams.len() {
        upstream.wait_ended(index);
    }
}

#[test]
fn a_hundred_streams_at_a_time() {
    let upstream = Upstream::start(|exchange| {
        let body = exchange.request.body.clone();
        exchange.send(response(
            200,
            &[("content-type", "application/json")],
            &body,
        ));
    });
    let account = relay_tests::Account::first().set("max_concurrent", 200);
    let config = Config::for_upstream(upstream.address()).account(account);
    let gateway = Gateway::start(&config.http2(true));
    let mut client = connect(&gateway);
    let body = |number: usize| format!("{{\"model\":\"gpt-5\",\"input\":\"{number}\"}}");
    let streams: Vec<u32> = (0..100)
        .map(|number| client.request(&Request::post("/v1/responses", body(number))))
        .collect();
    for (number, stream) in streams.into_iter().enumerate() {
        let answer = client.response(stream);
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        assert_eq!(answer.payload, body(number).as_bytes());
    }
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other() {
    let upstream = Upstream::start(|exchange| {
        if exchange.request.target == "/v1/large" {
            let body = vec![b'x'; LARGE_BYTES];
            exchange.send(response(
                200,
                &[("content-type", "application/json")],
                &body,
            ));
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    // So that the stream's own window is what holds it up, and not the connection's.
    client.give_credit(0, 1 << 24);
    client.gives_credit(false);
    let large = client.request(&Request::get("/v1/large"));
    client.begin_response(large);
    client.wait("the window is used up", |client| {
        (client.incoming(large).body_bytes == 65_535).then_some(())
    });
    for _ in 0..10 {
        let answer = client.call(&Request::plain());
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    }
    assert_eq!(client.incoming(large).body_bytes, 65_535);
    client.give_credit(large, 1 << 24);
    let (payload, ending) = client.finish_response(large);
    assert_eq!((payload.len(), ending), (LARGE_BYTES, Ending::Complete));
}

#[test]
fn a_window_that_never_opens_ends_its_stream_and_what_is_done_for_it() {
    for answer in [
        response(
            200,
            &[("content-type", "application/json")],
            &[b'x'; LARGE_BYTES],
        ),
        // So short that the gateway is done with it but for the window.
        openai::plain(),
    ] {
        let upstream = Upstream::answering(answer);
        let gateway = Gateway::start(&config(&upstream).timeout("write_stall", "300ms"));
        let wire = Wire::connect(gateway.address());
        let mut client = Peer::client_with(wire, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        let stream = client.request(&Request::plain().id("stalled"));
        client.expect_reset(stream, &[code::CANCEL, code::INTERNAL_ERROR]);
        assert_eq!(gateway.logged("stalled")["ended"], "client_stalled");
        client.expect_alive();
    }
}

#[test]
fn refusals_are_the_same_as_ever() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&config(&upstream).limit("head_fields_max", 20));
    let mut client = connect(&gateway);
    let many = (0..30).fold(Request::plain(), |request, number| {
        request.field(&format!("x-field-{number}"), "value")
    });
    client
        .call(&many)
        .assert_refused(431, "header_fields_too_large");
    let long = Request::get(&format!("/v1/{}", "x".repeat(5000)));
    client.call(&long).assert_refused(414, "target_too_long");
    let unknown = Request::plain().key("nobody");
    client.call(&unknown).assert_refused(401, "invalid_api_key");
    let other = Request::new("BREW", "/v1/pot");
    client
        .call(&other)
        .assert_refused(405, "method_not_allowed");
    client.expect_alive();
}

#[test]
fn a_head_may_have_as_many_bytes_in_both_protocols_and_one_more_is_refused_in_the_same_words() {
    const HEAD_BYTES_MAX: usize = 32 * 1024;
    // So many fields that what they count besides their names and values (RFC 9113, section 6.5.2) is a part of the whole.
    let many = (0..90).fold(Request::plain(), |request, number| {
        request.field(&format!("x-field-{number}"), "value")
    });
    let of_bytes = |request: &Request, head_bytes: usize| {
        let others_bytes = request.head_bytes().len() + "x-fill: \r\n".len();
        let filling = "x".repeat(head_bytes - others_bytes);
        request.clone().field("x-fill", &filling)
    };
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    for request in [&Request::plain(), &many] {
        let largest = of_bytes(request, HEAD_BYTES_MAX);
        for answer in [gateway.call(&largest), client.call(&largest)] {
            assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
        }
        for head_bytes in [HEAD_BYTES_MAX + 1, 4 * HEAD_BYTES_MAX / 3] {
            let larger = of_bytes(request, head_bytes).id("larger");
            for answer in [gateway.call(&larger), client.call(&larger)] {
                let error = answer.assert_refused(431, "header_fields_too_large");
                assert!(!error.retryable);
            }
        }
    }
    // Those that are much larger are not even decoded.
    let much_larger = client.call(&of_bytes(&many, 2 * HEAD_BYTES_MAX));
    assert_eq!((much_larger.status(), much_larger.payload.len()), (431, 0));
    client.expect_alive();
}

#[test]
fn while_the_gateway_drains_streams_that_run_come_to_their_end() {
    let go_on = Signal::new();
    let upstream = paced(&["one"], &go_on);
    let gateway = Gateway::start(&config(&upstream));
    let mut client = connect(&gateway);
    let mut idle = connect(&gateway);
    let stream = client.request(&Request::streamed());
    client.begin_response(stream);
    gateway.terminate();
    // Both are told; the one that has nothing to wait for is closed.
    idle.expect_goaway(&[code::NO_ERROR]);
    client.wait("a warning", |client| client.goaways().first().copied());
    go_on.send();
    go_on.send();
    let (payload, ending) = client.finish_response(stream);
    assert_eq!(ending, Ending::Complete);
    let whole = [begun(), openai::delta("one"), openai::completed()].concat();
    assert_eq!(payload, whole);
    client.expect_closed();
    gateway.stop();
}

#[test]
fn an_idle_connection_is_told_goodbye_and_a_head_that_never_ends_is_not_waited_for() {
    let upstream = Upstream::answering(openai::plain());
    let config = config(&upstream);
    let gateway = Gateway::start(&config.timeout("keep_alive_idle", "300ms"));
    let mut client = connect(&gateway);
    assert_eq!(client.call(&Request::plain()).status(), 200);
    // Pings are no use.
    client.frame(&Frame::ping([1; 8]));
    client.expect_goaway(&[code::NO_ERROR]);

    let gateway = Gateway::start(&self::config(&upstream).timeout("request_head", "300ms"));
    let mut client = connect(&gateway);
    assert_eq!(client.call(&Request::plain()).status(), 200);
    let stream = client.next_stream();
    client.frame(&Frame::begin_headers(stream, *b"", false));
    client.expect_goaway(&[code::ENHANCE_YOUR_CALM]);
}

#[test]
fn silence_before_the_preface_is_not_waited_for() {
    let upstream = Upstream::untouched();
    let gateway = Gateway::start(&config(&upstream).timeout("request_head", "300ms"));
    let mut client = Peer::silent_client(Wire::connect(gateway.address()));
    client.be_patient(Duration::from_secs(60));
    client.send(&relay_tests::http2::PREFACE[..20]);
    client.expect_closed();
    eventually("nothing is left of it", || {
        (gateway.metric("relay_client_connections", &[]) == 0.0).then_some(())
    });
}
