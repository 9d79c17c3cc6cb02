//! Frames: however they are cut, the same is read of them; and whatever comes, nothing breaks.

use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_wire::websocket::{Ended, FrameReader, Mask, Piece, Sender, Violation};

/// What is read of a connection: the bytes of its messages, and what ended, counted from the connection's start.
#[derive(Debug, Default, PartialEq)]
struct Found {
    payload: Vec<u8>,
    ends: Vec<(usize, Ended)>,
    violation: Option<Violation>,
}

fn read(sender: Sender, message_bytes_max: u64, pieces: &[&[u8]]) -> Found {
    let mut reader = FrameReader::new(sender, message_bytes_max);
    let (mut found, mut before) = (Found::default(), 0);
    for bytes in pieces {
        let held = reader.unfinished_header().to_vec();
        let mut at = 0;
        loop {
            match reader.next(bytes, at) {
                Ok(Some(Piece::Payload { range, mask, .. })) => {
                    at = range.end;
                    let start = found.payload.len();
                    found.payload.extend_from_slice(&bytes[range]);
                    if let Some(mask) = mask {
                        mask.apply(&mut found.payload[start..]);
                    }
                }
                Ok(Some(Piece::End { at: end, what })) => {
                    at = end;
                    found.ends.push((before + end, what));
                }
                Ok(None) => break,
                Err(violation) => {
                    found.violation = Some(violation);
                    return found;
                }
            }
        }
        // What is kept is the end of what was read.
        let kept = reader.unfinished_header();
        let all = [&held[..], bytes].concat();
        assert!(all.ends_with(kept));
        before += bytes.len();
    }
    found
}

/// One frame, as its sender makes it.
fn frame(sender: Sender, first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    let masked = if sender == Sender::Client { 0x80 } else { 0 };
    match payload.len() {
        short @ ..126 => out.push(masked | short as u8),
        middle => {
            out.push(masked | 126);
            out.extend((middle as u16).to_be_bytes());
        }
    }
    let mut payload = payload.to_vec();
    if sender == Sender::Client {
        out.extend(key);
        Mask::new(key).apply(&mut payload);
    }
    out.extend(payload);
    out
}

/// Messages in fragments, with pings between them.
fn connection(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let fragments = vec(
        (vec(any::<u8>(), 0..300), any::<[u8; 4]>(), any::<bool>()),
        1..4,
    );
    vec(fragments, 0..4).prop_map(move |messages| {
        let mut out = Vec::new();
        for fragments in messages {
            let last = fragments.len() - 1;
            for (index, (payload, key, pings)) in fragments.iter().enumerate() {
                let opcode = if index == 0 { 1 } else { 0 };
                let is_final = if index == last { 0x80 } else { 0 };
                out.extend(frame(sender, is_final | opcode, payload, *key));
                if *pings {
                    out.extend(frame(sender, 0x89, b"ping", *key));
                }
            }
        }
        out.extend(frame(sender, 0x88, b"\x03\xe8bye", [9; 4]));
        out
    })
}

fn any_connection() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    prop_oneof![
        connection(Sender::Client).prop_map(|bytes| (Sender::Client, bytes)),
        connection(Sender::Server).prop_map(|bytes| (Sender::Server, bytes)),
    ]
}

proptest! {
    #[test]
    fn the_same_is_read_however_it_is_cut((sender, bytes) in any_connection(), cuts in cuts()) {
        let whole = read(sender, 1000, &[&bytes]);
        prop_assert_eq!(whole.violation, None);
        prop_assert_eq!(whole.ends.last(), Some(&(bytes.len(), Ended::Close(Some(1000)))));
        prop_assert_eq!(&read(sender, 1000, &pieces(&bytes, &cuts)), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(sender, 1000, &single), &whole);
    }

    #[test]
    fn what_is_damaged_is_refused_in_the_same_way_however_it_is_cut(
        (sender, bytes) in any_connection(),
        changes in changes(b"\x00\x01\x80\x81\x88\x89\x7e\x7f\xfe\xff"),
        cuts in cuts(),
        bytes_max in 0..600u64,
    ) {
        let bytes = changed(&bytes, &changes);
        let whole = read(sender, bytes_max, &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let in_pieces = read(sender, bytes_max, &pieces(&bytes, &cuts));
        prop_assert_eq!(&in_pieces, &whole);
        prop_assert_eq!(&read(sender, bytes_max, &single), &whole);
    }
}
