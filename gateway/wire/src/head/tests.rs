//! One table a rule: what breaks it, and what comes close and is fine.

mod fields;
mod response;
mod start_line;

use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 32 * 1024,
    fields_max: 100,
    target_bytes_max: 4096,
};

fn request(head: &[u8]) -> Result<Option<RequestHead>, FramingError> {
    RequestHead::parse(head, &LIMITS)
}

/// The verdict on a GET with these field lines besides Host.
fn with_fields(lines: &[u8]) -> Result<RequestHead, FramingError> {
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n"].concat();
    request(&head).map(|head| head.expect("the head is complete"))
}

fn with_target(method: &str, target: &str) -> Result<RequestHead, FramingError> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a.b:80\r\n\r\n");
    request(head.as_bytes()).map(|head| head.expect("the head is complete"))
}

#[track_caller]
fn assert_refused(head: &[u8], error: FramingError) {
    let refused = request(head).err();
    assert_eq!(refused, Some(error), "{:?}", String::from_utf8_lossy(head));
}

#[test]
fn a_usual_request_is_taken_apart() {
    let buffer = b"POST /v1/responses?a=%2F HTTP/1.1\r\nHost: gw.example:8080\r\nX-Empty:\r\n\
                   Content-Length:  12 \t\r\n\r\nbody";
    let head = request(buffer).unwrap().unwrap();
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.target.of(buffer), b"/v1/responses?a=%2F");
    assert_eq!(head.path.of(buffer), b"/v1/responses");
    assert_eq!(head.framing, Framing::Length(12));
    assert!(head.keep_alive && !head.expects_continue);
    assert_eq!(&buffer[head.head_bytes..], b"body");
    assert_eq!(head.value(buffer, "x-empty"), Some(&b""[..]));
    assert_eq!(head.value(buffer, "host"), Some(&b"gw.example:8080"[..]));
    assert_eq!(head.value(buffer, "content-length"), Some(&b"12"[..]));
    assert_eq!(head.value(buffer, "cookie"), None);
    let names: Vec<_> = head
        .fields
        .iter()
        .map(|field| field.name.of(buffer))
        .collect();
    assert_eq!(names, [&b"Host"[..], b"X-Empty", b"Content-Length"]);
}

#[test]
fn every_line_ends_in_crlf() {
    for head in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\rX",
        b"GET / HTTP/1.1\r\nHost\r: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\n: a\r\n\r\n",
        b"GET /\n",
        b"GET /a\rb HTTP/1.1\r\n",
        b"GET / HT\nTP/1.1\r\n",
        b"GE\nT / HTTP/1.1\r\n",
        b"GE\rT / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nA: b\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n",
    ] {
        assert_refused(head, FramingError::BareLineBreak);
    }
}

#[test]
fn limits_hold_before_the_head_is_complete() {
    let limits = HeadLimits {
        head_bytes_max: 64,
        fields_max: 2,
        target_bytes_max: 10,
    };
    let parse =
        |head: &str| RequestHead::parse(head.as_bytes(), &limits).map(|head| head.is_some());
    assert_eq!(
        parse("GET /123456789 HTTP/1.1\r\nHost: a\r\n\r\n"),
        Ok(true)
    );
    assert_eq!(parse("GET /1234567890"), Err(FramingError::TargetTooLong));
    assert_eq!(
        parse("GET /1234567890 HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(FramingError::TargetTooLong)
    );
    assert_eq!(parse("GET / HTTP/1.1\r\nA:\r\nHost: a\r\n\r\n"), Ok(true));
    assert_eq!(
        parse("GET / HTTP/1.1\r\nA:\r\nB:\r\nC"),
        Err(FramingError::TooManyFields)
    );
    assert_eq!(
        parse("GET / HTTP/1.1\r\nA:\r\nB:\r\nHost: a\r\n\r\n"),
        Err(FramingError::TooManyFields)
    );
    let of_length = |bytes: usize, end: &str| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nB: ";
        format!(
            "{start}{}{end}",
            "x".repeat(bytes - start.len() - end.len())
        )
    };
    assert_eq!(parse(&of_length(64, "\r\n\r\n")), Ok(true));
    assert_eq!(parse(&of_length(63, "")), Ok(false));
    assert_eq!(
        parse(&of_length(64, "\r\n\r")),
        Err(FramingError::HeadTooLarge)
    );
    assert_eq!(
        parse(&of_length(65, "\r\n\r\n")),
        Err(FramingError::HeadTooLarge)
    );
    assert_eq!(
        parse(&format!("{}body", of_length(64, "\r\n\r\n"))),
        Ok(true)
    );
}

#[test]
fn limits_beyond_the_ceilings_count_as_those() {
    let limits = HeadLimits {
        head_bytes_max: usize::MAX,
        fields_max: usize::MAX,
        target_bytes_max: usize::MAX,
    };
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nB: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let error = RequestHead::parse(long.as_bytes(), &limits).unwrap_err();
    assert_eq!(error, FramingError::HeadTooLarge);
    let many = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "B:\r\n".repeat(count)
        )
    };
    assert_eq!(
        RequestHead::parse(many(255).as_bytes(), &limits)
            .unwrap()
            .unwrap()
            .fields
            .len(),
        256
    );
    let error = RequestHead::parse(many(256).as_bytes(), &limits).unwrap_err();
    assert_eq!(error, FramingError::TooManyFields);
}

#[test]
fn every_error_has_a_status_a_sentence_and_a_name_of_its_own() {
    let all = [
        FramingError::Malformed,
        FramingError::VersionNotSupported,
        FramingError::MethodRefused,
        FramingError::BareLineBreak,
        FramingError::FoldedLine,
        FramingError::ControlCharacter,
        FramingError::SpaceBeforeColon,
        FramingError::LengthAndChunked,
        FramingError::DuplicateLength,
        FramingError::InvalidLength,
        FramingError::UnsupportedTransferEncoding,
        FramingError::InvalidHost,
        FramingError::AuthorityMismatch,
        FramingError::InvalidTarget,
        FramingError::UnsupportedExpectation,
        FramingError::TargetTooLong,
        FramingError::HeadTooLarge,
        FramingError::TooManyFields,
        FramingError::ForbiddenBody,
    ];
    let mut kinds = std::collections::HashSet::new();
    for error in all {
        assert!(kinds.insert(error.kind()), "{error:?}");
        assert!(
            error
                .kind()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        assert!(error.message().ends_with('.'));
        assert!(!crate::encode::reason(error.status()).is_empty());
    }
    assert_eq!(FramingError::MethodRefused.status(), 405);
    assert_eq!(FramingError::TargetTooLong.status(), 414);
    assert_eq!(FramingError::UnsupportedExpectation.status(), 417);
    assert_eq!(FramingError::HeadTooLarge.status(), 431);
    assert_eq!(FramingError::TooManyFields.status(), 431);
    assert_eq!(FramingError::VersionNotSupported.status(), 505);
    assert_eq!(FramingError::LengthAndChunked.status(), 400);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The tokeniser and the grammar are two readings of the same rules, and refuse the same heads.
    #[test]
    fn tokeniser_and_grammar_agree(
        fields in proptest::collection::vec("[ -~\t]{0,3}[:a-z\r\n\x00\x7f\u{e9}]{0,2}[ -~]{0,2}", 0..4),
        line in prop_oneof!["GET / HTTP/1\\.[01]", "HTTP/1.1 [1-5][0-9]{2}( [ -~\t\u{e9}]{0,3})?"],
    ) {
        let mut head = line.clone();
        head.push_str("\r\n");
        for field in fields {
            head.push_str(&field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let head = head.as_bytes();
        let Some(range) = find_head(within(head, &LIMITS), 0) else {
            return Ok(());
        };
        let mut slots = [const { MaybeUninit::uninit() }; 16];
        let (tokenised, start_line) = if line.starts_with('G') {
            let mut tokens = httparse::Request::new(&mut []);
            let parsed = tokens.parse_with_uninit_headers(&head[range.clone()], &mut slots);
            (parsed, StartLine::Request { target_bytes_max: 9 })
        } else {
            let mut tokens = httparse::Response::new(&mut []);
            let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
                &mut tokens, &head[range.clone()], &mut slots,
            );
            (parsed, StartLine::Response)
        };
        let is_whole = tokenised == Ok(httparse::Status::Complete(range.len()));
        let verdict = grammar::verdict(head, 0, start_line, &LIMITS, true);
        prop_assert_eq!(is_whole, verdict.is_ok(), "{:?} {:?}", tokenised, verdict);
    }
    /// One line end that is not CR LF, and the head is none.
    #[test]
    fn every_line_ends_in_cr_lf(
        line in prop_oneof!["GET / HTTP/1\\.0", "HTTP/1\\.1 [1-5][0-9]{2} OK"],
        fields in proptest::collection::vec("[a-z]{1,3}:[ a-z]{0,3}", 0..4),
        odd in 0_usize..6,
        ending in prop_oneof![Just("\n"), Just("\r"), Just("\n\r")],
    ) {
        let mut head = String::new();
        let lines: Vec<&str> = std::iter::once(&line).chain(&fields).map(String::as_str).chain([""]).collect();
        for (at, line) in lines.iter().enumerate() {
            head.push_str(line);
            head.push_str(if at == odd { ending } else { "\r\n" });
        }
        let bytes = [head.as_bytes(), b"{}"].concat();
        let is_taken = if line.starts_with('G') {
            RequestHead::parse(&bytes, &LIMITS).is_ok_and(|head| head.is_some())
        } else {
            ResponseHead::parse(&bytes, &LIMITS, false).is_ok_and(|head| head.is_some())
        };
        prop_assert_eq!(is_taken, odd >= lines.len(), "{:?}", head);
    }
}
