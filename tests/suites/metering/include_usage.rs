//! The usage of Chat streams whose clients did not ask for it: `include_usage`.

use relay_tests::config::{Account, Tenant};
use relay_tests::http::{LAST_CHUNK, chunk, lossy};
use relay_tests::{Config, Ending, Exchange, Gateway, Request, Signal, Upstream, openai};

const ROLE: &[u8] = b"data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n";
const DELTA: &[u8] = b"data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":{} \\\"choices\\\":[]\"}}],\"usage\":null}\n\n";
const STOP: &[u8] = b"data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const USAGE: &[u8] = b"data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18,\"prompt_tokens_details\":{\"cached_tokens\":3},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What the provider sends once it was asked for the usage, event by event.
const EVENTS: [&[u8]; 6] = [ROLE, DELTA, DELTA, STOP, USAGE, DONE];

/// What a client is to see of it that has not asked.
fn seen() -> Vec<u8> {
    [ROLE, DELTA, DELTA, STOP, DONE].concat()
}

const PATH: &str = "/v1/chat/completions";
const UNASKED: &str = r#"{"model":"gpt-4.1","stream":true,"messages":[]}"#;
const ASKED: &str =
    r#"{"model":"gpt-4.1","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

fn config(upstream: &Upstream) -> Config {
    Config::simple(upstream.address()).upstream_key("openai", "include_usage", "true")
}

fn unasked() -> Request {
    Request::post(PATH, UNASKED).id("metered")
}

fn include_usage_of(body: &[u8]) -> serde_json::Value {
    let body: serde_json::Value = serde_json::from_slice(body).expect("a JSON text");
    body["stream_options"]["include_usage"].clone()
}

/// The log's line of the request named `metered` has the usage that the provider sent.
fn assert_metered(gateway: &Gateway, ended: &str) {
    let line = gateway.logged("metered");
    let tokens = ["input", "cached", "output", "reasoning"]
        .map(|kind| line[format!("{kind}_tokens")].as_u64());
    assert_eq!(tokens, [11, 3, 7, 2].map(Some), "{line}");
    assert_eq!(line["known"], "final", "{line}");
    assert_eq!(line["ended"], ended, "{line}");
}

/// How the provider frames its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    ByEvent,
    /// In chunks of so many bytes, wherever the events end.
    InChunksOf(usize),
    ByLength,
    ByClose,
}

fn answer(exchange: &mut Exchange, framed: Framed) {
    let body = EVENTS.concat();
    let head = |framing: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n")
    };
    match framed {
        Framed::ByEvent => {
            exchange.send(openai::STREAM_HEAD);
            EVENTS.iter().for_each(|event| {
                exchange.send(chunk(event));
            });
            exchange.send(LAST_CHUNK);
        }
        Framed::InChunksOf(bytes) => {
            exchange.send(openai::STREAM_HEAD);
            body.chunks(bytes).for_each(|piece| {
                exchange.send(chunk(piece));
            });
            exchange.send(LAST_CHUNK);
        }
        Framed::ByLength => {
            exchange.send(head(&format!("content-length: {}\r\n", body.len())));
            exchange.send(body);
        }
        Framed::ByClose => {
            exchange.send(head("connection: close\r\n"));
            exchange.send(body);
            exchange.close();
        }
    }
}

#[test]
fn it_is_asked_for_and_kept_back_however_the_answer_is_framed() {
    for framed in [
        Framed::ByEvent,
        Framed::InChunksOf(1),
        Framed::InChunksOf(7),
        Framed::InChunksOf(100_000),
        Framed::ByLength,
        Framed::ByClose,
    ] {
        let upstream = Upstream::start(move |exchange| answer(exchange, framed));
        let gateway = Gateway::start(&config(&upstream));
        let mut client = gateway.client();
        client.send(unasked().bytes());
        let head = client.begin_response();
        assert_eq!(head.value("transfer-encoding"), Some("chunked"));
        assert_eq!(head.value("content-length"), None);
        let (payload, ending) = client.finish_response();
        assert_eq!(lossy(&payload), lossy(&seen()), "{framed:?}");
        assert_eq!(ending, Ending::Complete, "{framed:?}");
        assert_metered(&gateway, "complete");
        let sent = upstream.only_request();
        assert_eq!(include_usage_of(&sent.body), true, "{}", lossy(&sent.body));
        // The connection goes on.
        assert_eq!(client.call(&Request::get("/health")).status(), 200);

        let mut old = gateway.client();
        old.send(Request::post(PATH, UNASKED).http10().bytes());
        assert_eq!(old.begin_response().value("content-length"), None);
        let (payload, ending) = old.finish_response();
        assert_eq!(lossy(&payload), lossy(&seen()), "{framed:?}");
        assert_eq!(ending, Ending::WithConnection, "{framed:?}");
    }
}

#[test]
fn events_are_passed_on_as_they_come() {
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            for event in EVENTS {
                exchange.send(chunk(event));
                go_on.wait();
            }
            exchange.send(LAST_CHUNK);
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = gateway.client();
    client.send(unasked().bytes());
    client.begin_response();
    for event in [ROLE, DELTA, DELTA, STOP] {
        assert_eq!(client.read_payload(event.len()), event);
        go_on.send();
    }
    // Behind the usage.
    go_on.send();
    assert_eq!(client.read_payload(DONE.len()), DONE);
    go_on.send();
    assert_eq!(client.finish_response(), (Vec::new(), Ending::Complete));
}

#[test]
fn an_answer_that_is_there_before_its_head_goes_out_may_fill_several_buffers() {
    // An event is no output before its end.
    let text = "x".repeat(150_000);
    let long = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":null}}\n\n"
    );
    let long = long.into_bytes();
    for chunk_bytes in [5_000, 70_000, 1_000_000] {
        let long = long.clone();
        let wanted = [&long[..], STOP, DONE].concat();
        let upstream = Upstream::start(move |exchange| {
            let body = [&long[..], STOP, USAGE, DONE].concat();
            let chunks = body.chunks(chunk_bytes).map(chunk);
            let mut answer = openai::STREAM_HEAD.to_vec();
            chunks.for_each(|chunk| answer.extend(chunk));
            exchange.send([&answer, LAST_CHUNK].concat());
        });
        let gateway = Gateway::start(&config(&upstream));
        let response = gateway.call(&unasked());
        assert!(response.payload == wanted, "{chunk_bytes}");
        assert_eq!(response.ending, Ending::Complete, "{chunk_bytes}");
        assert_metered(&gateway, "complete");
    }
}

/// Bodies that ask for no usage, in other words or other pieces, with what the provider is sent.
#[test]
fn nothing_else_of_the_request_changes() {
    for (body, sent) in [
        (
            UNASKED,
            r#"{"model":"gpt-4.1","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
        ),
        (
            r#"{"stream_options" : {"include_usage": false }, "model":"m", "stream": true, "seed":12345678901234567890}"#,
            r#"{"stream_options" : {"include_usage": true }, "model":"m", "stream": true, "seed":12345678901234567890}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":null,"x":1.0}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"x":1.0}"#,
        ),
    ] {
        let upstream = Upstream::start(|exchange| answer(exchange, Framed::ByEvent));
        let gateway = Gateway::start(&config(&upstream));
        let (first, second) = body.as_bytes().split_at(body.len() / 2);
        let whole = Request::post(PATH, body);
        let in_chunks = Request::new("POST", PATH)
            .field("Content-Type", "application/json")
            .chunked(&[first, second]);
        for request in [whole, in_chunks] {
            let answer = gateway.call(&request);
            assert_eq!(lossy(&answer.payload), lossy(&seen()), "{body}");
        }
        for received in upstream.requests() {
            assert_eq!(lossy(&received.body), lossy(sent.as_bytes()));
            let length = sent.len().to_string();
            assert_eq!(received.head.value("content-length"), Some(&*length));
        }
    }
}

#[test]
fn what_would_not_be_true_of_the_changed_request_is_left_out() {
    let upstream = Upstream::start(|exchange| answer(exchange, Framed::ByEvent));
    let fields = r#"["accept-encoding", "content-digest"]"#;
    let config = config(&upstream).set("headers.request", "allow_also", fields);
    let gateway = Gateway::start(&config);
    for request in [unasked(), Request::post(PATH, ASKED)] {
        let request = request.field("Accept-Encoding", "gzip");
        gateway.call(&request.field("Content-Digest", "sha-256=:AAAA:"));
    }
    let [changed, unchanged] = &upstream.requests()[..] else {
        panic!("two requests");
    };
    for name in ["accept-encoding", "content-digest"] {
        assert_eq!(changed.head.value(name), None, "{name}");
        assert!(unchanged.head.value(name).is_some(), "{name}");
    }
}

#[test]
fn who_has_asked_gets_it() {
    let upstream = Upstream::start(|exchange| answer(exchange, Framed::ByEvent));
    let gateway = Gateway::start(&config(&upstream));
    let response = gateway.call(&Request::post(PATH, ASKED).id("metered"));
    assert_eq!(lossy(&response.payload), lossy(&EVENTS.concat()));
    assert_metered(&gateway, "complete");
    assert_eq!(upstream.only_request().body, ASKED.as_bytes());
}

#[test]
fn requests_that_cannot_be_changed_for_certain_are_not() {
    let upstream = Upstream::start(|exchange| answer(exchange, Framed::ByEvent));
    let gateway = Gateway::start(&config(&upstream).limit("retry_body_bytes_max", 4096));
    let twice = r#"{"model":"m","stream":true,"stream_options":{},"stream_options":{}}"#;
    let long = format!(
        r#"{{"model":"m","stream":true,"messages":["{}"]}}"#,
        "x".repeat(200_000)
    );
    let plain = r#"{"model":"m","messages":[]}"#;
    let compressed = zstd::encode_all(UNASKED.as_bytes(), 3).expect("zstd");
    let requests = [
        Request::post(PATH, twice),
        Request::post(PATH, plain),
        Request::post(PATH, &long),
        Request::post(PATH, &compressed).field("Content-Encoding", "zstd"),
        Request::post("/v1/responses", UNASKED),
    ];
    let bodies: Vec<&[u8]> = vec![
        twice.as_bytes(),
        plain.as_bytes(),
        long.as_bytes(),
        &compressed,
        UNASKED.as_bytes(),
    ];
    for (number, (request, body)) in requests.iter().zip(bodies).enumerate() {
        let answer = gateway.call(request);
        // Where nobody has asked in its name, the client sees whatever comes.
        assert_eq!(lossy(&answer.payload), lossy(&EVENTS.concat()));
        assert_eq!(upstream.requests()[number].body, body, "{number}");
    }
}

#[test]
fn an_upstream_without_the_key_is_sent_what_the_client_sent() {
    let asked = Upstream::answering(openai::error(500, "x", &[]));
    let unasked_upstream = Upstream::start(|exchange| answer(exchange, Framed::ByEvent));
    let other = format!("http://{}", unasked_upstream.address());
    let config = config(&asked)
        .upstream("other", &other)
        .account(Account::new("second", "127.0.7.2").upstream("other"))
        .tenant(Tenant::acme().upstreams(&["openai", "other"]));
    let gateway = Gateway::start(&config);
    let response = gateway.call(&unasked());
    assert_eq!(lossy(&response.payload), lossy(&EVENTS.concat()));
    assert_eq!(include_usage_of(&asked.requests()[0].body), true);
    assert_eq!(unasked_upstream.only_request().body, UNASKED.as_bytes());
}

#[test]
fn a_refusal_by_the_provider_is_passed_on() {
    let upstream = Upstream::answering(openai::error(400, "unknown_parameter", &[]));
    let gateway = Gateway::start(&config(&upstream));
    let answer = gateway.call(&unasked());
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json()["error"]["code"], "unknown_parameter");
}

#[test]
fn a_document_in_place_of_the_stream_is_passed_on_whole() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(&upstream));
    let answer = gateway.call(&unasked());
    assert_eq!(lossy(&answer.payload), lossy(openai::PLAIN_BODY));
    assert_eq!(answer.ending, Ending::Complete);
}

#[test]
fn a_stream_that_breaks_is_seen_to_break_wherever_it_does() {
    let before = [ROLE, DELTA].concat();
    for cut_at in [
        before.len(),
        before.len() + 10,
        before.len() + USAGE.len() / 2,
        before.len() + USAGE.len() - 1,
        before.len() + USAGE.len(),
    ] {
        let upstream = Upstream::start(move |exchange| {
            let body = [ROLE, DELTA, USAGE].concat();
            exchange.send([openai::STREAM_HEAD, &chunk(&body[..cut_at])].concat());
            exchange.close();
        });
        let gateway = Gateway::start(&config(&upstream));
        let mut client = gateway.client();
        client.send(unasked().bytes());
        client.begin_response();
        let (payload, ending) = client.finish_response();
        assert_eq!(ending, Ending::Truncated, "{cut_at}");
        let behind = payload.strip_prefix(&before[..]).expect("what came before");
        // Between two events the client is told; the usage is not for it, and neither is a part of it.
        let is_told = behind.starts_with(b"data: {\"error\"");
        let is_between = cut_at == before.len() || cut_at == before.len() + USAGE.len();
        assert_eq!(is_told, is_between, "{cut_at}: {}", lossy(behind));
        assert!(is_told || behind.is_empty(), "{cut_at}: {}", lossy(behind));
        assert_eq!(gateway.logged("metered")["ended"], "upstream_broken");
    }
}

#[test]
fn it_is_learned_from_a_stream_that_its_client_has_left() {
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |exchange| {
            exchange.send([openai::STREAM_HEAD, &chunk(ROLE)].concat());
            go_on.wait();
            exchange.send(chunk(&[DELTA, STOP, USAGE, DONE].concat()));
            exchange.send(LAST_CHUNK);
        }
    });
    let drained = Tenant::acme().set("cancelled_streams", "\"drain\"");
    let gateway = Gateway::start(&config(&upstream).tenant(drained));
    let mut client = gateway.client();
    client.send(unasked().bytes());
    client.begin_response();
    client.read_payload(ROLE.len());
    client.half_close();
    client.read_to_end();
    go_on.send();
    assert_metered(&gateway, "client_gone");
}
