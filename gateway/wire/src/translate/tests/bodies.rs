use super::*;

#[test]
fn payload_is_put_into_chunks() {
    let mut body = BodyWriter::new(Framing::Chunked, 100);
    let parts = body.data(Bytes::from_static(b"0123456789abcdef!")).unwrap();
    assert_eq!(parts.concat(), b"11\r\n0123456789abcdef!\r\n");
    assert!(body.data(Bytes::new()).unwrap().concat().is_empty());
    assert_eq!(body.end().unwrap(), "0\r\n\r\n");
    assert_eq!(body.end(), Err(LengthMismatch));
    assert_eq!(body.data(Bytes::from_static(b"a")), Err(LengthMismatch));
}

#[test]
fn payload_has_the_length_that_was_announced() {
    let mut body = BodyWriter::new(Framing::Length(3), 0);
    assert_eq!(
        body.data(Bytes::from_static(b"ab")).unwrap().concat(),
        b"ab"
    );
    assert_eq!(body.end(), Err(LengthMismatch));
    assert_eq!(body.data(Bytes::from_static(b"cd")), Err(LengthMismatch));
    assert_eq!(body.data(Bytes::from_static(b"c")).unwrap().concat(), b"c");
    assert_eq!(body.end().unwrap(), "");
    for framing in [Framing::Empty, Framing::Length(0)] {
        let mut body = BodyWriter::new(framing, 0);
        assert_eq!(body.data(Bytes::from_static(b"a")), Err(LengthMismatch));
        assert_eq!(body.end().unwrap(), "");
    }
}

#[test]
fn what_was_read_opens_the_window_by_as_much_payload() {
    let mut body = BodyWriter::new(Framing::Chunked, 10);
    assert_eq!(body.consumed(10), 0);
    body.data(Bytes::from_static(b"0123456789")).unwrap();
    // "a", CR, LF and a part of the payload; the CR LF behind it is thought to be before it.
    assert_eq!(body.consumed(7), 2);
    assert_eq!(body.consumed(8), 8);
    body.end().unwrap();
    assert_eq!(body.consumed(5), 0);
}
