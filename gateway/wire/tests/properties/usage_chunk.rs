use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use relay_wire::dialect::{ContentCoding, Edit, Passed, RequestScan, UsageChunkFilter};
use serde_json::{Value, json};

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

const BODIES: &[&str] = &[
    "{\"model\":\"m\",\"stream\":true}",
    "{ \"stream\" : true , \"stream_options\" : { } }",
    "{\"stream_options\":null,\"messages\":[{\"stream\":false}],\"stream\":true}",
    "{\"stream\":true,\"stream_options\":{\"a\":[1],\"include_usage\":false}}",
    "{\"stream\":true,\"stream_options\":{\"include_usage\":null,\"b\":{}}}",
];

fn edit(pieces: &[&[u8]]) -> Option<Edit> {
    let mut scan = RequestScan::new(ContentCoding::Identity, 64, 1000);
    pieces.iter().try_for_each(|piece| scan.feed(piece)).ok()?;
    scan.usage_request_edit()
}

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

    #[test]
    fn an_edit_asks_for_usage_and_changes_nothing_else(
        body in select(BODIES),
        changes in changes(b"\" {}[]:,\\n01u"),
        cuts in cuts(),
    ) {
        let body = changed(body.as_bytes(), &changes);
        let edit_of_whole = edit(&[&body]);
        prop_assert_eq!(edit(&pieces(&body, &cuts)), edit_of_whole);
        // What is not UTF-8 is not for this test.
        if let (Some(edit), Ok(mut wanted)) = (edit_of_whole, serde_json::from_slice::<Value>(&body)) {
            let (at, remove) = (edit.at as usize, edit.remove as usize);
            let mut edited = body.clone();
            edited.splice(at..at + remove, edit.insert.iter().copied());
            let edited: Value = serde_json::from_slice(&edited).unwrap();
            prop_assert_ne!(&edited, &wanted);
            if !wanted["stream_options"].is_object() {
                wanted["stream_options"] = json!({});
            }
            wanted["stream_options"]["include_usage"] = json!(true);
            prop_assert_eq!(edited, wanted);
        }
    }
}
