use super::{changed, changes, cuts, pieces};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, Uri, request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use relay_wire::body::{BodyParser, Piece, Sender};
use relay_wire::head::{Field, Framing, HeadLimits, RequestHead, ResponseHead};
use relay_wire::translate::{
    AnswerEvent, AnswerReader, BodyWriter, RequestEvent, RequestReader, request_head, response_head,
};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 2000,
    fields_max: 12,
    target_bytes_max: 60,
};

/// Text of which bytes that mean something somewhere are a large part.
fn hostile_bytes(bytes_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => select(&b"ab19AZ/?%2e[]:@#*.,;= \t\r\n\0\x7f\x80\xff\"{}|\\^`-_~"[..]),
        1 => any::<u8>(),
    ];
    vec(byte, 0..bytes_max)
}

fn name() -> impl Strategy<Value = HeaderName> {
    const NAMES: [&str; 16] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "expect",
        "cookie",
        "set-cookie",
        "content-type",
        "trailer",
        "authorization",
        "x",
        "!#$%&'*+-.^_`|~",
    ];
    prop_oneof![
        3 => select(&NAMES[..]).prop_map(HeaderName::from_static),
        2 => select(&NAMES[9..]).prop_map(HeaderName::from_static),
        1 => hostile_bytes(6).prop_map(|mut bytes| {
            bytes.retain(u8::is_ascii_graphic);
            HeaderName::from_bytes(&bytes).unwrap_or(HOST)
        }),
    ]
}

fn value() -> impl Strategy<Value = HeaderValue> {
    let likely = [
        "",
        "0",
        "5",
        "5, 5",
        "+5",
        "trailers",
        "a",
        "b",
        "A",
        "a:80",
        "chunked",
        "close",
        "100-continue",
    ];
    prop_oneof![
        3 => select(likely.to_vec()).prop_map(HeaderValue::from_static),
        1 => hostile_bytes(12)
            .prop_filter_map("no value", |bytes| HeaderValue::from_bytes(&bytes).ok()),
    ]
}

fn uri() -> impl Strategy<Value = Uri> {
    let authority = prop_oneof![
        3 => select(&["a", "b", "a:80", "[::1]:80", "u@a"][..])
            .prop_map(|text| Some(Authority::from_static(text))),
        1 => Just(None),
        1 => hostile_bytes(8)
            .prop_filter_map("no authority", |bytes| Authority::try_from(&bytes[..]).ok())
            .prop_map(Some),
    ];
    let target = prop_oneof![
        3 => select(&["/", "*", "/v1/x?a=%20", "/a//b", "/%2e%2e/b", "?a", "/\u{fc}"][..])
            .prop_map(|text| PathAndQuery::try_from(text).expect("a path")),
        2 => hostile_bytes(70).prop_filter_map("no path", |bytes| {
            PathAndQuery::try_from(&[b"/", &bytes[..]].concat()[..]).ok()
        }),
        1 => hostile_bytes(20)
            .prop_filter_map("no path", |bytes| PathAndQuery::try_from(&bytes[..]).ok()),
    ];
    let scheme = select(&["http", "https", "ftp"][..]);
    (authority, target, scheme).prop_filter_map("no URI", |(authority, target, scheme)| {
        let mut parts = http::uri::Parts::default();
        if authority.is_some() {
            parts.scheme = scheme.parse().ok();
        }
        parts.authority = authority;
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).ok()
    })
}

fn any_request() -> impl Strategy<Value = request::Parts> {
    let method = prop_oneof![
        4 => select(&["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "TRACE", "PRI", "get"][..])
            .prop_map(|token| token.as_bytes().to_vec()),
        1 => hostile_bytes(9),
    ];
    let method = method.prop_filter_map("no method", |token| http::Method::from_bytes(&token).ok());
    let fields = vec((name(), value()), 0..14);
    (method, uri(), fields).prop_map(|(method, uri, fields)| {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (name, value) in fields {
            request.headers_mut().append(name, value);
        }
        request.into_parts().0
    })
}

/// What nobody has a reason to refuse: `Err` is a fault then.
fn proper_request() -> impl Strategy<Value = request::Parts> {
    let names = [
        "accept",
        "cookie",
        "te",
        "x-any",
        "authorization",
        "x-api-key",
    ];
    let value = vec(prop_oneof![0x21..0x7f_u8, 0x80..=0xff_u8], 1..9);
    let field = (select(names.to_vec()), value).prop_map(|(name, value)| match name {
        "te" => (
            HeaderName::from_static(name),
            HeaderValue::from_static("trailers"),
        ),
        name => (
            HeaderName::from_static(name),
            HeaderValue::from_bytes(&value).expect("a value"),
        ),
    });
    let segment = vec(select(&b"abz09-._~!$&'()*+,;=:@"[..]), 3..6);
    let path = vec(segment.clone(), 1..4).prop_map(|segments| segments.join(&b'/'));
    let query = prop_oneof![Just(None), segment.prop_map(Some)];
    let authority = select(&["a", "a.b:80", "[::1]"][..]);
    let method = select(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"][..]);
    (
        method,
        authority,
        path,
        query,
        vec(field, 0..9),
        any::<bool>(),
    )
        .prop_map(|(method, authority, path, query, fields, names_host)| {
            let path = String::from_utf8(path).expect("ASCII");
            let query = query.map(|query| String::from_utf8(query).expect("ASCII"));
            let query = query.map_or(String::new(), |query| format!("?{query}"));
            let uri = format!("https://{authority}/{path}{query}");
            let mut builder = Request::builder().method(method).uri(uri);
            if names_host {
                builder = builder.header(HOST, authority);
            }
            for (name, value) in fields {
                builder = builder.header(name, value);
            }
            let request = builder.body(()).expect("a proper request");
            request.into_parts().0
        })
}

/// The fields that a request has in HTTP/1.1, `Host` first and a cookie in one piece and last.
fn fields_of(parts: &request::Parts) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
    };
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => parts.headers[HOST].as_bytes().to_vec(),
    };
    let mut fields = vec![(b"host".to_vec(), host)];
    let others = parts.headers.iter();
    fields.extend(
        others
            .filter(|(name, _)| ![HOST, COOKIE, TE].contains(name))
            .map(own),
    );
    let crumbs: Vec<&[u8]> = parts
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|crumb| !crumb.is_empty())
        .collect();
    if parts.headers.contains_key(COOKIE) {
        fields.push((b"cookie".to_vec(), crumbs.join(&b"; "[..])));
    }
    fields
}

fn read_fields(fields: &[Field], text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let part = |field: &Field| (field.name.of(text).to_vec(), field.value.of(text).to_vec());
    fields.iter().map(part).collect()
}

/// The text says what the request says, all of it and nothing else.
fn assert_same(
    parts: &request::Parts,
    text: &[u8],
    head: &RequestHead,
    framing: Framing,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(head.head_bytes, text.len());
    prop_assert_eq!(head.method.as_str(), parts.method.as_str());
    let target = parts.uri.path_and_query().map(PathAndQuery::as_str);
    prop_assert_eq!(Some(head.target.of(text)), target.map(str::as_bytes));
    prop_assert_eq!(head.framing, framing);
    let mut wanted = fields_of(parts);
    if framing == Framing::Chunked {
        wanted.push((b"transfer-encoding".to_vec(), b"chunked".to_vec()));
    }
    prop_assert_eq!(read_fields(&head.fields, text), wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// No request can be written that is read as another one, or as more than one.
    #[test]
    fn a_request_is_read_as_itself_or_refused(parts in any_request(), end_stream in any::<bool>()) {
        let mut text = Vec::new();
        let Ok(framing) = request_head(&parts, end_stream, &LIMITS, &mut text) else {
            return Ok(());
        };
        match RequestHead::parse(&text, &LIMITS) {
            Ok(Some(head)) => assert_same(&parts, &text, &head, framing)?,
            Ok(None) => prop_assert!(false, "not complete: {:?}", text.escape_ascii().to_string()),
            Err(_) => {}
        }
    }

    #[test]
    fn a_proper_request_goes_there_and_back(
        parts in proper_request(),
        end_stream in any::<bool>(),
        cuts in cuts(),
    ) {
        let mut text = Vec::new();
        let framing = request_head(&parts, end_stream, &LIMITS, &mut text).unwrap();
        let head = RequestHead::parse(&text, &LIMITS).unwrap().unwrap();
        assert_same(&parts, &text, &head, framing)?;

        let events = read_request(&pieces(&text, &cuts));
        let Some(Ok(RequestEvent::Head(again))) = events.first() else {
            return Err(TestCaseError::fail(format!("{events:?}")));
        };
        prop_assert_eq!(again.method(), &parts.method);
        prop_assert_eq!(again.uri(), &parts.uri);
        let mut text_again = Vec::new();
        let (again, ()) = again.clone().into_parts();
        let framing_again = request_head(&again, end_stream, &LIMITS, &mut text_again).unwrap();
        prop_assert_eq!(framing_again, framing);
        prop_assert_eq!(text_again.escape_ascii().to_string(), text.escape_ascii().to_string());
    }

    #[test]
    fn an_answer_is_read_as_itself_or_refused(
        status in 100..=999_u16,
        fields in vec((name(), value()), 0..14),
        end_stream in any::<bool>(),
        head_request in any::<bool>(),
    ) {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(name, value);
        }
        let (parts, ()) = response.into_parts();
        let mut text = Vec::new();
        let Ok(framing) = response_head(&parts, end_stream, head_request, &mut text) else {
            return Ok(());
        };
        let head = match ResponseHead::parse(&text, &LIMITS, head_request) {
            Ok(Some(head)) => head,
            Ok(None) => return Err(TestCaseError::fail("not complete")),
            Err(_) => return Ok(()),
        };
        prop_assert_eq!(head.head_bytes, text.len());
        prop_assert_eq!(head.status, status);
        prop_assert_eq!(head.framing, framing);
        prop_assert_ne!(framing, Framing::UntilClose);
        let mut wanted: Vec<_> = parts.headers.iter().map(|(name, value)| {
            let value = value.as_bytes().trim_ascii();
            (name.as_str().as_bytes().to_vec(), value.to_vec())
        }).collect();
        let mut found = read_fields(&head.fields, &text);
        if status >= 200 {
            let close = (b"connection".to_vec(), b"close".to_vec());
            prop_assert_eq!(found.pop(), Some(close));
        }
        match framing {
            Framing::Chunked => wanted.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
            Framing::Length(0) if !parts.headers.contains_key(CONTENT_LENGTH) => {
                wanted.push((b"content-length".to_vec(), b"0".to_vec()));
            }
            _ => {}
        }
        prop_assert_eq!(found, wanted);
    }
}

type RequestEvents = Vec<Result<RequestEvent, String>>;

fn read_request(pieces: &[&[u8]]) -> RequestEvents {
    let mut reader = RequestReader::new(Scheme::HTTPS);
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(event)) => events.push(Ok(event)),
                Ok(None) => break,
                Err(error) => {
                    events.push(Err(format!("{error:?}")));
                    return events;
                }
            }
        }
        assert!(input.is_empty(), "something was left over");
    }
    events
}

/// Everything that comes of an answer, its payload in one piece.
fn read_answer(head_request: bool, pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut reader = AnswerReader::new(head_request);
    let (mut events, mut payload) = (Vec::new(), Vec::new());
    let mut is_at_end = false;
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(AnswerEvent::Payload(bytes))) => {
                    assert!(!bytes.is_empty() && !is_at_end);
                    payload.extend_from_slice(&bytes);
                }
                Ok(Some(event)) => {
                    assert!(!is_at_end || matches!(event, AnswerEvent::End));
                    events.push(format!("{event:?}"));
                }
                Err(error) => {
                    events.push(format!("{error:?}"));
                    return (events, payload);
                }
            }
            is_at_end = reader.is_at_end();
        }
        assert!(input.is_empty(), "something was left over");
    }
    (events, payload)
}

const ANSWERS: [&str; 5] = [
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n\
     3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nmore",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nabcde",
    "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nkeep-alive: 5\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
];

const REQUESTS: [&str; 3] = [
    "POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /v1?x HTTP/1.1\r\nhost: a:80\r\nX: y\r\nContent-Length: 5\r\n\r\nabcde",
    "GET / HTTP/1.1\r\nhost: [::1]\r\nauthorization: Bearer b\r\n\r\n",
];

const MEANINGFUL: &[u8] = b"\r\n\r\n \t:,\0\x7f\x80/;0123aX";

/// Framing for so many bytes of payload.
fn framing(kind: bool, payload_bytes: usize) -> Framing {
    if kind {
        Framing::Chunked
    } else {
        Framing::Length(payload_bytes as u64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_of_an_answer_make_no_difference(
        base in select(&ANSWERS[..]),
        changes in changes(MEANINGFUL),
        cuts in cuts(),
        head_request in any::<bool>(),
    ) {
        let input = changed(base.as_bytes(), &changes);
        let whole = read_answer(head_request, &[&input]);
        prop_assert_eq!(&read_answer(head_request, &pieces(&input, &cuts)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&read_answer(head_request, &bytes), &whole);
    }

    #[test]
    fn pieces_of_a_request_make_no_difference(
        base in select(&REQUESTS[..]),
        changes in changes(MEANINGFUL),
        cuts in cuts(),
    ) {
        let described = |pieces: &[&[u8]]| {
            let events = read_request(pieces);
            let mut payload = Vec::new();
            let mut described = Vec::new();
            for event in events {
                match event {
                    Ok(RequestEvent::Payload(bytes)) => payload.extend_from_slice(&bytes),
                    event => described.push(format!("{event:?}")),
                }
            }
            (described, payload)
        };
        let input = changed(base.as_bytes(), &changes);
        let whole = described(&[&input]);
        prop_assert_eq!(&described(&pieces(&input, &cuts)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&described(&bytes), &whole);
    }

    #[test]
    fn payload_arrives_and_opens_the_window_by_as_much(
        payloads in vec(vec(any::<u8>(), 0..40), 0..12),
        is_chunked in any::<bool>(),
        head_bytes in 0..100_usize,
        reads in vec(1..60_usize, 1..40),
    ) {
        let payload = payloads.concat();
        let framing = framing(is_chunked, payload.len());
        let mut writer = BodyWriter::new(framing, head_bytes);
        // Whether each byte on the way is payload, and how much of it has been read.
        let mut is_payload = vec![false; head_bytes];
        let (mut body, mut read, mut released) = (Vec::new(), 0, 0);
        let mut reads = reads.into_iter().cycle();
        for portion in payloads {
            let [before, portion, behind] = writer.data(portion.into()).unwrap();
            is_payload.extend(vec![false; before.len()]);
            is_payload.extend(vec![true; portion.len()]);
            is_payload.extend(vec![false; behind.len()]);
            body.extend([before, portion, behind].concat());
            let bytes = reads.next().unwrap().min(is_payload.len() - read);
            read += bytes;
            released += writer.consumed(bytes);
            let read_payload = is_payload[..read].iter().filter(|&&is| is).count();
            prop_assert!(released <= read_payload, "{} of {}", released, read_payload);
        }
        let last = writer.end().unwrap();
        body.extend_from_slice(&last);
        released += writer.consumed(is_payload.len() + last.len() - read);
        prop_assert_eq!(released, payload.len());

        let mut parser = BodyParser::new(framing, Sender::Client);
        let (mut at, mut found) = (0, Vec::new());
        while let Some(piece) = parser.next(&body, at).unwrap() {
            at = piece.end();
            match piece {
                Piece::Payload(range) => found.extend_from_slice(&body[range]),
                Piece::End(_) => break,
                Piece::Framing(_) | Piece::Trailer(_) => {}
            }
        }
        prop_assert!(parser.is_complete() && at == body.len());
        prop_assert_eq!(found, payload);
    }
}
