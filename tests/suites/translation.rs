//! One request over HTTP/1.1 and over HTTP/2: the provider cannot tell which, and the client gets the same answer. What HTTP/1.1 could
//! misread arrives as nothing. One thing differs: a fragment in the target, which HTTP/1.1 refuses, has been cut off by the library that
//! decodes `:path`.

use relay_tests::config::TENANT_KEY;
use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::http2::hpack::{block, literal};
use relay_tests::http2::{Frame, Peer, code, setting};
use relay_tests::upstream::Received;
use relay_tests::{
    Config, Ending, Gateway, Request, Response, Signal, Tenant, Upstream, Wire, openai,
};

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&Config::simple(upstream.address()).http2(true))
}

fn peer(gateway: &Gateway) -> Peer {
    Peer::client(Wire::connect(gateway.address()))
}

/// The head as the provider got it. Names keep the case that the client gave them, and HTTP/2 has but one.
fn head(received: &Received) -> String {
    let mut lines = vec![received.head.start_line.clone()];
    for (name, value) in &received.head.fields {
        let name = name.to_ascii_lowercase();
        lines.push(format!("{name}: {}", value.escape_ascii()));
    }
    lines.join("\n")
}

/// The answer as the client got it, likewise. Field names come in small letters in HTTP/2.
fn answer(response: &Response) -> String {
    let mut lines = vec![
        response.status().to_string(),
        format!("{:?}", response.ending),
    ];
    for (name, value) in &response.head.fields {
        let name = name.to_ascii_lowercase();
        // Framing is what differs; identity and time are told apart by every two requests.
        let differs = ["connection", "keep-alive", "transfer-encoding", "date"];
        let is_of_one = ["x-request-id", "x-relay-request-id", "x-relay-overhead-us"];
        if differs.contains(&name.as_str()) || is_of_one.contains(&name.as_str()) {
            continue;
        }
        lines.push(format!("{name}: {}", value.escape_ascii()));
    }
    let id = response.head.value("x-request-id").unwrap_or("none");
    let body = String::from_utf8_lossy(&response.payload);
    lines.push(body.replace(id, "ID"));
    lines.join("\n")
}

/// Sends the request both ways, and compares; says how often the provider was asked.
fn assert_same(gateway: &Gateway, upstream: &Upstream, name: &str, request: &Request) -> usize {
    let before = upstream.requests().len();
    let one = gateway.call(request);
    let two = peer(gateway).call(request);
    assert_eq!(answer(&one), answer(&two), "{name}: answers");
    let requests = upstream.requests();
    match &requests[before..] {
        [] => 0,
        [one, two] => {
            assert_eq!(head(one), head(two), "{name}: heads");
            assert_eq!(one.body, two.body, "{name}: bodies");
            2
        }
        other => panic!("{name}: {} requests", other.len()),
    }
}

#[test]
fn requests_are_the_same_to_the_provider() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    let large = format!(r#"{{"model":"gpt-5","input":"{}"}}"#, "x".repeat(300_000));
    let pieces: [&[u8]; 2] = [br#"{"model":"gpt-5","#, br#""input":"hi"}"#];
    let requests = [
        ("plain", Request::plain()),
        ("get", Request::get("/v1/models")),
        (
            "a query",
            Request::get("/v1/models?after=%2F&x=a+b;c=%C3%A4&&"),
        ),
        ("odd paths", Request::get("/v1/a%20b/%C3%A4;p=1/c,d=e?//x?")),
        ("delete", Request::new("DELETE", "/v1/responses/resp_1")),
        (
            "no body",
            Request::new("POST", "/v1/responses/resp_1/cancel").body(""),
        ),
        ("large", Request::post("/v1/responses", large)),
        (
            "of no known length",
            Request::new("POST", "/v1/responses").chunked(&pieces),
        ),
        ("every field of codex", codex()),
        (
            "fields twice",
            Request::plain()
                .field("x-codex-list", "1")
                .field("x-codex-list", "2"),
        ),
        (
            "an empty field",
            Request::plain().field("x-codex-empty", ""),
        ),
        (
            "what stops",
            Request::plain()
                .field("x-forwarded-for", "1.2.3.4")
                .field("cookie", "a=b"),
        ),
        (
            "key in another field",
            Request::plain()
                .without("authorization")
                .field("x-api-key", TENANT_KEY),
        ),
    ];
    for (name, request) in &requests {
        assert_eq!(assert_same(&gateway, &upstream, name, request), 2, "{name}");
    }
}

fn codex() -> Request {
    Request::streamed()
        .field("originator", "codex_cli_rs")
        .field(
            "user-agent",
            "codex_cli_rs/0.169.0 (Debian 13; x86_64) xterm-256color",
        )
        .field("session-id", "0199e1a2-7b3c-7d4e-8f90-a1b2c3d4e5f6")
        .field("session_id", "0199e1a2-7b3c-7d4e-8f90-a1b2c3d4e5f6")
        .field("x-codex-turn-metadata", r#"{"turn_id":"1","cwd":"/x y"}"#)
        .field("x-codex-anything-new", "\u{e4}\u{20ac}")
        .field("openai-beta", "responses=experimental, other=v2")
        .field("accept", "text/event-stream")
}

#[test]
fn answers_are_the_same_to_the_client() {
    let fields: &[(&str, &str)] = &[
        ("content-type", "application/json"),
        ("x-request-id", "provider-1"),
        ("retry-after-ms", "10"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("openai-processing-ms", "3"),
        ("x-codex-primary-used-percent", "50"),
        ("set-cookie", "a=b"),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
    ];
    let long = vec![b'x'; 200_000];
    let chunked =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    let answers: Vec<Vec<u8>> = vec![
        openai::plain(),
        response(200, fields, b"{}"),
        response(200, &[], &long),
        response(200, &[("content-type", "text/plain")], b""),
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        openai::error(400, "invalid_prompt", &[]),
        openai::error(404, "not_found", fields),
        response(418, &[("content-type", "text/plain")], b"teapot"),
        openai::stream(&["a", "b", "c"]),
        [&chunked[..], &chunk(&long), &chunk(b"end"), LAST_CHUNK].concat(),
        [
            &chunked[..],
            &chunk(b"with trailers"),
            b"0\r\nx-trailer: 1\r\n\r\n",
        ]
        .concat(),
        [
            &b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"[..],
            &openai::plain(),
        ]
        .concat(),
    ];
    let script = answers.clone();
    let upstream = Upstream::start(move |exchange| {
        let number = exchange.request.target.rsplit('/').next();
        let number: usize = number.and_then(|text| text.parse().ok()).expect("a number");
        exchange.send(&script[number]);
    });
    let gateway = gateway(&upstream);
    for number in 0..answers.len() {
        let request = Request::get(&format!("/v1/answers/{number}"));
        let name = format!("answer {number}");
        assert_eq!(
            assert_same(&gateway, &upstream, &name, &request),
            2,
            "{name}"
        );
    }
}

#[test]
fn refusals_are_the_same() {
    let upstream = Upstream::answering(openai::plain());
    let tenant = Tenant::acme().models(&["gpt-5"]);
    let config = Config::simple(upstream.address())
        .http2(true)
        .tenant(tenant);
    let gateway = Gateway::start(
        &config
            .limit("body_bytes_max", 100_000)
            .limit("retry_body_bytes_max", 50_000),
    );
    let many = (0..150).fold(Request::plain(), |request, number| {
        request.field(&format!("x-codex-{number}"), "1")
    });
    let requests = [
        ("no key", Request::plain().without("authorization")),
        ("unknown key", Request::plain().key("nobody")),
        (
            "another model",
            Request::post("/v1/responses", r#"{"model":"gpt-4"}"#),
        ),
        ("not JSON", Request::post("/v1/responses", "nothing")),
        (
            "too large",
            Request::post("/v1/responses", "x".repeat(100_001)),
        ),
        ("a method of nobody", Request::new("BREW", "/v1/responses")),
        ("TRACE", Request::new("TRACE", "/v1/responses")),
        ("a path that climbs", Request::get("/v1/a/../b")),
        (
            "too long",
            Request::get(&format!("/v1/{}", "x".repeat(9000))),
        ),
        ("too many fields", many),
        (
            "an expectation",
            Request::plain().field("expect", "the unexpected"),
        ),
    ];
    for (name, request) in &requests {
        assert_eq!(assert_same(&gateway, &upstream, name, request), 0, "{name}");
    }
}

#[test]
fn a_stream_passes_event_by_event() {
    let (sent, read) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (sent, read) = (sent.clone(), read.clone());
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            for text in ["a", "b", "c"] {
                exchange.send(chunk(&openai::delta(text)));
                sent.send();
                read.wait();
            }
            exchange.send(chunk(&openai::completed()));
            exchange.send(LAST_CHUNK);
        }
    });
    let gateway = gateway(&upstream);
    let mut peer = peer(&gateway);
    let stream = peer.request(&Request::streamed());
    for text in ["a", "b", "c"] {
        sent.wait();
        let event = openai::delta(text);
        assert_eq!(peer.read_payload(stream, event.len()), event);
        read.send();
    }
    let rest = peer.finish_response(stream);
    assert_eq!(rest, (openai::completed(), Ending::Complete));
}

#[test]
fn a_broken_stream_is_reset_and_a_refused_one_is_not() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        exchange.send(chunk(&openai::delta("a")));
        exchange.reset();
    });
    let gateway = gateway(&upstream);
    let mut peer = peer(&gateway);
    let stream = peer.request(&Request::streamed());
    let broken = peer.response(stream);
    assert_eq!((broken.status(), broken.ending), (200, Ending::Truncated));
    assert!(broken.payload.starts_with(&openai::delta("a")));
    let one = gateway.call(&Request::streamed());
    assert_eq!(one.ending, Ending::Truncated);
    let reset = peer.incoming(stream).reset;
    assert!(
        reset.is_some_and(|reset| reset != code::NO_ERROR),
        "{reset:?}"
    );
    // The connection serves on.
    peer.expect_alive();
    let refused = peer.call(&Request::plain().key("nobody"));
    refused.assert_refused(401, "invalid_api_key");
}

/// RFC 9113, section 8.2.3: a client may cut its cookie into crumbs. None of them reaches the provider, and however many there are, they
/// count as fields.
#[test]
fn crumbs_of_cookies_stop_like_cookies() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    let crumbs = Request::plain()
        .field("cookie", "a=1")
        .field("cookie", "b=2")
        .field("cookie", "");
    assert_eq!(peer(&gateway).call(&crumbs).status(), 200);
    assert!(upstream.only_request().head.values("cookie").is_empty());
}

/// Bytes that would end a line, a head or a body of HTTP/1.1, wherever HTTP/2 lets a client write them.
#[test]
fn nothing_is_smuggled() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    let second = "GET /v1/smuggled HTTP/1.1\r\nhost: gateway.test\r\n\r\n";
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let good: Vec<(&str, String)> = vec![
        (":method", "POST".to_owned()),
        (":scheme", "http".to_owned()),
        (":path", "/v1/responses".to_owned()),
        (":authority", "gateway.test".to_owned()),
        ("authorization", format!("Bearer {TENANT_KEY}")),
        ("originator", "x".to_owned()),
    ];
    for place in 0..good.len() {
        for ending in [
            "\r\n",
            "\n",
            "\r",
            "\0",
            " ",
            "\r\n\r\n",
            "\r\nx-codex-smuggled: 1",
        ] {
            for behind in ["", second] {
                let mut fields = good.clone();
                let value = format!("{}{ending}{behind}", fields[place].1);
                fields[place].1 = value;
                blocks.push(block(&fields));
            }
        }
    }
    let names: [&[u8]; 6] = [
        b"x-codex: smuggled\r\nx-codex-a",
        b"x-codex-a\r\n",
        b"x-codex-a ",
        b"x-codex-a:",
        b"x-codex-a\0",
        b"\r\n\r\nget /v1/smuggled http/1.1\r\nx",
    ];
    let more: [(&[u8], &[u8]); 7] = [
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"content-length"),
        (b"content-length", b"0"),
        (b"content-length", b"100"),
        (b"content-length", b"4, 4"),
        (b"content-length", b" 4"),
        (b"host", b"other.test"),
    ];
    let extra = names.iter().map(|name| (*name, &b"1"[..]));
    for (name, value) in extra.chain(more) {
        blocks.push([block(&good), literal(name, value)].concat());
    }
    for (number, block) in blocks.iter().enumerate() {
        let mut peer = peer(&gateway);
        let stream = peer.next_stream();
        peer.frame(&Frame::headers(stream, block.clone(), false));
        peer.try_frame(&Frame::data(stream, format!("body\r\n\r\n{second}"), true));
        while !peer.is_over() && !peer.incoming(stream).is_over() {
            peer.step();
        }
        let incoming = peer.incoming(stream).clone();
        if incoming.is_complete {
            let status = peer.response(stream).status();
            assert!((400..500).contains(&status), "block {number}: {status}");
        }
    }
    assert_eq!(gateway.call(&Request::get("/v1/fence")).status(), 200);
    // A body that contradicts its length may have begun to pass; it was cut, and so never complete.
    assert_eq!(upstream.only_request().target, "/v1/fence");
    for connection in upstream.connections() {
        let received = String::from_utf8_lossy(&connection.received).into_owned();
        assert!(!received.contains("smuggled HTTP"), "{received}");
        assert!(!received.contains("x-codex-smuggled"), "{received}");
    }
}

/// The framing of one side says nothing about that of the other.
#[test]
fn bodies_end_where_they_end() {
    let upstream = Upstream::start(|exchange| {
        let body = exchange.request.body.clone();
        exchange.send(response(200, &[("content-type", "text/plain")], &body));
    });
    let gateway = gateway(&upstream);
    let mut peer = peer(&gateway);
    let bodies: [&[u8]; 5] = [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\n\r\n",
        b"\r\n",
        b"",
        b"GET /v1/smuggled HTTP/1.1\r\nhost: gateway.test\r\n\r\n",
    ];
    for body in bodies {
        // Of known length, of unknown length, and in frames of one byte.
        let known = Request::new("POST", "/v1/echo").body(body);
        assert_eq!(peer.call(&known).payload, body);
        let (fields, _) = Request::new("POST", "/v1/echo").http2();
        let stream = peer.open(&fields, false);
        peer.body(stream, body, true);
        assert_eq!(peer.response(stream).payload, body);
        let stream = peer.open(&fields, false);
        for byte in body {
            peer.body(stream, &[*byte], false);
        }
        peer.frame(&Frame::headers(stream, block(&[("x-trailer", "1")]), true));
        assert_eq!(peer.response(stream).payload, body);
    }
    for request in upstream.requests() {
        assert_eq!(request.target, "/v1/echo");
        assert!(request.head.values("x-trailer").is_empty());
    }
}

/// A client that does not read holds up its own stream alone, and the provider of that.
#[test]
fn flow_control_reaches_the_provider_and_nobody_else() {
    let (stuck, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (stuck, go_on) = (stuck.clone(), go_on.clone());
        move |exchange| {
            if exchange.request.target != "/v1/stuck" {
                exchange.send(openai::plain());
                return;
            }
            stuck.send();
            go_on.wait();
            exchange.send(response(200, &[], &vec![b'x'; 1 << 20]));
        }
    });
    let gateway = gateway(&upstream);
    let mut peer = peer(&gateway);
    peer.gives_credit(false);
    peer.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)]);
    let (fields, _) = Request::get("/v1/stuck").http2();
    let stream = peer.open(&fields, true);
    stuck.wait();
    go_on.send();
    assert_eq!(peer.read_payload(stream, 1000), [b'x'; 1000]);
    for _ in 0..10 {
        assert_eq!(peer.call(&Request::plain()).status(), 200);
    }
    assert_eq!(peer.incoming(stream).body_bytes, 1000);
    peer.gives_credit(true);
    peer.give_credit(0, 1 << 20);
    peer.give_credit(stream, 1 << 20);
    let (rest, ending) = peer.finish_response(stream);
    assert_eq!((rest.len(), ending), ((1 << 20) - 1000, Ending::Complete));
}

/// What the log says of a request does not depend on how it came, but for the protocol itself.
#[test]
fn the_record_is_the_same() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = gateway(&upstream);
    assert_eq!(gateway.call(&Request::plain().id("first")).status(), 200);
    assert_eq!(
        peer(&gateway).call(&Request::plain().id("second")).status(),
        200
    );
    let (one, two) = (gateway.logged("first"), gateway.logged("second"));
    for member in [
        "tenant",
        "account",
        "status",
        "model",
        "ending",
        "input_tokens",
        "output_tokens",
    ] {
        assert_eq!(one[member], two[member], "{member}");
    }
}
