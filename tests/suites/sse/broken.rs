//! Streams that end too early, on either side.

use crate::streaming;
use relay_tests::http::{LAST_CHUNK, chunk, find, lossy};
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, openai};
use serde_json::Value;

/// What comes after `sent` has to be one error event in the dialect of the Responses API.
fn assert_error_event(payload: &[u8], sent: &[u8]) {
    let rest = payload
        .strip_prefix(sent)
        .unwrap_or_else(|| panic!("not even {}", lossy(sent)));
    let text = std::str::from_utf8(rest).expect("an event in UTF-8");
    let text = text
        .strip_suffix("\n\n")
        .unwrap_or_else(|| panic!("no whole event: {text:?}"));
    let (name, data) = text
        .split_once('\n')
        .unwrap_or_else(|| panic!("no two lines: {text:?}"));
    assert_eq!(name, "event: error");
    let data = data.strip_prefix("data: ").expect("data");
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["type"], "error", "{data}");
    assert!(
        data.to_string().contains("upstream_stream_incomplete"),
        "{data}"
    );
}

#[test]
fn between_two_events_the_client_is_told() {
    for reset in [false, true] {
        let arrived = Signal::new();
        let (_upstream, gateway) = streaming({
            let arrived = arrived.clone();
            move |exchange| {
                exchange.send(chunk(&openai::created()));
                exchange.send(chunk(&openai::delta("a")));
                arrived.wait();
                if reset {
                    exchange.reset();
                } else {
                    exchange.close();
                }
            }
        });
        let mut client = gateway.client();
        client.send(Request::streamed().id("broken").bytes());
        client.begin_response();
        let sent = [openai::created(), openai::delta("a")].concat();
        assert_eq!(client.read_payload(sent.len()), sent);
        arrived.send();
        let (rest, ending) = client.finish_response();
        assert_eq!(ending, Ending::Truncated);
        assert_error_event(&rest, b"");
        let line = gateway.logged("broken");
        assert_eq!(line["ended"], "upstream_broken", "{line}");
    }
}

#[test]
fn in_the_middle_of_an_event_nothing_is_added() {
    let halves: [&[u8]; 4] = [
        b"event: response.output_text.delta\ndata: {\"delta\":\"ha",
        b"data: {\"type\":\"response.completed\"}\n",
        b"data: {\"type\":\"response.completed\"}",
        b"event: response.completed\n",
    ];
    for half in halves {
        let (_upstream, gateway) = streaming(move |exchange| {
            exchange.send(chunk(&openai::delta("a")));
            exchange.send(chunk(half));
            exchange.close();
        });
        let answer = gateway.call(&Request::streamed().id("half"));
        let sent = [&openai::delta("a"), half].concat();
        assert_eq!(answer.ending, Ending::Truncated, "{}", lossy(half));
        assert_eq!(lossy(&answer.payload), lossy(&sent));
        assert_eq!(gateway.logged("half")["ended"], "upstream_broken");
    }
}

#[test]
fn in_the_middle_of_a_chunk_nothing_is_added() {
    let (_upstream, gateway) = streaming(|exchange| {
        exchange.send(chunk(&openai::delta("a")));
        // A whole event, but the chunk that holds it is not over.
        exchange.send(format!("{:x}\r\n", openai::delta("b").len() + 10));
        exchange.send(openai::delta("b"));
        exchange.close();
    });
    let answer = gateway.call(&Request::streamed());
    assert_eq!(answer.ending, Ending::Truncated);
    let sent = [openai::delta("a"), openai::delta("b")].concat();
    assert!(
        answer.payload.starts_with(&sent),
        "{}",
        lossy(&answer.payload)
    );
    if answer.payload != sent {
        // It may be told, if it can be told in order.
        assert_error_event(&answer.payload, &sent);
    }
}

#[test]
fn before_any_output_the_client_gets_an_error_or_is_told() {
    let (_upstream, gateway) = streaming(|exchange| {
        exchange.send(chunk(&openai::created()));
        exchange.close();
    });
    let answer = gateway.call(&Request::streamed());
    if answer.status() == 200 {
        assert_eq!(answer.ending, Ending::Truncated);
        assert_error_event(&answer.payload, &openai::created());
    } else {
        answer.assert_refused(502, "upstream_stream_incomplete");
    }
}

#[test]
fn without_any_event_the_client_gets_an_error_or_is_told() {
    let (_upstream, gateway) = streaming(|exchange| {
        exchange.close();
    });
    let answer = gateway.call(&Request::streamed());
    if answer.status() == 200 {
        assert_eq!(answer.ending, Ending::Truncated);
        assert_error_event(&answer.payload, b"");
    } else {
        answer.gateway_error();
        assert_eq!(answer.status(), 502);
    }
}

#[test]
fn a_stream_that_ends_with_the_connection_but_not_with_its_last_event() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
        exchange.send(openai::delta("a"));
        exchange.close();
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let answer = gateway.call(&Request::streamed().id("early"));
    assert_eq!(answer.ending, Ending::Truncated);
    assert_error_event(&answer.payload, &openai::delta("a"));
    assert_eq!(gateway.logged("early")["ended"], "upstream_broken");
}

#[test]
fn http_1_0_sees_a_reset() {
    let (_upstream, gateway) = streaming(|exchange| {
        exchange.send(chunk(&openai::delta("a")));
        exchange.close();
    });
    let answer = gateway.call(&Request::streamed().http10());
    // There is no other way to tell it from a complete stream.
    assert_eq!(answer.ending, Ending::Truncated);
    assert!(find(&answer.payload, b"response.completed").is_none());
}

#[test]
fn a_client_that_leaves_after_the_last_event_was_served() {
    for reset in [false, true] {
        let completed = Signal::new();
        let (upstream, gateway) = streaming({
            let completed = completed.clone();
            move |exchange| {
                exchange.send(chunk(&openai::delta("a")));
                exchange.send(chunk(&openai::completed()));
                completed.send();
                exchange.wait_closed();
            }
        });
        let mut client = gateway.client();
        client.send(Request::streamed().id("left").bytes());
        client.begin_response();
        completed.wait();
        let text = [openai::delta("a"), openai::completed()].concat();
        assert_eq!(client.read_payload(text.len()), text);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        upstream.wait_ended(0);
        let line = gateway.logged("left");
        assert_eq!(
            (&line["ended"], &line["output_tokens"]),
            (&"complete".into(), &7.into()),
            "{line}"
        );
    }
}

#[test]
fn a_failure_that_the_provider_reports_passes_as_it_is() {
    let failed: &[u8] =
        b"event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n";
    let (_upstream, gateway) = streaming(move |exchange| {
        exchange.send(chunk(&openai::delta("a")));
        exchange.send(chunk(failed));
        exchange.send(LAST_CHUNK);
    });
    let answer = gateway.call(&Request::streamed());
    assert_eq!(answer.ending, Ending::Complete);
    assert_eq!(answer.payload, [&openai::delta("a"), failed].concat());
}

#[test]
fn nothing_is_added_behind_the_last_event() {
    for reset in [false, true] {
        let arrived = Signal::new();
        let (_upstream, gateway) = streaming({
            let arrived = arrived.clone();
            move |exchange| {
                exchange.send(chunk(&openai::delta("a")));
                exchange.send(chunk(&openai::completed()));
                arrived.wait();
                if reset {
                    exchange.reset();
                } else {
                    exchange.close();
                }
            }
        });
        let mut client = gateway.client();
        client.send(Request::streamed().bytes());
        client.begin_response();
        let sent = [openai::delta("a"), openai::completed()].concat();
        assert_eq!(client.read_payload(sent.len()), sent);
        arrived.send();
        let (rest, ending) = client.finish_response();
        assert_eq!((lossy(&rest).as_str(), ending), ("", Ending::Truncated));
        client.assert_closed();
    }
    // The same when all of it comes at once.
    let (_upstream, gateway) = streaming(|exchange| {
        exchange.send([chunk(&openai::delta("a")), chunk(&openai::completed())].concat());
        exchange.close();
    });
    let answer = gateway.call(&Request::streamed());
    let sent = [openai::delta("a"), openai::completed()].concat();
    assert_eq!(lossy(&answer.payload), lossy(&sent));
    assert_eq!(answer.ending, Ending::Truncated);
}
