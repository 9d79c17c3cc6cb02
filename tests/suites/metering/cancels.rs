//! Clients that leave: what was used until then is charged, as well as it can be known.

use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Gateway, Request, Signal, Tenant, Upstream, openai};
use serde_json::Value;

/// Points at which the client leaves.
const POINTS: usize = 20;

/// Tokens of each stream: one in each delta.
const TOKENS: usize = 60;

/// A dialect, and how a provider streams in it.
struct Dialect {
    target: &'static str,
    /// Before the first token.
    opening: Vec<Vec<u8>>,
    /// With the token of this number, from 1.
    delta: fn(usize) -> Vec<u8>,
    /// After the last one.
    closing: Vec<Vec<u8>>,
    /// What is known of a stream whose client has left while the provider is left too.
    known: &'static str,
    /// Of input, if the provider has said it by then.
    input: Option<usize>,
}

fn data(json: &str) -> Vec<u8> {
    format!("data: {json}\n\n").into_bytes()
}

fn event(name: &str, json: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {json}\n\n").into_bytes()
}

fn responses() -> Dialect {
    let completed = format!(
        r#"{{"type":"response.completed","response":{{"id":"resp_1","status":"completed","usage":{{"input_tokens":33,"input_tokens_details":{{"cached_tokens":4}},"output_tokens":{TOKENS},"output_tokens_details":{{"reasoning_tokens":0}}}}}}}}"#
    );
    Dialect {
        target: "/v1/responses",
        opening: vec![openai::created()],
        delta: |_| openai::delta("tok"),
        closing: vec![event("response.completed", &completed)],
        known: "estimated",
        input: None,
    }
}

fn chat() -> Dialect {
    let usage = format!(
        r#"{{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{{"prompt_tokens":33,"completion_tokens":{TOKENS},"total_tokens":0,"prompt_tokens_details":{{"cached_tokens":4}}}}}}"#
    );
    Dialect {
        target: "/v1/chat/completions",
        opening: Vec::new(),
        delta: |_| {
            data(
                r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"tok"},"finish_reason":null}],"usage":null}"#,
            )
        },
        closing: vec![data(&usage), data("[DONE]")],
        known: "estimated",
        input: None,
    }
}

fn messages() -> Dialect {
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":{TOKENS}}}}}"#
    );
    Dialect {
        target: "/v1/messages",
        opening: vec![event(
            "message_start",
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{"input_tokens":29,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        )],
        delta: |_| {
            event(
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"token "}}"#,
            )
        },
        closing: vec![
            event("message_delta", &delta),
            event("message_stop", r#"{"type":"message_stop"}"#),
        ],
        known: "estimated",
        input: Some(33),
    }
}

fn gemini() -> Dialect {
    Dialect {
        target: "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
        opening: Vec::new(),
        delta: |number| {
            data(&format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"tok"}}]}}{}}}],"usageMetadata":{{"promptTokenCount":33,"cachedContentTokenCount":4,"candidatesTokenCount":{number}}}}}"#,
                if number == TOKENS {
                    r#","finishReason":"STOP""#
                } else {
                    ""
                },
            ))
        },
        closing: Vec::new(),
        known: "partial",
        input: Some(33),
    }
}

fn start(policy: &str, dialect: &Dialect) -> (Upstream, Gateway, Signal) {
    let (left, mut events) = (Signal::new(), dialect.opening.clone());
    let opening = events.len();
    events.extend((1..=TOKENS).map(dialect.delta));
    events.extend(dialect.closing.iter().cloned());
    let drains = policy == "drain";
    let upstream = {
        let left = left.clone();
        Upstream::start(move |exchange| {
            let wanted = exchange.request.head.value("x-codex-tokens");
            let tokens: usize = wanted.and_then(|w| w.parse().ok()).expect("a number");
            exchange.send(openai::STREAM_HEAD);
            for event in &events[..opening + tokens] {
                exchange.send(chunk(event));
            }
            left.wait();
            if drains {
                for event in &events[opening + tokens..] {
                    exchange.send(chunk(event));
                }
                exchange.send(LAST_CHUNK);
            } else {
                exchange.wait_closed();
            }
        })
    };
    let tenant = Tenant::acme().set("cancelled_streams", format!("{policy:?}"));
    let gateway = Gateway::start(&Config::simple(upstream.address()).tenant(tenant));
    (upstream, gateway, left)
}

/// The record of a request whose client has left after so many tokens.
fn leave_after(gateway: &Gateway, dialect: &Dialect, tokens: usize, left: &Signal) -> Value {
    let id = format!("left-{tokens}");
    let request = Request::post(
        dialect.target,
        br#"{"model":"gpt-5","stream":true,"store":false,"input":"say hi"}"#,
    );
    let request = request.field("X-Codex-Tokens", &tokens.to_string()).id(&id);
    let mut client = gateway.client();
    client.send(request.bytes());
    assert_eq!(client.begin_response().status(), 200);
    let opening: usize = dialect.opening.iter().map(Vec::len).sum();
    let deltas: usize = (1..=tokens)
        .map(|number| (dialect.delta)(number).len())
        .sum();
    client.read_payload(opening + deltas);
    client.reset();
    left.send();
    gateway.logged(&id)
}

fn points() -> impl Iterator<Item = usize> {
    (0..POINTS).map(|point| 1 + point * (TOKENS - 1) / (POINTS - 1))
}

#[test]
fn a_stream_that_is_drained_is_charged_as_the_provider_counted_it() {
    for dialect in [responses(), chat(), messages(), gemini()] {
        let (upstream, gateway, left) = start("drain", &dialect);
        for tokens in points() {
            let record = leave_after(&gateway, &dialect, tokens, &left);
            let what = format!("{} after {tokens}: {record}", dialect.target);
            assert_eq!(record["input_tokens"], 33, "{what}");
            assert_eq!(record["cached_tokens"], 4, "{what}");
            assert_eq!(record["output_tokens"], TOKENS, "{what}");
            assert_eq!(record["known"], "final", "{what}");
        }
        assert_eq!(upstream.completed(), POINTS);
        assert_eq!(gateway.metric("relay_tenant_requests_in_flight", &[]), 0.0);
    }
}

#[test]
fn a_stream_that_is_closed_is_charged_for_what_had_come() {
    for dialect in [responses(), chat(), messages(), gemini()] {
        let (_upstream, gateway, left) = start("close", &dialect);
        for tokens in points() {
            let record = leave_after(&gateway, &dialect, tokens, &left);
            let what = format!("{} after {tokens}: {record}", dialect.target);
            // That one of Gemini's candidates has finished is not the end of the stream.
            assert_eq!(record["ended"], "client_gone", "{what}");
            assert_eq!(record["known"], dialect.known, "{what}");
            // The provider counts one token in each delta, and it has been told to go on by nobody.
            let output = record["output_tokens"].as_u64().expect("a count") as usize;
            match dialect.target {
                "/v1/messages" => assert!((1..=2 * tokens).contains(&output), "{what}"),
                _ => assert_eq!(output, tokens, "{what}"),
            }
            match dialect.input {
                Some(input) => assert_eq!(record["input_tokens"], input, "{what}"),
                None => assert!(record["input_tokens"].as_u64() > Some(0), "{what}"),
            }
        }
        assert_eq!(gateway.metric("relay_tenant_requests_in_flight", &[]), 0.0);
    }
}

#[test]
fn who_leaves_before_any_output_has_asked_for_it_all_the_same() {
    for policy in ["close", "drain"] {
        for has_begun in [false, true] {
            let reached = Signal::new();
            let upstream = Upstream::start({
                let reached = reached.clone();
                move |exchange| {
                    if has_begun {
                        exchange.send(openai::STREAM_HEAD);
                        exchange.send(chunk(&openai::created()));
                    }
                    reached.send();
                    exchange.wait_closed();
                }
            });
            let tenant = Tenant::acme().set("cancelled_streams", format!("{policy:?}"));
            let gateway = Gateway::start(&Config::simple(upstream.address()).tenant(tenant));
            let request = Request::streamed().id("left");
            let mut client = gateway.client();
            client.send(request.bytes());
            reached.wait();
            client.reset();
            let record = gateway.logged("left");
            let what = format!("{policy}, {has_begun}: {record}");
            let input = (request.body_bytes().len() as u64).div_ceil(4);
            assert_eq!(record["ended"], "client_gone", "{what}");
            assert_eq!(record["known"], "estimated", "{what}");
            assert_eq!(record["input_tokens"], input, "{what}");
            let usage = gateway.call(&Request::get("/v1/relay/usage")).json();
            assert_eq!(usage["month"]["requests"], 1, "{what}: {usage}");
            assert_eq!(usage["month"]["input_tokens"], input, "{what}: {usage}");
        }
    }
}

#[test]
fn who_leaves_before_the_provider_has_the_request_is_charged_nothing() {
    let reached = Signal::new();
    let upstream = Upstream::start_at_head({
        let reached = reached.clone();
        move |exchange| {
            reached.send();
            exchange.wait_closed();
        }
    });
    // Passed on as it comes.
    let config = Config::simple(upstream.address()).limit("retry_body_bytes_max", 1024);
    let gateway = Gateway::start(&config);
    let request = Request::post("/v1/responses", [b' '; 4096]).id("left");
    let mut client = gateway.client();
    let bytes = request.bytes();
    client.send(&bytes[..bytes.len() - 1]);
    reached.wait();
    client.reset();
    let record = gateway.logged("left");
    assert_eq!(record["ended"], "client_gone", "{record}");
    let usage = gateway.call(&Request::get("/v1/relay/usage")).json();
    assert_eq!(usage["month"]["requests"], 0, "{usage}");
}

#[test]
fn a_stream_that_breaks_off_is_charged_for_what_had_come() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        for event in [openai::created(), openai::delta("a"), openai::delta("b")] {
            exchange.send(chunk(&event));
        }
        exchange.close();
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    gateway.call(&Request::streamed().id("broken"));
    let record = gateway.logged("broken");
    assert_eq!(record["ended"], "upstream_broken");
    assert_eq!(record["known"], "estimated");
    assert_eq!(record["output_tokens"], 2);
    assert!(record["input_tokens"].as_u64() > Some(0), "{record}");
}
