use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_wire::body::{BodyError, BodyParser, Piece, Sender};
use relay_wire::head::Framing;

/// What a body came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    payload: Vec<u8>,
    framing: Vec<u8>,
    trailer: Vec<u8>,
    /// How many bytes belong to the body, once it is complete.
    end: Option<usize>,
    error: Option<BodyError>,
    may_end_here: bool,
    at_chunk_boundary: bool,
}

fn parse(framing: Framing, sender: Sender, pieces: &[&[u8]]) -> Outcome {
    let mut parser = BodyParser::new(framing, sender);
    let mut outcome = Outcome::default();
    let mut before = 0;
    for &input in pieces {
        let mut at = 0;
        while outcome.end.is_none() && outcome.error.is_none() {
            let piece = match parser.next(input, at) {
                Ok(Some(piece)) => piece,
                Ok(None) => {
                    assert_eq!(at, input.len(), "something was left over");
                    break;
                }
                Err(error) => {
                    assert_eq!(parser.next(input, at), Err(error), "errors stick");
                    outcome.error = Some(error);
                    break;
                }
            };
            match &piece {
                Piece::Payload(range) => outcome.payload.extend(&input[range.clone()]),
                Piece::Framing(range) => outcome.framing.extend(&input[range.clone()]),
                Piece::Trailer(range) => outcome.trailer.extend(&input[range.clone()]),
                Piece::End(end) => outcome.end = Some(before + end),
            }
            if let Piece::Payload(range) | Piece::Framing(range) | Piece::Trailer(range) = &piece {
                assert!(
                    range.start == at && !range.is_empty(),
                    "pieces follow each other"
                );
            }
            at = piece.end();
        }
        before += input.len();
    }
    if outcome.error.is_some() {
        // How much framing was seen before the wrong byte depends on the splitting.
        outcome.framing.clear();
        outcome.trailer.clear();
    }
    outcome.may_end_here = parser.may_end_here();
    outcome.at_chunk_boundary = parser.at_chunk_boundary();
    assert_eq!(
        parser.is_complete(),
        outcome.end.is_some() && outcome.error.is_none()
    );
    outcome
}

/// A chunked body as RFC 9112 section 7.1 defines it.
fn chunked(chunks: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(format!("00{extension}\r\n{trailer}\r\n").into_bytes());
    body
}

fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 1..40), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn valid_chunked_bodies_give_their_payload(
        chunks in chunks(),
        extension in prop_oneof![Just(""), Just(";a=\"b\"")],
        trailer in prop_oneof![Just(""), Just("X-A: b\r\nc:\r\n")],
        rest in vec(any::<u8>(), 0..9),
        cuts in cuts(),
    ) {
        let body = chunked(&chunks, extension, trailer);
        let input = [&body[..], &rest].concat();
        let outcome = parse(Framing::Chunked, Sender::Upstream, &pieces(&input, &cuts));
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.payload, chunks.concat());
        prop_assert_eq!(outcome.trailer, trailer.as_bytes());
        prop_assert_eq!(outcome.end, Some(body.len()));
        prop_assert!(outcome.may_end_here && !outcome.at_chunk_boundary);

        let is_plain = extension.is_empty() && trailer.is_empty();
        let from_client = parse(Framing::Chunked, Sender::Client, &pieces(&input, &cuts));
        prop_assert_eq!(from_client.error.is_none(), is_plain);
    }

    #[test]
    fn splitting_a_chunked_body_changes_nothing(
        chunks in chunks(),
        changes in changes(b"\r\n\r\n;: 0123456789abcdefX\t\0"),
        cuts in cuts(),
        sender in prop_oneof![Just(Sender::Client), Just(Sender::Upstream)],
    ) {
        let input = changed(&chunked(&chunks, "", "A: b\r\n"), &changes);
        let whole = parse(Framing::Chunked, sender, &[&input]);
        prop_assert_eq!(&parse(Framing::Chunked, sender, &pieces(&input, &cuts)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&parse(Framing::Chunked, sender, &bytes), &whole);
    }

    #[test]
    fn counted_bodies_end_where_they_should(
        length in 0..60_u64,
        input in vec(any::<u8>(), 0..60),
        cuts in cuts(),
    ) {
        let outcome = parse(Framing::Length(length), Sender::Client, &pieces(&input, &cuts));
        let bytes = input.len().min(length as usize);
        prop_assert_eq!(&outcome.payload, &input[..bytes]);
        prop_assert_eq!(outcome.end, (bytes as u64 == length).then_some(bytes));
        prop_assert_eq!(outcome.may_end_here, outcome.end.is_some());
        prop_assert!(!outcome.at_chunk_boundary);
    }

    #[test]
    fn a_body_until_close_is_all_there_is(input in vec(any::<u8>(), 0..60), cuts in cuts()) {
        let outcome = parse(Framing::UntilClose, Sender::Upstream, &pieces(&input, &cuts));
        prop_assert_eq!(&outcome.payload, &input);
        prop_assert_eq!(outcome.end, None);
        prop_assert!(outcome.may_end_here && outcome.at_chunk_boundary);
    }
}
