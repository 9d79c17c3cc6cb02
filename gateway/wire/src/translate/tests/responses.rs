use super::*;

#[test]
fn an_answer_becomes_the_text_of_a_head() {
    let fields = [
        ("content-type", "a/b"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("x", " y "),
    ];
    let start =
        "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\nset-cookie: a\r\nset-cookie: b\r\nx: y\r\n";
    let parts = answered(200, &fields);
    for (end_stream, head_request, line, framing) in [
        (
            false,
            false,
            "transfer-encoding: chunked\r\n",
            Framing::Chunked,
        ),
        (true, false, "content-length: 0\r\n", Framing::Length(0)),
        (true, true, "", Framing::Empty),
    ] {
        let wanted = format!("{start}{line}connection: close\r\n\r\n");
        let found = response_text(&parts, end_stream, head_request);
        assert_eq!(found, Ok((wanted, framing)));
    }
}

#[test]
fn the_body_is_framed_as_announced() {
    for (status, length, end_stream, head_request, wanted) in [
        (200, Some("5"), false, false, Ok(Framing::Length(5))),
        (200, Some("0"), true, false, Ok(Framing::Length(0))),
        (200, Some("5"), true, true, Ok(Framing::Empty)),
        (304, Some("5"), true, false, Ok(Framing::Empty)),
        (204, None, true, false, Ok(Framing::Empty)),
        (103, None, false, false, Ok(Framing::Empty)),
        (500, None, false, false, Ok(Framing::Chunked)),
        (200, Some("5"), true, false, Err(ResponseError::Malformed)),
        (
            200,
            Some("5,5"),
            false,
            false,
            Err(FramingError::DuplicateLength.into()),
        ),
    ] {
        let fields = length.map(|length| ("content-length", length));
        let parts = answered(status, fields.as_slice());
        let found = response_text(&parts, end_stream, head_request).map(|(text, framing)| {
            let head = ResponseHead::parse(text.as_bytes(), &LIMITS, head_request);
            let head = head.unwrap().unwrap();
            assert_eq!((head.status, head.framing), (status, framing), "{text}");
            assert_eq!(head.keep_alive, status < 200, "{text}");
            framing
        });
        assert_eq!(
            found, wanted,
            "{status} {length:?} {end_stream} {head_request}"
        );
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for (status, fields, end_stream) in [
        (101, &[][..], false),
        (103, &[], true),
        (600, &[], false),
        (999, &[], false),
        (200, &[("connection", "close")], false),
        (200, &[("transfer-encoding", "chunked")], false),
        (200, &[("upgrade", "h2c")], false),
    ] {
        let found = response_text(&answered(status, fields), end_stream, false);
        assert_eq!(found, Err(ResponseError::Malformed), "{status} {fields:?}");
    }
}

#[test]
fn a_length_where_no_body_may_be_is_left_to_the_parser() {
    let parts = answered(204, &[("content-length", "5")]);
    let (text, _) = response_text(&parts, true, false).unwrap();
    let parsed = ResponseHead::parse(text.as_bytes(), &LIMITS, false);
    assert_eq!(parsed.unwrap_err(), FramingError::ForbiddenBody);
}
