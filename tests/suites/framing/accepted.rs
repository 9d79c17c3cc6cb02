//! What is in order works, however oddly it is written.

use relay_tests::config::TENANT_KEY;
use relay_tests::http::response;
use relay_tests::{Config, Ending, Gateway, Request, Upstream, openai};

/// An upstream that says which target it was asked for and how long the body was.
fn echo() -> Upstream {
    Upstream::start(|exchange| {
        let text = format!(
            "{} {}",
            exchange.request.target,
            exchange.request.body.len()
        );
        let body: &[u8] = if exchange.request.method == "HEAD" {
            b""
        } else {
            text.as_bytes()
        };
        exchange.send(response(200, &[("content-type", "text/plain")], body));
    })
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let requests = [
        Request::post("/v1/responses?1", r#"{"model":"a"}"#),
        Request::get("/v1/models?2"),
        Request::new("POST", "/v1/responses?3").chunked(&[br#"{"model""#, br#":"b"}"#]),
        Request::new("DELETE", "/v1/responses/4"),
    ];
    client.send(
        requests
            .iter()
            .flat_map(Request::bytes)
            .collect::<Vec<u8>>(),
    );
    let bodies: Vec<_> = requests
        .iter()
        .map(|_| String::from_utf8(client.read_response().payload).expect("UTF-8"))
        .collect();
    assert_eq!(
        bodies,
        [
            "/v1/responses?1 13",
            "/v1/models?2 0",
            "/v1/responses?3 13",
            "/v1/responses/4 0"
        ]
    );
    // Served one after the other, not at once: the second begins when the first was answered.
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn requests_may_come_byte_by_byte() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let plain = Request::plain();
    let chunked =
        Request::new("POST", "/v1/responses").chunked(&[br#"{"mod"#, br#"el":"gpt-5"}"#, b"\n\n"]);
    for request in [&plain, &chunked, &Request::get("/v1/models")] {
        client.send_bytewise(request.bytes());
        assert_eq!(client.read_response().status(), 200);
    }
    let requests = upstream.requests();
    assert_eq!(requests[0].body, plain.body_bytes());
    assert_eq!(requests[1].body, b"{\"model\":\"gpt-5\"}\n\n");
    assert_eq!(requests[2].body, b"");
}

#[test]
fn odd_but_valid_heads() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let key = format!("Bearer {TENANT_KEY}");
    let usual = format!("Host: gateway.test\r\nAuthorization: {key}\r\n");
    let fields: String = (0..98)
        .map(|index| format!("X-F-{index}: {index}\r\n"))
        .collect();
    let long = "x".repeat(32 * 1024 - usual.len() - "GET / HTTP/1.1\r\nX: \r\n\r\n".len());
    let target = "x".repeat(4095);
    let heads = [
        format!("\r\nGET / HTTP/1.1\r\n{usual}\r\n"),
        format!("\r\n\r\nGET / HTTP/1.1\r\n{usual}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: gateway.test\r\nauthorization: {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHOST: gateway.test\r\nAUTHORIZATION: {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost:gateway.test\r\nAuthorization:{key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: \t gateway.test \t\r\nAuthorization: \t{key}\t\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}X-Empty:\r\nX-Blank: \t \r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}!#$%&'*+-.^_`|~09aZ: token\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}X-Colons: a:b: c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}{fields}\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}X: {long}\r\n\r\n"),
        format!("GET /{target} HTTP/1.1\r\n{usual}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: gateway.test:8080\r\nAuthorization: {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: [::1]:8080\r\nAuthorization: {key}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{usual}Content-Length: 0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{usual}Content-Length: 0002\r\n\r\n{{}}"),
        format!("POST / HTTP/1.1\r\n{usual}Content-Length: 0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{usual}\r\n"),
        format!("GET http://gateway.test/ HTTP/1.1\r\n{usual}\r\n"),
        format!("GET HTTP://GATEWAY.test/?q HTTP/1.1\r\n{usual}\r\n"),
        format!("GET /?a=b&c=%2F..%2f;d?e/f:@!$'()*+,= HTTP/1.1\r\n{usual}\r\n"),
        format!("GET /v1/models/ft:a%2Fb::%20c?d=%7E//e/ HTTP/1.1\r\n{usual}\r\n"),
        format!("PUT / HTTP/1.1\r\n{usual}Content-Length: 2\r\n\r\n{{}}"),
        format!("PATCH / HTTP/1.1\r\n{usual}Content-Length: 2\r\n\r\n{{}}"),
        format!("OPTIONS /v1/responses HTTP/1.1\r\n{usual}\r\n"),
    ];
    let mut client = gateway.client();
    for (index, head) in heads.iter().enumerate() {
        client.send(head);
        let answer = client.read_response();
        assert_eq!(answer.status(), 200, "{index}: {head}\n{answer:?}");
    }
    let requests = upstream.requests();
    let targets: Vec<_> = requests
        .iter()
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(targets.len(), heads.len());
    assert_eq!(
        targets[18..=21],
        [
            "/",
            "/?q",
            "/?a=b&c=%2F..%2f;d?e/f:@!$'()*+,=",
            "/v1/models/ft:a%2Fb::%20c?d=%7E//e/",
        ]
    );
}

#[test]
fn chunked_bodies_in_odd_pieces() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {TENANT_KEY}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let bodies = [
        "d\r\n{\"model\":\"a\"}\r\n0\r\n\r\n",
        "D\r\n{\"model\":\"a\"}\r\n0\r\n\r\n",
        "00000d\r\n{\"model\":\"a\"}\r\n0\r\n\r\n",
        "D\r\n{\"model\":\"a\"}\r\n000000\r\n\r\n",
        "1\r\n{\r\n1\r\n\"\r\n5\r\nmodel\r\n1\r\n\"\r\n5\r\n:\"a\"}\r\n0\r\n\r\n",
    ];
    let mut client = gateway.client();
    for body in bodies {
        let whole = format!("{head}{body}");
        for split in [
            whole.len() - 1,
            whole.len() - 3,
            head.len() + 1,
            head.len() + 4,
            head.len() - 1,
        ] {
            client.send(&whole[..split]);
            client.send(&whole[split..]);
            assert_eq!(
                client.read_response().payload,
                b"/v1/responses 13",
                "{body:?} at {split}"
            );
        }
        client.send(&head);
        client.send_bytewise(body);
        assert_eq!(
            client.read_response().payload,
            b"/v1/responses 13",
            "{body:?} byte by byte"
        );
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.body == br#"{"model":"a"}"#)
    );
}

#[test]
fn framing_is_made_anew() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let chunked = Request::new("POST", "/v1/responses").chunked(&[br#"{"model":"a"}"#]);
    let counted = Request::post("/v1/responses", r#"{"model":"a"}"#).without("Content-Length");
    client.call(
        &chunked
            .field("TE", "trailers")
            .field("Trailer", "X")
            .field("Keep-Alive", "5"),
    );
    client.call(&counted.field("content-length", "00013"));
    for request in upstream.requests() {
        assert_eq!(request.body, br#"{"model":"a"}"#);
        for name in ["te", "trailer", "keep-alive"] {
            assert_eq!(request.head.value(name), None, "{name}");
        }
        assert_ne!(
            request.head.value("content-length"),
            Some("00013"),
            "copied, not made"
        );
    }
}

#[test]
fn head_requests_have_no_body() {
    let upstream = Upstream::start(|exchange| {
        let head = exchange.request.method == "HEAD";
        let body: &[u8] = if head { b"" } else { b"hello" };
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n");
        exchange.send(body);
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.call(&Request::new("HEAD", "/v1/models"));
        assert_eq!((answer.status(), answer.payload.len()), (200, 0));
        assert_eq!(answer.head.value("content-length"), Some("5"));
    }
    assert_eq!(client.call(&Request::get("/v1/models")).payload, b"hello");
    let methods: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["HEAD", "HEAD", "GET"]);
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    let upstream = Upstream::start(move |exchange| {
        exchange.send(answers[exchange.request.number]);
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    for status in [204, 304, 304, 200, 200] {
        let answer = client.call(&Request::get("/v1/models"));
        assert_eq!((answer.status(), answer.payload.len()), (status, 0));
        assert_eq!(answer.ending, Ending::Complete);
    }
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let answer = client.call(&Request::get("/v1/models").http10());
    assert_eq!(
        (answer.status(), answer.payload.as_slice()),
        (200, &b"/v1/models 0"[..])
    );
    client.assert_closed();
    // Host is optional in HTTP/1.0.
    let answer = gateway.call(&Request::get("/v1/models").http10().without("Host"));
    assert_eq!(answer.status(), 200);
    // The gateway speaks HTTP/1.1 to the provider (checked by the upstream).
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn http_1_0_is_kept_alive_where_asked_for() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.call(&Request::plain().http10().field("Connection", "Keep-Alive"));
        assert_eq!(answer.status(), 200);
        let connection = answer.head.value("connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("keep-alive"), "{answer:?}");
    }
    assert_eq!(client.call(&Request::plain().http10()).status(), 200);
    client.assert_closed();
}

#[test]
fn chunks_never_reach_an_http_1_0_client() {
    let answer =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let upstream = Upstream::answering(&answer[..]);
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let answer = client.call(
        &Request::get("/v1/models")
            .http10()
            .field("Connection", "keep-alive"),
    );
    assert_eq!(answer.head.value("transfer-encoding"), None);
    assert_eq!(
        (answer.payload.as_slice(), answer.ending),
        (&b"abcde"[..], Ending::WithConnection)
    );
}

#[test]
fn a_client_that_asks_for_close_gets_it() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    for value in ["close", "Close", "foo, close", "close, TE"] {
        let mut client = gateway.client();
        let answer = client.call(&Request::plain().field("Connection", value));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.value("connection"), Some("close"), "{value}");
        client.assert_closed();
    }
    // That is between the client and the gateway: the upstream's connection is kept.
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn a_body_of_exactly_the_limit_passes_and_one_byte_more_is_refused() {
    let upstream = echo();
    let config = Config::simple(upstream.address()).limit("body_bytes_max", 100_000);
    let config = config.limit("retry_body_bytes_max", 10_000);
    let gateway = Gateway::start(&config);
    let body = |length: usize| format!("{{\"model\":\"a\"{}}}", " ".repeat(length - 13));
    assert_eq!(
        gateway
            .call(&Request::post("/v1/responses", body(100_000)))
            .status(),
        200
    );
    let chunks = body(100_000);
    let chunks: Vec<&[u8]> = chunks.as_bytes().chunks(777).collect();
    assert_eq!(
        gateway
            .call(&Request::new("POST", "/v1/responses").chunked(&chunks))
            .status(),
        200
    );
    assert_eq!(upstream.completed(), 2);

    let mut client = gateway.client();
    client.send(Request::post("/v1/responses", body(100_001)).head_bytes());
    client
        .read_response()
        .assert_refused(413, "request_too_large");
    let chunks = body(100_001);
    let chunks: Vec<&[u8]> = chunks.as_bytes().chunks(777).collect();
    let mut client = gateway.client();
    client.try_send(
        Request::new("POST", "/v1/responses")
            .chunked(&chunks)
            .bytes(),
    );
    client
        .read_response()
        .assert_refused(413, "request_too_large");
    assert_eq!(upstream.completed(), 2);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.body.len() == 100_000)
    );
}

#[test]
fn a_large_body_passes_byte_for_byte() {
    let upstream = Upstream::start(|exchange| {
        let body = std::mem::take(&mut exchange.request.body);
        exchange.send(response(
            200,
            &[("content-type", "application/octet-stream")],
            &body,
        ));
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut body = br#"{"model":"gpt-5","big":123456789012345678901234567890,"input":""#.to_vec();
    body.extend(
        (0..20 * 1024 * 1024u32).map(|index| b'a' + (index.wrapping_mul(7919) >> 7) as u8 % 26),
    );
    body.extend_from_slice(b"\"}");
    let answer = gateway.call(&Request::post("/v1/responses", &body));
    assert_eq!(answer.status(), 200);
    assert!(answer.payload == body, "the answer differs");
    assert!(upstream.only_request().body == body, "the request differs");
}

#[test]
fn informational_answers_do_not_end_the_request() {
    let answers = [
        b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec(),
        b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8),
    ];
    for informational in answers {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(&informational);
            exchange.send(openai::plain());
        });
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let mut client = gateway.client();
        for _ in 0..2 {
            client.send(Request::plain().bytes());
            let mut answer = client.read_response();
            while answer.status() < 200 {
                answer = client.read_response();
            }
            assert_eq!(
                (answer.status(), answer.payload.as_slice()),
                (200, openai::PLAIN_BODY)
            );
        }
        assert_eq!(
            upstream.connection_count(),
            1,
            "the connection was not kept"
        );
    }
}

#[test]
fn a_request_behind_a_large_body_is_the_next_one() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let body = vec![b' '; 3_000_000];
    let large = [
        Request::new("POST", "/v1/large").body(&body),
        Request::new("POST", "/v1/large").chunked(&body.chunks(70_000).collect::<Vec<_>>()),
    ];
    let mut client = gateway.client();
    for request in large {
        client.send([request.bytes(), Request::get("/v1/behind").bytes()].concat());
        assert_eq!(client.read_response().payload, b"/v1/large 3000000");
        assert_eq!(client.read_response().payload, b"/v1/behind 0");
    }
}

#[test]
fn a_request_behind_a_stream_is_the_next_one() {
    let upstream = Upstream::start(|exchange| {
        let streamed = exchange.request.target == "/v1/responses";
        exchange.send(if streamed {
            openai::stream(&["a", "b"])
        } else {
            openai::plain()
        });
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let requests = [
        Request::streamed(),
        Request::get("/v1/models"),
        Request::streamed(),
    ];
    client.send(
        requests
            .iter()
            .flat_map(Request::bytes)
            .collect::<Vec<u8>>(),
    );
    let texts = [
        openai::created(),
        openai::delta("a"),
        openai::delta("b"),
        openai::completed(),
    ];
    for expected in [&texts.concat()[..], openai::PLAIN_BODY, &texts.concat()[..]] {
        assert_eq!(client.read_response().payload, expected);
    }
}

#[test]
fn a_refused_head_request_has_no_body_either() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let refused = client.call(&Request::new("HEAD", "/v1/models").key("rk-unknown"));
    assert_eq!((refused.status(), refused.payload.len()), (401, 0));
    // A body here would be taken for the next answer.
    assert_eq!(
        client.call(&Request::get("/v1/models")).payload,
        b"/v1/models 0"
    );
}

#[test]
fn the_body_of_a_refused_request_is_read_if_it_is_short() {
    let upstream = echo();
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let refused = |length: usize| {
        Request::new("POST", "/v1/responses")
            .key("rk-unknown")
            .body(vec![b' '; length])
    };
    let mut client = gateway.client();
    client.send([refused(60_000).bytes(), Request::get("/v1/models").bytes()].concat());
    client
        .read_response()
        .assert_refused(401, "invalid_api_key");
    assert_eq!(client.read_response().payload, b"/v1/models 0");
    // The answer reaches a client that has sent much more, and then the connection ends.
    let mut client = gateway.client();
    client.try_send(
        [
            refused(5_000_000).bytes(),
            Request::get("/v1/models").bytes(),
        ]
        .concat(),
    );
    client
        .read_response()
        .assert_refused(401, "invalid_api_key");
    client.assert_closed();
    assert_eq!(upstream.completed(), 1);
}
