use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use relay_wire::dialect::{Passed, UsageChunkFilter};

/// Events of a Chat stream, and whether they pass.
const EVENTS: &[(&str, bool)] = &[
    (
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
        false,
    ),
    ("data:{\"usage\":{},\"choices\": [ ]}\r\n\r\n", false),
    (
        "event: x\rdata: {\"choices\":[],\rdata:\"us\\u0061ge\":{}}\r\r",
        false,
    ),
    (
        ": note\ndata: {\"a\":{\"choices\":[1]},\"choices\":[],\"usage\":{},\"error\":null}\n\n",
        false,
    ),
    (
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":\"}}],\"usage\":null}\n\n",
        true,
    ),
    (
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n",
        true,
    ),
    ("data: {\"choices\":[],\"usage\":null}\r\r", true),
    ("data: {\"choices\":[],\"usage\":{},\"error\":{}}\n\n", true),
    ("data: {\"error\":{\"code\":429}}\n\n", true),
    ("data: [DONE]\n\n", true),
    (": comment\r\n\r\n", true),
];

fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
    let mut filter = UsageChunkFilter::new();
    let mut passed = Vec::new();
    for piece in pieces {
        let mut parts = Vec::new();
        filter.feed(piece, &mut |part| parts.push(part));
        for part in parts {
            passed.extend_from_slice(match part {
                Passed::Kept(range) => &filter.kept()[range],
                Passed::Piece(range) => &piece[range],
            });
        }
        filter.forget_passed();
    }
    let mut rest = 0..0;
    filter.finish(&mut |part| match part {
        Passed::Kept(range) => rest = range,
        Passed::Piece(_) => panic!("there is no piece"),
    });
    passed.extend_from_slice(&filter.kept()[rest]);
    passed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_passes_is_what_should(events in vec(select(EVENTS), 0..6), cuts in cuts()) {
        let stream: Vec<u8> = events.iter().flat_map(|(event, _)| event.bytes()).collect();
        let wanted = events.iter().filter(|(_, passes)| *passes);
        let wanted: Vec<u8> = wanted.flat_map(|(event, _)| event.bytes()).collect();
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&filtered(&pieces(&stream, &cuts)), &wanted);
        prop_assert_eq!(&filtered(&bytes), &wanted);
    }

    #[test]
    fn splitting_changes_nothing_of_what_passes(
        events in vec(select(EVENTS), 0..6),
        changes in changes(b"\r\n\n\n: \"{}[]\\,edtu01"),
        cuts in cuts(),
    ) {
        let stream: Vec<u8> = events.iter().flat_map(|(event, _)| event.bytes()).collect();
        let stream = changed(&stream, &changes);
        let whole = filtered(&[&stream]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&filtered(&pieces(&stream, &cuts)), &whole);
        prop_assert_eq!(&filtered(&bytes), &whole, "{}", stream.escape_ascii());
    }
}
