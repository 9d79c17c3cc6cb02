//! What the provider sent is what the client gets.

use crate::{chunks, streaming};
use relay_tests::http::{LAST_CHUNK, chunk, lossy};
use relay_tests::{Config, Ending, Gateway, Request, Signal, Upstream, openai};

/// Streams that parsers are known to trip over; each ends as the dialect wants it.
fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let bodies: Vec<(&str, &[u8])> = vec![
        ("plain", b""),
        (
            "multi-line data",
            b"event: x\ndata: {\"a\":\ndata:  1,\ndata:\ndata: \"b\":2}\n\n",
        ),
        (
            "comments",
            b": keepalive\n\n:\n\n: a: b\ndata: {}\n: between\n\n",
        ),
        (
            "CRLF",
            b"event: x\r\ndata: {\"a\":1}\r\n\r\ndata: {}\r\n\r\n",
        ),
        ("CR", b"event: x\rdata: {\"a\":1}\r\rdata: {}\r\r"),
        (
            "mixed line ends",
            b"data: 1\r\ndata: 2\rdata: 3\n\r\n\r\n\n\r\rdata: 4\n\r\n",
        ),
        ("byte order mark", b"\xef\xbb\xbfdata: {}\n\n"),
        (
            "fields of all kinds",
            b"id: 1\nretry: 10\nevent: x\ndata: {}\nunknown: y\ndata\nnocolon\n\n",
        ),
        ("empty events", b"\n\n\n\n\ndata:\n\ndata\n\n\n"),
        (
            "UTF-8",
            "data: {\"delta\":\"\u{e4}\u{20ac}\u{1f600}\u{301}\u{200b}\u{2028}\"}\n\n".as_bytes(),
        ),
        ("not UTF-8", b"data: \xff\xfe\xc0\x80\xed\xa0\x80\n\n"),
        ("NUL and controls", b"data: \x00\x01\x1b[31m\x7f\n\n"),
        (
            "white space",
            b"data:{}\n\ndata:  {}  \n\ndata:\t{}\n\n \n\n",
        ),
        (
            "looks like chunks",
            b"data: 0\r\n\r\n0\r\n\r\n5\r\nhello\r\n\n\n",
        ),
        (
            "looks like a head",
            b"data: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "big numbers",
            b"data: {\"n\":123456789012345678901234567890.10e+400,\"n\":1}\n\n",
        ),
        ("not JSON", b"data: [DONE\n\ndata: }{\n\ndata: \"\n\n"),
    ];
    let whole = |body: &[u8]| {
        [
            &openai::created(),
            body,
            &openai::delta("x"),
            &openai::completed()[..],
        ]
        .concat()
    };
    bodies
        .into_iter()
        .map(|(name, body)| (name, whole(body)))
        .collect()
}

/// Sends every text, cut into chunks by `cut`, and compares.
fn assert_identical(cut: fn(&[u8]) -> Vec<u8>, bytewise: bool) {
    let sent: Vec<Vec<u8>> = texts().iter().map(|(_, text)| cut(text)).collect();
    let (_upstream, gateway) = streaming(move |exchange| {
        let bytes = &sent[exchange.request.number];
        if bytewise {
            exchange.send_bytewise(bytes);
        } else {
            exchange.send(bytes);
        }
    });
    let mut client = gateway.client();
    for (number, (name, text)) in texts().into_iter().enumerate() {
        let id = format!("text-{number}");
        client.send(Request::streamed().id(&id).bytes());
        let answer = client.read_response();
        assert_eq!(
            (answer.status(), answer.ending),
            (200, Ending::Complete),
            "{name}"
        );
        assert_eq!(answer.head.value("content-type"), Some("text/event-stream"));
        assert_eq!(answer.head.value("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.head.value("content-encoding"), None);
        assert!(
            answer.payload == text,
            "{name}: {}\nwas {}",
            lossy(&answer.payload),
            lossy(&text)
        );
        let line = gateway.logged(&id);
        assert_eq!(line["ended"], "complete", "{name}: {line}");
    }
}

#[test]
fn in_one_chunk() {
    assert_identical(|text| chunks([text]), false);
}

#[test]
fn one_chunk_for_each_line() {
    assert_identical(
        |text| chunks(text.split_inclusive(|byte| *byte == b'\n')),
        false,
    );
}

#[test]
fn one_byte_in_each_chunk() {
    assert_identical(|text| chunks(text.chunks(1)), false);
}

#[test]
fn one_byte_in_each_write() {
    assert_identical(|text| chunks([text]), true);
}

#[test]
fn one_byte_in_each_chunk_and_each_write() {
    assert_identical(|text| chunks(text.chunks(1)), true);
}

#[test]
fn chunks_with_extensions_and_trailers() {
    assert_identical(
        |text| {
            let mut bytes = Vec::new();
            for piece in text.chunks(7) {
                bytes.extend(format!("{:04X};name=\"value\"\r\n", piece.len()).into_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"000;last\r\nx-trailer: y\r\nx-other: z\r\n\r\n");
            bytes
        },
        false,
    );
}

#[test]
fn every_event_arrives_before_the_next_is_sent() {
    let arrived = Signal::new();
    let (_upstream, gateway) = streaming({
        let arrived = arrived.clone();
        move |exchange| {
            // The first event is no output: it may wait for the first one that is.
            exchange.send(chunk(&openai::created()));
            for number in 0..200 {
                exchange.send(chunk(&openai::delta(&number.to_string())));
                arrived.wait();
            }
            exchange.send(chunks([openai::completed().as_slice()]));
        }
    });
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    assert_eq!(client.begin_response().status(), 200);
    assert_eq!(
        client.read_payload(openai::created().len()),
        openai::created()
    );
    for number in 0..200 {
        let event = openai::delta(&number.to_string());
        assert_eq!(client.read_payload(event.len()), event);
        client.assert_silent();
        arrived.send();
    }
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );
}

#[test]
fn characters_split_between_reads() {
    let text = "data: {\"type\":\"x\",\"delta\":\"\u{e4}\u{20ac}\u{1f600}\"}\n\n".as_bytes();
    let arrived = Signal::new();
    let (_upstream, gateway) = streaming({
        let arrived = arrived.clone();
        move |exchange| {
            exchange.send(chunk(&openai::delta("x")));
            arrived.wait();
            // Every byte is a chunk of its own, sent when the one before it has arrived.
            for byte in text {
                exchange.send(chunk(&[*byte]));
                arrived.wait();
            }
            exchange.send(chunks([openai::completed().as_slice()]));
        }
    });
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    client.begin_response();
    client.read_payload(openai::delta("x").len());
    arrived.send();
    for byte in text {
        assert_eq!(client.read_payload(1), [*byte]);
        arrived.send();
    }
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::Complete)
    );
}

#[test]
fn events_that_are_longer_than_what_is_metered() {
    let mut long = b"event: response.output_text.delta\ndata: {\"delta\":\"".to_vec();
    long.extend(
        (0..3 * 1024 * 1024u32).map(|index| b'a' + (index.wrapping_mul(7919) >> 9) as u8 % 26),
    );
    long.extend_from_slice(b"\"}\n\n");
    let text = [openai::created(), long, openai::completed()].concat();
    for piece_bytes in [usize::MAX, 1_000_000, 65_536, 1460] {
        let bytes = chunks(text.chunks(piece_bytes.min(text.len())));
        let (_upstream, gateway) = streaming(move |exchange| {
            exchange.send(&bytes);
        });
        let answer = gateway.call(&Request::streamed().id("long"));
        assert_eq!(answer.ending, Ending::Complete);
        assert!(answer.payload == text, "cut into {piece_bytes}");
        // The event after it is read again.
        let line = gateway.logged("long");
        assert_eq!(
            (&line["ended"], &line["output_tokens"]),
            (&"complete".into(), &7.into()),
            "{line}"
        );
    }
}

#[test]
fn ten_thousand_events_at_once() {
    let mut text = openai::created();
    for number in 0..10_000 {
        text.extend(openai::delta(&number.to_string()));
    }
    text.extend(openai::completed());
    let bytes = chunks(text.split_inclusive(|byte| *byte == b'\n'));
    let (_upstream, gateway) = streaming(move |exchange| {
        exchange.send(&bytes);
    });
    let answer = gateway.call(&Request::streamed().id("many"));
    assert_eq!(answer.ending, Ending::Complete);
    assert!(answer.payload == text, "the answer differs");
    assert_eq!(gateway.logged("many")["events"], 10_002);
}

#[test]
fn other_dialects_and_content_types() {
    let streams: [(&str, &str, &[u8]); 4] = [
        (
            "/v1/chat/completions",
            "text/event-stream; charset=utf-8",
            b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n",
        ),
        (
            "/v1/messages",
            "text/event-stream",
            b"event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n\
              event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n\
              event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        (
            "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse",
            "text/event-stream",
            b"data: {\"candidates\":[{\"content\":{}}]}\r\n\r\ndata: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\r\n\r\n",
        ),
        ("/v1/something/else", "Text/Event-Stream", b": x\n\ndata: anything\n\n"),
    ];
    for (path, content_type, text) in streams {
        let upstream = Upstream::start(move |exchange| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            exchange.send(head);
            exchange.send(chunks(text.split_inclusive(|byte| *byte == b'\n')));
        });
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let body = r#"{"model":"m","stream":true}"#;
        let answer = gateway.call(&Request::post(path, body).id("dialect"));
        assert_eq!(
            (answer.payload.as_slice(), answer.ending),
            (text, Ending::Complete),
            "{path}"
        );
        assert_eq!(answer.head.value("content-type"), Some(content_type));
        assert_eq!(gateway.logged("dialect")["ended"], "complete", "{path}");
        assert_eq!(upstream.only_request().target, path);
    }
}

#[test]
fn http_1_0_gets_the_events_alone() {
    let arrived = Signal::new();
    let (_upstream, gateway) = streaming({
        let arrived = arrived.clone();
        move |exchange| {
            exchange.send(chunk(&openai::delta("a")));
            arrived.wait();
            exchange.send(chunk(&openai::completed()));
            exchange.send(LAST_CHUNK);
        }
    });
    let mut client = gateway.client();
    client.send(Request::streamed().http10().bytes());
    let head = client.begin_response();
    assert_eq!(
        (
            head.value("transfer-encoding"),
            head.value("content-length")
        ),
        (None, None)
    );
    assert_eq!(
        client.read_payload(openai::delta("a").len()),
        openai::delta("a")
    );
    arrived.send();
    assert_eq!(
        client.finish_response(),
        (openai::completed(), Ending::WithConnection)
    );
}

#[test]
fn a_stream_that_ends_with_the_connection() {
    for version in ["1.0", "1.1"] {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(format!(
                "HTTP/{version} 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
            ));
            exchange.send(openai::delta("a"));
            exchange.send(openai::completed());
            exchange.close();
        });
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let answer = gateway.call(&Request::streamed().id("until-close"));
        let text = [openai::delta("a"), openai::completed()].concat();
        assert_eq!(
            (answer.payload, answer.ending),
            (text, Ending::Complete),
            "HTTP/{version}"
        );
        assert_eq!(gateway.logged("until-close")["ended"], "complete");
    }
}

#[test]
fn what_was_used_is_in_the_log() {
    let upstream = Upstream::start(|exchange| {
        let streamed = exchange.request.body == Request::streamed().body_bytes();
        exchange.send(if streamed {
            openai::stream(&["a", "b"])
        } else {
            openai::plain()
        });
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    assert_eq!(
        gateway
            .call(&Request::streamed().id("streamed"))
            .payload
            .len(),
        {
            let texts = [
                openai::created(),
                openai::delta("a"),
                openai::delta("b"),
                openai::completed(),
            ];
            texts.concat().len()
        }
    );
    gateway.call(&Request::plain().id("plain"));
    for (id, events) in [("streamed", 4), ("plain", 0)] {
        let line = gateway.logged(id);
        let shown = line.to_string();
        for (member, value) in [
            ("input_tokens", 11),
            ("cached_tokens", 3),
            ("output_tokens", 7),
            ("reasoning_tokens", 2),
            ("status", 200),
            ("attempts", 1),
        ] {
            assert_eq!(line[member], value, "{member}: {shown}");
        }
        assert_eq!(
            line["events"].as_u64().unwrap_or_default(),
            events,
            "{shown}"
        );
        assert_eq!(
            (&line["tenant"], &line["account"]),
            (&"acme".into(), &"first".into()),
            "{shown}"
        );
        assert_eq!(
            (&line["model"], &line["egress"]),
            (&"gpt-5".into(), &"127.0.7.1".into()),
            "{shown}"
        );
        for member in [
            "overhead_us",
            "ttfb_ms",
            "duration_ms",
            "bytes_in",
            "bytes_out",
        ] {
            assert!(line[member].is_number(), "{member}: {shown}");
        }
    }
}

#[test]
fn an_answer_without_a_body_is_no_stream_to_wait_for() {
    let typed = "content-type: text/event-stream";
    let answers = [
        ("HEAD", format!("HTTP/1.1 200 OK\r\n{typed}\r\n\r\n")),
        (
            "HEAD",
            format!("HTTP/1.1 200 OK\r\n{typed}\r\ncontent-length: 9999\r\n\r\n"),
        ),
        (
            "HEAD",
            format!("HTTP/1.1 200 OK\r\n{typed}\r\ntransfer-encoding: chunked\r\n\r\n"),
        ),
        (
            "POST",
            format!("HTTP/1.1 204 No Content\r\n{typed}\r\n\r\n"),
        ),
        (
            "GET",
            format!("HTTP/1.1 304 Not Modified\r\n{typed}\r\n\r\n"),
        ),
        (
            "POST",
            format!("HTTP/1.1 200 OK\r\n{typed}\r\ncontent-length: 0\r\n\r\n"),
        ),
    ];
    for (method, answer) in answers {
        let upstream = Upstream::answering(answer.as_bytes());
        // The first event may take three minutes: whoever waits for one fails here.
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let request = Request::new(method, "/v1/responses");
        let mut client = gateway.client();
        for _ in 0..2 {
            let received = client.call(&request);
            assert!(
                answer.starts_with(&received.head.start_line[..12]),
                "{answer:?}"
            );
            assert_eq!(received.ending, Ending::Complete, "{answer:?}");
            assert_eq!(received.payload, b"", "{answer:?}");
        }
        assert_eq!(upstream.completed(), 2, "{answer:?}");
        assert_eq!(upstream.connection_count(), 1, "{answer:?}");
    }
}
