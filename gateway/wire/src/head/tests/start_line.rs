//! Methods, targets and versions.

use super::*;

#[test]
fn at_most_two_empty_lines_come_before_a_request() {
    let head = b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let parsed = request(head).unwrap().unwrap();
    assert_eq!(parsed.head_bytes, head.len());
    assert_eq!(parsed.target.of(head), b"/x");
    assert_refused(b"\r\n\r\n\r\n", FramingError::Malformed);
    assert_refused(b"\n", FramingError::BareLineBreak);
    assert_refused(b"\r\rGET", FramingError::BareLineBreak);
    for incomplete in [&b""[..], b"\r", b"\r\n", b"\r\n\r\n\r"] {
        assert!(request(incomplete).unwrap().is_none());
    }
}

#[test]
fn only_relayed_methods_pass() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(with_target(method, "/").unwrap().method.as_str(), method);
    }
    for method in [
        "CONNECT", "TRACE", "get", "Get", "PROPFIND", "GETT", "G", "M-SEARCH",
    ] {
        assert_eq!(
            with_target(method, "/").unwrap_err(),
            FramingError::MethodRefused
        );
    }
    assert_refused(
        b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
        FramingError::MethodRefused,
    );
    assert_refused(b"ABCDEFGH", FramingError::MethodRefused);
    assert_refused(b"G\x16T / HTTP/1.1\r\n\r\n", FramingError::Malformed);
    assert_refused(b"\x16\x03\x01", FramingError::Malformed);
    assert_refused(b"GET\t/ HTTP/1.1\r\n", FramingError::Malformed);
    assert_refused(b"GET\r\n", FramingError::Malformed);
}

#[test]
fn only_two_versions_are_spoken() {
    for version in [
        "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "HTTP/1.9", "HTTP/9.1",
    ] {
        let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_refused(head.as_bytes(), FramingError::VersionNotSupported);
    }
    assert_refused(b"GET /\r\n", FramingError::VersionNotSupported);
    assert_refused(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        FramingError::VersionNotSupported,
    );
    assert_refused(
        b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
        FramingError::MethodRefused,
    );
    for version in [
        "http/1.1",
        "HTTP/1,1",
        "HTTP/1.1 ",
        "HTTP/1.11",
        "HTTP/x",
        "HTTP",
        "",
        "XTTP/1.1",
    ] {
        let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_refused(head.as_bytes(), FramingError::Malformed);
    }
    let head = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(request(head).unwrap().unwrap().version, Version::Http10);
}

#[test]
fn targets_are_held_to_the_grammar() {
    for target in [
        "",
        "a",
        "a/b",
        "*",
        "a.b:80",
        "?a",
        "//",
        "//a.b/c",
        "/#",
        "/a#b",
        "/a|b",
        "/a\"b",
        "/{a}",
        "/a^b",
        "/a`b",
        "/a\\b",
        "/<a>",
        "/[a]",
        "/a?[b]",
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/a%",
        "/\u{e9}",
        "/a\tb",
        "/a\u{1}b",
        "/a\u{0}b",
        "/a\u{7f}b",
        "http:/a.b/",
        "http:a.b",
        "://a.b/",
        "1http://a.b/",
        "http",
        "http://",
        "http:///",
        "http://a.b?x",
        "http://a.b/#x",
        "http://[::1/",
        "http://a.b//c",
    ] {
        let error = with_target("GET", target).unwrap_err();
        assert_eq!(error, FramingError::InvalidTarget, "{target}");
    }
    for target in [
        "/",
        "/?",
        "/?a//b/",
        "/a?b?c/d",
        "/-._~!$&'()*+,;=:@",
        "/%2F%00%fF",
        "/?a=%5B1%5D",
        "/?%61=%7E",
        "/a%2Fb/%2f/%3Ac/d%20e%25",
        "/v1/responses/resp_1/input_items",
        "/v1/models/ft:gpt-4o:org::id",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        "/.a",
        "/..a",
        "/a..",
        "/...",
        "/a?/../b",
    ] {
        let head = with_target("GET", target).unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert_eq!(
            usize::from(head.target.end - head.target.start),
            target.len()
        );
    }
    with_target("OPTIONS", "*").unwrap();
    assert_eq!(
        with_target("OPTIONS", "*/").unwrap_err(),
        FramingError::InvalidTarget
    );
}

#[test]
fn dot_segments_are_refused() {
    for path in [
        "/.",
        "/..",
        "/./",
        "/../",
        "/a/..",
        "/a/../b",
        "/a/./b",
        "/%2e",
        "/%2E%2e",
        "/a/.%2e/b",
        "/a/%2e./b",
        "/%2e/?x",
        "http://a.b:80/a/..",
        "http://A.B:80/%2e%2E/c",
    ] {
        assert_eq!(
            with_target("GET", path).unwrap_err(),
            FramingError::InvalidTarget,
            "{path}"
        );
    }
}

#[test]
fn paths_that_may_be_read_in_two_ways_are_refused() {
    for path in [
        "/a//b",
        "/a//",
        "/a/",
        "/a/?b",
        "/v1//responses",
        "/v1/responses/",
        "/v1/%72esponses",
        "/v1/messages/count%5Ftokens",
        "/v1beta/models/gemini%2Dpro:generateContent",
        "/%2e%2e%2e",
        "/%7E",
        "/a%2Fb%2D",
        "/%252F/%41",
        "http://a.b:80/a/",
    ] {
        assert_eq!(
            with_target("GET", path).unwrap_err(),
            FramingError::InvalidTarget,
            "{path}"
        );
    }
}

#[test]
fn an_absolute_form_names_the_host() {
    for (target, origin_form, path) in [
        ("http://a.b:80/c?d", "/c?d", "/c"),
        ("HTTPS://A.B:80/c", "/c", "/c"),
        ("http://a.b:80/?", "/?", "/"),
        ("http://a.b:80", "/", "/"),
    ] {
        let buffer = format!("GET {target} HTTP/1.1\r\nHost: a.b:80\r\n\r\n");
        let head = request(buffer.as_bytes()).unwrap().unwrap();
        assert_eq!(head.target.of(buffer.as_bytes()), origin_form.as_bytes());
        assert_eq!(head.path.of(buffer.as_bytes()), path.as_bytes());
    }
    for target in [
        "http://a.b/",
        "http://a.b:81/",
        "http://c:80/",
        "http://u@a.b:80/",
        "http://u:p@a.b:80/",
        "ftp://a.b:80/",
        "ws://a.b:80/",
        "javascript://a.b:80/",
    ] {
        assert_eq!(
            with_target("GET", target).unwrap_err(),
            FramingError::AuthorityMismatch,
            "{target}"
        );
    }
    // "*" is not in the buffer, so that it could not be named.
    assert_eq!(
        with_target("OPTIONS", "http://a.b:80").unwrap_err(),
        FramingError::InvalidTarget
    );
    with_target("OPTIONS", "http://a.b:80/").unwrap();
    let head = b"GET http://[::1]:8080/x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n";
    assert_eq!(request(head).unwrap().unwrap().target.of(head), b"/x");
}
