use super::*;

/// Feeds all of the input at once.
fn parse(sender: Sender, input: &[u8]) -> Result<Vec<Piece>, BodyError> {
    let mut parser = BodyParser::new(Framing::Chunked, sender);
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(piece) = parser.next(input, at)? {
        at = piece.end();
        pieces.push(piece);
    }
    Ok(pieces)
}

#[test]
fn chunks_come_in_pieces_as_long_as_can_be() {
    use Piece::{End, Framing, Payload};
    let pieces = parse(
        Sender::Client,
        b"5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\nGET",
    )
    .unwrap();
    let wanted = [
        Framing(0..3),
        Payload(3..8),
        Framing(8..10),
        Framing(10..15),
        Payload(15..25),
        Framing(25..27),
        Framing(27..32),
        End(32),
    ];
    assert_eq!(pieces, wanted);
}

#[test]
fn trailers_are_set_apart_from_the_framing_that_goes_on() {
    use Piece::{End, Framing, Trailer};
    let pieces = parse(Sender::Upstream, b"0\r\nA: b\r\nC:\r\n\r\n").unwrap();
    assert_eq!(
        pieces,
        [Framing(0..3), Trailer(3..13), Framing(13..15), End(15)]
    );
}

#[test]
fn what_is_wrong_with_the_framing() {
    use BodyError::{ChunkExtension, InvalidChunkSize, InvalidTrailer, MissingLineBreak};
    for (input, client, upstream) in [
        (&b"\r\n"[..], Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b";x\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b" 5\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b"-5\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b"+5\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b"0x5\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b"5g\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (b"5_0\r\n", Some(InvalidChunkSize), Some(InvalidChunkSize)),
        (
            b"0000000000000005",
            Some(InvalidChunkSize),
            Some(InvalidChunkSize),
        ),
        (
            b"fffffffffffffff0",
            Some(InvalidChunkSize),
            Some(InvalidChunkSize),
        ),
        (b"5 \r\n", Some(ChunkExtension), Some(ChunkExtension)),
        (b"5\t;x\r\n", Some(ChunkExtension), Some(ChunkExtension)),
        (b"5;x=\"y\"\r\n", Some(ChunkExtension), None),
        (b"0;x\r\n\r\n", Some(ChunkExtension), None),
        (b"5;x\0\r\n", Some(ChunkExtension), Some(ChunkExtension)),
        (b"5;x\x7f\r\n", Some(ChunkExtension), Some(ChunkExtension)),
        (b"5;x\n", Some(ChunkExtension), Some(MissingLineBreak)),
        (b"5;x\ry", Some(ChunkExtension), Some(MissingLineBreak)),
        (b"5\n", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"\n", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"5\rx", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"1\r\nxy", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"1\r\nx\n", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"1\r\nx\rx", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"0\r\n\n", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"0\r\n\rx", Some(MissingLineBreak), Some(MissingLineBreak)),
        (b"0\r\nA: b\r\n\r\n", Some(InvalidTrailer), None),
        (b"0\r\nA b\r\n", Some(InvalidTrailer), Some(InvalidTrailer)),
        (b"0\r\nA\r\n", Some(InvalidTrailer), Some(InvalidTrailer)),
        (b"0\r\n: b\r\n", Some(InvalidTrailer), Some(InvalidTrailer)),
        (
            b"0\r\n A: b\r\n",
            Some(InvalidTrailer),
            Some(InvalidTrailer),
        ),
        (
            b"0\r\nA: \0\r\n",
            Some(InvalidTrailer),
            Some(InvalidTrailer),
        ),
        (
            b"0\r\nA: b\r\n c\r\n",
            Some(InvalidTrailer),
            Some(InvalidTrailer),
        ),
        (b"0\r\nA: b\n", Some(InvalidTrailer), Some(MissingLineBreak)),
        (
            b"0\r\nA: b\rc",
            Some(InvalidTrailer),
            Some(MissingLineBreak),
        ),
        (
            b"0\r\nGET / HTTP/1.1\r\n",
            Some(InvalidTrailer),
            Some(InvalidTrailer),
        ),
    ] {
        let text = String::from_utf8_lossy(input);
        assert_eq!(
            parse(Sender::Client, input).err(),
            client,
            "client: {text:?}"
        );
        assert_eq!(
            parse(Sender::Upstream, input).err(),
            upstream,
            "upstream: {text:?}"
        );
    }
}

#[test]
fn sizes_go_up_to_fifteen_digits() {
    let pieces = parse(Sender::Client, b"fffffffffffffff\r\nx").unwrap();
    assert_eq!(pieces, [Piece::Framing(0..17), Piece::Payload(17..18)]);
    let pieces = parse(Sender::Client, b"000000000000001\r\nxy").unwrap_err();
    assert_eq!(pieces, BodyError::MissingLineBreak);
}

#[test]
fn extensions_and_trailers_have_limits() {
    let extension = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes - 1)).into_bytes();
    parse(Sender::Upstream, &extension(256)).unwrap();
    // The limit is one of each chunk, not of the body.
    parse(Sender::Upstream, &extension(256).repeat(3)).unwrap();
    let error = parse(Sender::Upstream, &extension(257)).unwrap_err();
    assert_eq!(error, BodyError::ChunkExtension);

    let trailer = |bytes: usize| {
        let line = format!("A:{}\r\n", "v".repeat(bytes / 2 - 4));
        format!("0\r\n{line}{line}\r\n").into_bytes()
    };
    parse(Sender::Upstream, &trailer(8 * 1024)).unwrap();
    for bytes in [8 * 1024 + 2, 9 * 1024, 1024 * 1024] {
        let error = parse(Sender::Upstream, &trailer(bytes)).unwrap_err();
        assert_eq!(error, BodyError::InvalidTrailer);
    }
}

#[test]
fn own_bytes_may_be_put_between_chunks_only() {
    let mut parser = BodyParser::new(Framing::Chunked, Sender::Upstream);
    let boundaries: Vec<bool> = b"2\r\nab\r\n0\r\n\r\n"
        .iter()
        .map(|&byte| {
            let before = parser.at_chunk_boundary();
            parser.next(&[byte], 0).unwrap();
            before
        })
        .collect();
    let wanted = [
        true, false, false, false, false, false, false, true, false, false, false, false,
    ];
    assert_eq!(boundaries, wanted);
    assert!(!parser.at_chunk_boundary() && parser.is_complete());
}

#[test]
fn a_body_that_is_not_there_is_complete_at_once() {
    for framing in [Framing::Empty, Framing::Length(0)] {
        let mut parser = BodyParser::new(framing, Sender::Client);
        assert!(parser.is_complete() && parser.may_end_here());
        assert_eq!(parser.next(b"GET", 0), Ok(Some(Piece::End(0))));
        assert_eq!(parser.next(b"GET", 0), Ok(None));
    }
}

#[test]
fn a_connection_must_not_end_inside_of_a_body() {
    for framing in [Framing::Length(2), Framing::Chunked] {
        let mut parser = BodyParser::new(framing, Sender::Upstream);
        assert!(!parser.may_end_here());
        parser.next(b"1", 0).unwrap();
        assert!(!parser.may_end_here());
    }
    assert!(BodyParser::new(Framing::UntilClose, Sender::Upstream).may_end_here());
}
