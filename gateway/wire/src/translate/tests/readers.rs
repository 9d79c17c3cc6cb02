use super::*;

fn events_of_answer(head_request: bool, pieces: &[&[u8]]) -> Vec<String> {
    let mut reader = AnswerReader::new(head_request);
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    events.push(format!("{event:?} end={}", reader.is_at_end()));
                }
                Err(error) => {
                    events.push(format!("{error:?}"));
                    return events;
                }
            }
        }
        assert!(input.is_empty());
    }
    events
}

#[test]
fn an_answer_in_chunks() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                 Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest";
    let events = events_of_answer(false, &[text]);
    let [informational, head, rest @ ..] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(informational.contains("status: 100"), "{informational}");
    let fields =
        r#"status: 200, version: HTTP/2.0, headers: {"set-cookie": "a", "set-cookie": "b"}"#;
    assert!(head.contains(fields), "{head}");
    let wanted = [
        r#"Payload(b"abc") end=false"#,
        r#"Payload(b"de") end=true"#,
        "End end=true",
    ];
    assert_eq!(rest, wanted);
}

#[test]
fn an_answer_without_a_body_is_at_its_end_with_its_head() {
    for (text, head_request) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\nabcd",
            true,
        ),
    ] {
        let events = events_of_answer(head_request, &[text.as_bytes()]);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0].ends_with("end=true"), "{events:?}");
        assert_eq!(events[1..], ["End end=true"]);
    }
}

#[test]
fn an_answer_that_is_cut_is_not_whole() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r",
    ] {
        let events = events_of_answer(false, &[text.as_bytes()]);
        assert!(
            !events.iter().any(|event| event.starts_with("End")),
            "{text:?}"
        );
    }
    let events = events_of_answer(false, &[b"HTTP/1.1 200 OK\r\n\r\nabc"]);
    assert_eq!(events[1..], [r#"Payload(b"abc") end=false"#]);
}

#[test]
fn what_is_no_answer_is_broken() {
    for (text, wanted) in [
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "Untranslatable"),
        (
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "Head(SpaceBeforeColon)",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx",
            "Body(InvalidChunkSize)",
        ),
    ] {
        let events = events_of_answer(false, &[text.as_bytes()]);
        assert_eq!(events.last().unwrap(), wanted, "{text:?}");
    }
    let endless = "a".repeat(70_000);
    let events = events_of_answer(false, &[endless.as_bytes()]);
    assert_eq!(events, ["Head(HeadTooLarge)"]);
}

#[test]
fn a_request_in_the_pieces_in_which_it_is_written() {
    let mut reader = RequestReader::new(Scheme::HTTPS);
    let mut events = Vec::new();
    for piece in [
        "POST /v1/x?y HTTP/1.1\r\nhost: api.example:8443\r\nX-Any: a\r\ncontent-length: 5",
        "\r\nauthorization: Bearer ",
        "secret",
        "\r\n\r\n",
        "abc",
        "de",
    ] {
        let mut input = Bytes::from_static(piece.as_bytes());
        while let Some(event) = reader.next(&mut input).unwrap() {
            events.push((event, reader.is_at_end()));
        }
    }
    let [
        (RequestEvent::Head(head), false),
        (RequestEvent::Payload(first), false),
        (RequestEvent::Payload(second), true),
        (RequestEvent::End, true),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(head.uri(), "https://api.example:8443/v1/x?y");
    assert_eq!(head.method(), "POST");
    let names: Vec<_> = head
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    assert_eq!(names, ["x-any", "content-length", "authorization"]);
    assert!(head.headers()["authorization"].is_sensitive());
    assert!(!head.headers()["x-any"].is_sensitive());
    assert_eq!([&first[..], &second[..]], [&b"abc"[..], b"de"]);
}

#[test]
fn an_asterisk_stays_one() {
    let mut reader = RequestReader::new(Scheme::HTTP);
    let mut input = Bytes::from_static(b"OPTIONS * HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
    let Ok(Some(RequestEvent::Head(head))) = reader.next(&mut input) else {
        panic!("no head");
    };
    assert!(reader.is_at_end());
    assert_eq!(head.uri().path_and_query().unwrap(), "*");
    assert_eq!(head.uri().authority().unwrap(), "[::1]:80");
    assert_eq!(head.uri().scheme(), Some(&Scheme::HTTP));
}
