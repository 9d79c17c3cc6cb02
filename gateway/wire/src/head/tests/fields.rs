//! The rules about fields of requests.

use super::*;

#[test]
fn no_line_begins_with_white_space() {
    for head in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n \r\nHost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\tGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_refused(head, FramingError::FoldedLine);
    }
}

#[test]
fn fields_have_no_control_characters() {
    for byte in (0..0x20_u8)
        .chain([0x7f])
        .filter(|byte| !b"\t\r\n".contains(byte))
    {
        let error = with_fields(&[b"X: a", &[byte][..], b"b\r\n"].concat()).unwrap_err();
        assert_eq!(error, FramingError::ControlCharacter, "{byte} in a value");
        let error = with_fields(&[b"X", &[byte][..], b"Y: b\r\n"].concat()).unwrap_err();
        assert_eq!(error, FramingError::ControlCharacter, "{byte} in a name");
    }
    with_fields(b"X: \ta\tb \xff\x80 c\t\r\n").unwrap();
}

#[test]
fn names_are_tokens_with_the_colon_behind_them() {
    for line in [
        &b"X : a\r\n"[..],
        b"X\t: a\r\n",
        b": a\r\n",
        b":\r\n",
        b"X Y: a\r\n",
    ] {
        assert_eq!(
            with_fields(line).unwrap_err(),
            FramingError::SpaceBeforeColon
        );
    }
    for line in [
        &b"X\r\n"[..],
        b"X(: a\r\n",
        b"\"X\": a\r\n",
        b"X\x80: a\r\n",
        b"X/Y: a\r\n",
    ] {
        assert_eq!(with_fields(line).unwrap_err(), FramingError::Malformed);
    }
    with_fields(b"!#$%&'*+-.^_`|~09azAZ: a\r\n").unwrap();
}

#[test]
fn length_and_transfer_encoding_exclude_each_other() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: x\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
    ] {
        let error = with_fields(lines.as_bytes()).unwrap_err();
        assert_eq!(error, FramingError::LengthAndChunked);
    }
}

#[test]
fn there_is_one_length_and_it_is_a_number() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nCONTENT-LENGTH: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,\r\n",
    ] {
        let error = with_fields(lines.as_bytes()).unwrap_err();
        assert_eq!(error, FramingError::DuplicateLength, "{lines}");
    }
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5.0",
        "1e3",
        "five",
        "\u{663}",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        let error = with_fields(format!("Content-Length: {value}\r\n").as_bytes()).unwrap_err();
        assert_eq!(error, FramingError::InvalidLength, "{value}");
    }
    for (value, framing) in [
        ("0", Framing::Empty),
        ("000", Framing::Empty),
        ("5", Framing::Length(5)),
        ("0005", Framing::Length(5)),
        ("9223372036854775807", Framing::Length(i64::MAX as u64)),
    ] {
        let head = with_fields(format!("Content-Length: {value}\r\n").as_bytes()).unwrap();
        assert_eq!(head.framing, framing);
    }
    assert_eq!(with_fields(b"").unwrap().framing, Framing::Empty);
}

#[test]
fn the_only_transfer_encoding_is_chunked() {
    for lines in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let error = with_fields(lines.as_bytes()).unwrap_err();
        assert_eq!(error, FramingError::UnsupportedTransferEncoding, "{lines}");
    }
    assert_refused(
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        FramingError::UnsupportedTransferEncoding,
    );
    assert_eq!(
        with_fields(b"transfer-encoding: Chunked\r\n")
            .unwrap()
            .framing,
        Framing::Chunked
    );
    // Other fields that look alike are not it.
    let head = with_fields(b"Transfer_Encoding: chunked\r\nX-Content-Length: 5\r\n").unwrap();
    assert_eq!(head.framing, Framing::Empty);
}

#[test]
fn there_is_one_valid_host() {
    let with_host = |lines: &str| {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        request(head.as_bytes()).map(|head| head.expect("the head is complete"))
    };
    for lines in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a b\r\n",
        "Host: a, b\r\n",
        "Host: a,b\r\n",
        "Host: u@a\r\n",
        "Host: a/\r\n",
        "Host: a?\r\n",
        "Host: a#\r\n",
        "Host: a:\r\n",
        "Host: a:b\r\n",
        "Host: a:65536\r\n",
        "Host: a:1:2\r\n",
        "Host: :80\r\n",
        "Host: a%20b\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [::1]80\r\n",
        "Host: [::g]\r\n",
        "Host: [fe80::1%25eth0]\r\n",
        "Host: [v1.x]\r\n",
        "Host: b\u{fc}cher.de\r\n",
        "Host: a\\b\r\n",
        "Host: http://a\r\n",
    ] {
        assert_eq!(
            with_host(lines).unwrap_err(),
            FramingError::InvalidHost,
            "{lines}"
        );
    }
    for lines in [
        "Host: a\r\n",
        "host: a.example\r\n",
        "HOST: a_b-c~d.example.:65535\r\n",
        "Host: 192.0.2.1:8080\r\n",
        "Host: [::1]\r\n",
        "Host: [2001:db8::192.0.2.1]:443\r\n",
    ] {
        with_host(lines).unwrap();
    }
    request(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert_refused(
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        FramingError::InvalidHost,
    );
    assert_refused(
        b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
        FramingError::InvalidHost,
    );
}

#[test]
fn expectations() {
    assert!(
        with_fields(b"Expect: 100-Continue\r\n")
            .unwrap()
            .expects_continue
    );
    for value in ["", "200-ok", "100-continue, x", "100"] {
        let error = with_fields(format!("Expect: {value}\r\n").as_bytes()).unwrap_err();
        assert_eq!(error, FramingError::UnsupportedExpectation);
    }
    let old = request(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")
        .unwrap()
        .unwrap();
    assert!(!old.expects_continue);
}

#[test]
fn connections_are_kept_as_the_version_and_the_field_say() {
    for (version, lines, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: x\r\nconnection: CLOSE\r\n", false),
        ("1.1", "Connection: closed, xclose\r\n", true),
        ("1.1", "Connection: ,\t,\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: x ,\tkeep-alive\t,y\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(
            request(head.as_bytes()).unwrap().unwrap().keep_alive,
            kept,
            "{head}"
        );
    }
}

#[test]
fn a_control_character_is_found_at_any_place_of_a_value() {
    for length in 0..50 {
        for place in 0..=length {
            for control in [0_u8, 0x08, 0x1f, 0x7f] {
                let mut value = vec![b'x'; length];
                value.insert(place, control);
                let begun = [b"GET / HTTP/1.1\r\nX: ", &value[..]].concat();
                let whole = [&begun[..], b"\r\nHost: a\r\n\r\n"].concat();
                assert_refused(&begun, FramingError::ControlCharacter);
                assert_refused(&whole, FramingError::ControlCharacter);
            }
            let mut value = vec![b'x'; length];
            value.insert(place, b'\t');
            let begun = [b"GET / HTTP/1.1\r\nX: ", &value[..]].concat();
            assert!(request(&begun).unwrap().is_none());
        }
    }
}
