use super::*;

#[test]
fn a_request_becomes_the_text_of_a_head() {
    let parts = asked(
        "POST",
        "https://Relay.example:8443/v1/responses?a=%20",
        &[
            ("content-type", "application/json"),
            ("cookie", "a=1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("cookie", "b=2"),
        ],
    );
    let (text, framing) = request_text(&parts, false).unwrap();
    let wanted = "POST /v1/responses?a=%20 HTTP/1.1\r\nhost: Relay.example:8443\r\n\
                  content-type: application/json\r\nexpect: 100-continue\r\ncookie: a=1; b=2\r\n\
                  transfer-encoding: chunked\r\n\r\n";
    assert_eq!((text.as_str(), framing), (wanted, Framing::Chunked));
    let head = RequestHead::parse(text.as_bytes(), &LIMITS)
        .unwrap()
        .unwrap();
    assert!(head.expects_continue && head.keep_alive);
}

#[test]
fn the_body_is_framed_as_announced() {
    for (fields, end_stream, wanted) in [
        (&[][..], true, Ok(Framing::Empty)),
        (&[][..], false, Ok(Framing::Chunked)),
        (&[("content-length", "5")], false, Ok(Framing::Length(5))),
        (&[("content-length", "0")], false, Ok(Framing::Empty)),
        (&[("content-length", "0")], true, Ok(Framing::Empty)),
        (
            &[("content-length", "5")],
            true,
            Err(RequestError::Malformed),
        ),
        (
            &[("content-length", "5"), ("content-length", "5")],
            false,
            Err(FramingError::DuplicateLength.into()),
        ),
        (
            &[("content-length", "5, 5")],
            false,
            Err(FramingError::DuplicateLength.into()),
        ),
        (
            &[("content-length", "+5")],
            false,
            Err(FramingError::InvalidLength.into()),
        ),
    ] {
        let found = request_text(&asked("POST", "https://a/", fields), end_stream);
        let found = found.map(|(text, framing)| {
            let head = RequestHead::parse(text.as_bytes(), &LIMITS);
            assert_eq!(head.unwrap().unwrap().framing, framing, "{text}");
            framing
        });
        assert_eq!(found, wanted, "{fields:?} {end_stream}");
    }
}

#[test]
fn there_is_one_authority() {
    use FramingError::{AuthorityMismatch, InvalidHost};
    for (uri, hosts, wanted) in [
        ("https://a:1/", &[][..], Ok("a:1")),
        ("https://a:1/", &["A:1"], Ok("a:1")),
        ("/", &["a"], Ok("a")),
        ("https://a/", &["b"], Err(AuthorityMismatch)),
        ("https://a/", &["a", "a"], Err(InvalidHost)),
        ("https://a/", &[""], Err(AuthorityMismatch)),
        ("/", &["a", "b"], Err(InvalidHost)),
        ("/", &[], Err(InvalidHost)),
    ] {
        let fields: Vec<_> = hosts.iter().map(|&host| ("host", host)).collect();
        let found = request_text(&asked("GET", uri, &fields), true);
        match (found, wanted) {
            (Ok((text, _)), Ok(host)) => {
                assert_eq!(text, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
            }
            (found, wanted) => assert_eq!(
                found.map(|_| ""),
                wanted.map_err(RequestError::Refused),
                "{uri} {hosts:?}"
            ),
        }
    }
}

#[test]
fn the_target_is_an_origin_form_or_an_asterisk() {
    for (method, uri, target) in [
        ("GET", "https://a", "/"),
        ("OPTIONS", "*", "*"),
        ("GET", "https://a/b?c=/d?", "/b?c=/d?"),
    ] {
        let (text, _) = request_text(&asked(method, uri, &[("host", "a")]), true).unwrap();
        assert!(
            text.starts_with(&format!("{method} {target} HTTP/1.1\r\n")),
            "{text}"
        );
    }
    let long = format!("https://a/{}", "b".repeat(64));
    for (method, uri, error) in [
        ("GET", "https://a/ü", FramingError::InvalidTarget),
        ("GET", "ftp://a/", FramingError::AuthorityMismatch),
        ("GET", long.as_str(), FramingError::TargetTooLong),
        ("CONNECT", "a:443", FramingError::MethodRefused),
        ("TRACE", "https://a/", FramingError::MethodRefused),
        ("get", "https://a/", FramingError::MethodRefused),
    ] {
        let found = request_text(&asked(method, uri, &[]), true);
        assert_eq!(found, Err(error.into()), "{method} {uri}");
    }
}

#[test]
fn what_belongs_to_one_connection_is_malformed() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("x-any", " a"),
        ("x-any", "a\t"),
    ] {
        let found = request_text(&asked("GET", "https://a/", &[(name, value)]), true);
        assert_eq!(found, Err(RequestError::Malformed), "{name}: {value:?}");
    }
}

#[test]
fn crumbs_count_one_by_one() {
    let crumbs = |count| vec![("cookie", "a=b"); count];
    assert!(request_text(&asked("GET", "https://a/", &crumbs(7)), true).is_ok());
    let too_many = Err(FramingError::TooManyFields.into());
    let parts = asked("GET", "https://a/", &crumbs(8));
    assert_eq!(request_text(&parts, true), too_many);
    // The framing that a body needs counts, too.
    let parts = asked("GET", "https://a/", &crumbs(7));
    assert_eq!(request_text(&parts, false), too_many);
    let long = "a".repeat(1024);
    let parts = asked("GET", "https://a/", &[("x-long", &long)]);
    let too_large = Err(FramingError::HeadTooLarge.into());
    assert_eq!(request_text(&parts, true), too_large);
}
