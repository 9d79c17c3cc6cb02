use super::*;

/// The bytes of all messages, and what ended where.
type Found = (Vec<u8>, Vec<(usize, Ended)>);

/// What a reader says of frames that come at once: payloads without their masks, and what ended where.
fn read(reader: &mut FrameReader, bytes: &[u8]) -> Result<Found, Violation> {
    let (mut at, mut payload, mut ends) = (0, Vec::new(), Vec::new());
    while let Some(piece) = reader.next(bytes, at)? {
        match piece {
            Piece::Payload { range, mask, .. } => {
                at = range.end;
                let start = payload.len();
                payload.extend_from_slice(&bytes[range]);
                if let Some(mask) = mask {
                    mask.apply(&mut payload[start..]);
                }
            }
            Piece::End { at: end, what } => {
                at = end;
                ends.push((end, what));
            }
        }
    }
    Ok((payload, ends))
}

fn of_server(bytes: &[u8]) -> Result<Found, Violation> {
    read(&mut FrameReader::new(Sender::Server, 1 << 20), bytes)
}

fn of_client(bytes: &[u8]) -> Result<Found, Violation> {
    read(&mut FrameReader::new(Sender::Client, 1 << 20), bytes)
}

#[test]
fn the_examples_of_the_rfc() {
    // Section 5.7.
    let hello = (b"Hello".to_vec(), vec![(7, Ended::Message)]);
    assert_eq!(of_server(b"\x81\x05Hello"), Ok(hello));
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let hello = (b"Hello".to_vec(), vec![(11, Ended::Message)]);
    assert_eq!(of_client(masked), Ok(hello));
    let fragments = b"\x01\x03Hel\x80\x02lo";
    let ends = vec![(5, Ended::Fragment), (9, Ended::Message)];
    assert_eq!(of_server(fragments), Ok((b"Hello".to_vec(), ends)));
    let ping = b"\x89\x05Hello";
    assert_eq!(of_server(ping), Ok((Vec::new(), vec![(7, Ended::Control)])));
    let mut long = b"\x82\x7e\x01\x00".to_vec();
    long.extend([7; 256]);
    assert_eq!(
        of_server(&long),
        Ok((vec![7; 256], vec![(260, Ended::Message)]))
    );
    let mut longer = b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00".to_vec();
    longer.extend([7; 65_536]);
    let ends = vec![(65_546, Ended::Message)];
    assert_eq!(of_server(&longer), Ok((vec![7; 65_536], ends)));
}

#[test]
fn a_handshake_s_values() {
    // Section 1.3.
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    assert!(is_key(key));
    assert_eq!(&accept_value(key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for other in [
        &b""[..],
        b"dGhlIHNhbXBsZSBub25jZQ=",
        b"dGhlIHNhbXBsZSBub25jZQ",
        b"dGhlIHNhbXBsZSBub25jZQAA==",
        b"dGhlIHNhbXBsZSBub25j ZQ==",
        b"dGhlIHNhbXBsZSBub25jZ_==",
    ] {
        assert!(!is_key(other), "{other:?}");
    }
}

#[test]
fn a_control_frame_may_stand_in_a_message() {
    let bytes = b"\x01\x03Hel\x89\x00\x80\x02lo";
    let ends = vec![
        (5, Ended::Fragment),
        (7, Ended::Control),
        (11, Ended::Message),
    ];
    assert_eq!(of_server(bytes), Ok((b"Hello".to_vec(), ends)));
}

#[test]
fn what_breaks_the_protocol() {
    let long_control = [&b"\x89\x7e\x00\x7e"[..], &[0; 126]].concat();
    for bytes in [
        // Reserved bits and opcodes.
        &b"\xc1\x00"[..],
        b"\xa1\x00",
        b"\x91\x00",
        b"\x83\x00",
        b"\x87\x00",
        b"\x8b\x00",
        b"\x8f\x00",
        // A mask.
        b"\x81\x80\x00\x00\x00\x00",
        // Fragments.
        b"\x80\x00",
        b"\x00\x00",
        b"\x01\x00\x81\x00",
        b"\x01\x00\x02\x00",
        b"\x09\x00",
        b"\x08\x00",
        &long_control,
        // Lengths in more bytes than they need, and with a bit too many.
        b"\x81\x7e\x00\x7d",
        b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x81\x7f\x80\x00\x00\x00\x00\x01\x00\x00",
        // Closes.
        b"\x88\x01\x03",
        b"\x88\x02\x03\xe7",
        b"\x88\x02\x03\xec",
        b"\x88\x02\x03\xed",
        b"\x88\x02\x03\xee",
        b"\x88\x02\x03\xf7",
        b"\x88\x02\x07\xd0",
        b"\x88\x02\x13\x88",
        b"\x88\x03\x03\xe8\xff",
    ] {
        let found = of_server(bytes);
        assert!(matches!(found, Err(Violation::Protocol(_))), "{bytes:x?}");
    }
    assert!(matches!(
        of_client(b"\x81\x00"),
        Err(Violation::Protocol(_))
    ));
}

#[test]
fn closes_and_their_codes() {
    for (bytes, code) in [
        (&b"\x88\x00"[..], None),
        (b"\x88\x02\x03\xe8", Some(1000)),
        (b"\x88\x05\x03\xf6bye", Some(1014)),
        (b"\x88\x02\x0f\xa0", Some(4000)),
    ] {
        let ends = vec![(bytes.len(), Ended::Close(code))];
        assert_eq!(of_server(bytes), Ok((Vec::new(), ends)));
    }
}

#[test]
fn no_message_is_longer_than_allowed_however_it_is_cut() {
    let mut reader = FrameReader::new(Sender::Server, 5);
    assert!(read(&mut reader, b"\x81\x05Hello\x81\x05Hello").is_ok());
    assert_eq!(read(&mut reader, b"\x81\x06"), Err(Violation::TooBig));
    let mut reader = FrameReader::new(Sender::Server, 5);
    assert!(read(&mut reader, b"\x01\x03Hel\x00\x02lo\x89\x06notice").is_ok());
    assert_eq!(read(&mut reader, b"\x80\x01"), Err(Violation::TooBig));
}

#[test]
fn a_header_that_is_not_complete_is_kept() {
    let mut reader = FrameReader::new(Sender::Client, 1000);
    assert!(reader.is_between_messages());
    assert_eq!(reader.next(b"\x01\xfe\x00", 0), Ok(None));
    assert_eq!(reader.unfinished_header(), b"\x01\xfe\x00");
    assert!(reader.is_between_frames());
    assert_eq!(reader.next(b"\x80\x01\x02\x03\x04", 0), Ok(None));
    assert_eq!(reader.unfinished_header(), b"");
    assert!(!reader.is_between_frames());
    let piece = reader.next(&[0; 128], 0);
    assert!(matches!(piece, Ok(Some(Piece::Payload { .. }))));
    let end = Piece::End {
        at: 128,
        what: Ended::Fragment,
    };
    assert_eq!(reader.next(&[0; 128], 128), Ok(Some(end)));
    assert!(reader.is_between_frames() && !reader.is_between_messages());
}

#[test]
fn frames_of_our_own_are_what_they_should_be() {
    let frame = close_frame(code::GOING_AWAY, "going away", None);
    let ends = vec![(frame.len(), Ended::Close(Some(1001)))];
    assert_eq!(of_server(&frame), Ok((Vec::new(), ends)));
    let long = "ä".repeat(100);
    let frame = close_frame(code::POLICY_VIOLATION, &long, Some([1, 2, 3, 4]));
    assert!(frame.len() <= CLOSE_FRAME_BYTES_MAX);
    let ends = vec![(frame.len(), Ended::Close(Some(1008)))];
    assert_eq!(of_client(&frame), Ok((Vec::new(), ends)));
    for length in [0, 125, 126, 65_535, 65_536] {
        let text = "x".repeat(length);
        let frame = text_frame(&text);
        let ends = vec![(frame.len(), Ended::Message)];
        assert_eq!(of_server(&frame), Ok((text.into_bytes(), ends)));
    }
}

#[test]
fn a_mask_goes_on_where_it_was() {
    let mask = Mask::new([1, 2, 3, 4]);
    let mut whole = [0; 11];
    mask.apply(&mut whole);
    for cut in 0..=whole.len() {
        let mut parts = [0; 11];
        let (first, second) = parts.split_at_mut(cut);
        mask.apply(first);
        mask.behind(cut).apply(second);
        assert_eq!(parts, whole, "{cut}");
    }
}
