//! Heads of responses.

use super::*;

fn response(head: &[u8], head_request: bool) -> Result<Option<ResponseHead>, FramingError> {
    ResponseHead::parse(head, &LIMITS, head_request)
}

#[test]
fn a_usual_response_is_taken_apart() {
    let buffer = b"HTTP/1.1 200 OK, sehr gut \xfc\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n0";
    let head = response(buffer, false).unwrap().unwrap();
    assert_eq!(
        (head.status, head.version, head.framing),
        (200, Version::Http11, Framing::Chunked)
    );
    assert!(head.keep_alive);
    assert_eq!(head.head_bytes, buffer.len() - 1);
    assert_eq!(head.value(buffer, "content-type"), Some(&b"a/b"[..]));
}

#[test]
fn response_bodies_end_as_status_and_fields_say() {
    let length = "Content-Length: 5\r\n";
    let zero = "Content-Length: 0\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (status, fields, head_request, framing) in [
        (200, length, false, Ok(Framing::Length(5))),
        (200, zero, false, Ok(Framing::Length(0))),
        (200, chunked, false, Ok(Framing::Chunked)),
        (200, "", false, Ok(Framing::UntilClose)),
        (599, "", false, Ok(Framing::UntilClose)),
        (200, length, true, Ok(Framing::Empty)),
        (200, chunked, true, Ok(Framing::Empty)),
        (200, "", true, Ok(Framing::Empty)),
        (304, "", false, Ok(Framing::Empty)),
        (304, length, false, Ok(Framing::Empty)),
        (304, chunked, false, Ok(Framing::Empty)),
        (204, "", false, Ok(Framing::Empty)),
        (204, zero, false, Ok(Framing::Empty)),
        (204, length, false, Err(FramingError::ForbiddenBody)),
        (204, length, true, Err(FramingError::ForbiddenBody)),
        (204, chunked, false, Err(FramingError::ForbiddenBody)),
        (100, "", false, Ok(Framing::Empty)),
        (103, "Link: x\r\n", false, Ok(Framing::Empty)),
        (101, "Upgrade: x\r\n", false, Ok(Framing::Empty)),
        (100, length, false, Err(FramingError::ForbiddenBody)),
        (199, chunked, false, Err(FramingError::ForbiddenBody)),
        (
            200,
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            false,
            Err(FramingError::LengthAndChunked),
        ),
        (
            304,
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            true,
            Err(FramingError::LengthAndChunked),
        ),
        (
            200,
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            true,
            Err(FramingError::DuplicateLength),
        ),
        (
            200,
            "Content-Length: -1\r\n",
            false,
            Err(FramingError::InvalidLength),
        ),
        (
            200,
            "Transfer-Encoding: gzip, chunked\r\n",
            false,
            Err(FramingError::UnsupportedTransferEncoding),
        ),
        (
            200,
            "Transfer-Encoding: identity\r\n",
            false,
            Err(FramingError::UnsupportedTransferEncoding),
        ),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let parsed = response(head.as_bytes(), head_request);
        assert_eq!(parsed.map(|head| head.unwrap().framing), framing, "{head}");
    }
    let old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        response(old, false).unwrap_err(),
        FramingError::UnsupportedTransferEncoding
    );
}

#[test]
fn an_upstream_connection_is_kept_only_if_the_body_ends_before_it() {
    for (head, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 204 \r\n\r\n", true),
    ] {
        assert_eq!(
            response(head.as_bytes(), false)
                .unwrap()
                .unwrap()
                .keep_alive,
            kept,
            "{head}"
        );
    }
}

#[test]
fn status_lines_are_held_to_the_grammar() {
    for line in [
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.1 200  a\tb\r\n",
    ] {
        response(format!("{line}\r\n").as_bytes(), false)
            .unwrap()
            .unwrap();
    }
    for (line, error) in [
        ("HTTP/1.1 099 X\r\n", FramingError::Malformed),
        ("HTTP/1.1 600 X\r\n", FramingError::Malformed),
        ("HTTP/1.1 20 X\r\n", FramingError::Malformed),
        ("HTTP/1.1 2000 X\r\n", FramingError::Malformed),
        ("HTTP/1.1 +20 X\r\n", FramingError::Malformed),
        ("HTTP/1.1  200 X\r\n", FramingError::Malformed),
        ("HTTP/1.1\r\n", FramingError::Malformed),
        ("\r\nHTTP/1.1 200 X\r\n", FramingError::Malformed),
        ("ICY 200 OK\r\n", FramingError::Malformed),
        ("HTTP/2.0 200 X\r\n", FramingError::VersionNotSupported),
        ("HTTP/1.1 200 X\n", FramingError::BareLineBreak),
        ("HTTP/1.1 200 X\rY\r\n", FramingError::BareLineBreak),
        ("HTTP/1.1 200\n", FramingError::BareLineBreak),
        ("HTTP/1.1 200 X\u{0}\r\n", FramingError::ControlCharacter),
        ("HTTP/1.1 200 X\r\nA: b\r\n c\r\n", FramingError::FoldedLine),
        (
            "HTTP/1.1 200 X\r\nA : b\r\n",
            FramingError::SpaceBeforeColon,
        ),
        (
            "HTTP/1.1 200 X\r\nA: \u{1}\r\n",
            FramingError::ControlCharacter,
        ),
    ] {
        let refused = response(format!("{line}\r\n").as_bytes(), false).err();
        assert_eq!(refused, Some(error), "{line:?}");
    }
}
