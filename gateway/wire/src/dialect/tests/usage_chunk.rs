use super::*;
use crate::dialect::{Passed, UsageChunkFilter};

fn edited(body: &str) -> Option<String> {
    let edit_of = |piece_bytes: usize| {
        let mut scan = RequestScan::new(ContentCoding::Identity, 64, 1 << 20);
        body.as_bytes()
            .chunks(piece_bytes)
            .try_for_each(|piece| scan.feed(piece))
            .unwrap();
        scan.usage_request_edit()
    };
    let whole = edit_of(usize::MAX);
    for piece_bytes in [1, 5] {
        assert_eq!(edit_of(piece_bytes), whole, "{body}");
    }
    let edit = whole?;
    let mut edited = body.as_bytes().to_vec();
    let (at, remove) = (edit.at as usize, edit.remove as usize);
    edited.splice(at..at + remove, edit.insert.iter().copied());
    Some(String::from_utf8(edited).unwrap())
}

#[test]
fn a_request_is_made_one_for_usage() {
    for (body, wanted) in [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            " { \"str\\u0065am\" : true , \"model\" : \"m\" } ",
            " { \"str\\u0065am\" : true,\"stream_options\":{\"include_usage\":true} , \"model\" : \"m\" } ",
        ),
        (
            r#"{"stream_options":null,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true }}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_obfuscation":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"a":1,"include_usage":null}}"#,
            r#"{"stream":true,"stream_options":{"a":1,"include_usage":true}}"#,
        ),
        (
            r#"{"messages":[{"stream":true,"stream_options":{}}],"stream":true}"#,
            r#"{"messages":[{"stream":true,"stream_options":{}}],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        let edited = edited(body);
        assert_eq!(edited.as_deref(), Some(wanted));
        let value: serde_json::Value = serde_json::from_str(wanted).unwrap();
        assert_eq!(value["stream_options"]["include_usage"], true);
    }
}

#[test]
fn other_requests_stay_as_they_are() {
    let long = format!(
        "{{\"stream\":true,\"stream_options\":{{{}}}}}",
        " ".repeat(2000)
    );
    for body in [
        "{}",
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream":true,"stream":true}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}"#,
        r#"{"stream":true,"stream_options":{},"stream_options":{}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":false},"stream_options":null}"#,
        r#"{"stream":true,"stream_options":[]}"#,
        r#"{"stream":true,"stream_options":"x"}"#,
        r#"{"stream":true"#,
        &long,
    ] {
        assert_eq!(edited(body), None, "{body}");
    }
    let mut broken = RequestScan::new(ContentCoding::Identity, 64, 1 << 20);
    assert!(broken.feed(br#"{"stream":true}}"#).is_err());
    assert_eq!(broken.usage_request_edit(), None);
    let gzip = request::gzip(br#"{"stream":true}"#);
    let mut coded = RequestScan::new(ContentCoding::Gzip, 64, 1 << 20);
    coded.feed(&gzip).unwrap();
    assert_eq!((coded.finish(), coded.stream()), (Ok(()), true));
    assert_eq!(coded.usage_request_edit(), None);
}

/// What passes of a stream in these pieces, and how many bytes were kept back after each.
fn passed(pieces: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut filter = UsageChunkFilter::new();
    let (mut passed, mut kept) = (Vec::new(), Vec::new());
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
        kept.push(filter.kept().len());
    }
    let mut parts = Vec::new();
    filter.finish(&mut |part| parts.push(part));
    for part in parts {
        let Passed::Kept(range) = part else {
            panic!("there is no piece: {part:?}");
        };
        passed.extend_from_slice(&filter.kept()[range]);
    }
    (passed, kept)
}

const CHUNK: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":9}}"#;
const OUTPUT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n";

#[test]
fn the_chunk_with_the_usage_is_taken_out() {
    let pretty = CHUNK.replace(',', ",\r\ndata:");
    for chunk in [
        format!("data: {CHUNK}\n\n"),
        format!("data:{CHUNK}\r\n\r\n"),
        format!("data: {CHUNK}\r\r"),
        format!("data: {pretty}\n\n"),
        format!(": a comment\nid: 7\ndata: {CHUNK}\n\n"),
        "data: {\"choices\" : [ ], \"us\\u0061ge\":{}}\n\n".to_owned(),
        "data: {\"error\":null,\"usage\":{},\"choices\":[]}\n\n".to_owned(),
    ] {
        let done = "data: [DONE]\n\n";
        let stream = [OUTPUT, &chunk, OUTPUT, &chunk, &chunk, done].concat();
        let wanted = [OUTPUT, OUTPUT, done].concat();
        for at in 0..=stream.len() {
            let (before, behind) = stream.as_bytes().split_at(at);
            let (passed, _) = passed(&[before, behind]);
            assert_eq!(passed.as_slice(), wanted.as_bytes(), "{stream:?} at {at}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(passed(&bytes).0, wanted.as_bytes(), "{stream:?}");
        // What ends with the stream is judged as if its empty line had come.
        let cut = stream.trim_end().strip_suffix(done.trim_end()).unwrap();
        let unended = cut.trim_end();
        let unended = unended.as_bytes().chunks(7).collect::<Vec<_>>();
        assert_eq!(passed(&unended).0, [OUTPUT, OUTPUT].concat().as_bytes());
    }
}

#[test]
fn everything_else_passes() {
    let long = format!("data: {}{CHUNK}\n\n", " ".repeat(16 * 1024));
    for event in [
        OUTPUT,
        ": a comment\n\n",
        "\n\r\n\r",
        "data\n\n",
        "data: [DONE]\n\n",
        "data: not JSON \"usage\"\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":null,\"usage\":{}}\n\n",
        "data: {\"usage\":{}}\n\n",
        "data: {\"choices\":[],\"usage\":{},\"choices\":[]}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{}}\n\n",
        "data: {\"choices\":[],\"usage\":{},\"error\":{\"message\":\"m\"}}\n\n",
        "data: {\"choices\":[],\"usage\":{}\n\n",
        "data: {\"choices\":[],\"usage\":{}}}\n\n",
        "data: {\"choices\":[],\"usage\":{",
        // The line feed between two lines of data cannot be in a string.
        "data: {\"choices\":[],\"usage\":{\"\ndata: {}}\n\n",
        &long,
    ] {
        let step = 1 + event.len() / 100;
        for at in (0..=event.len()).step_by(step) {
            let (before, behind) = event.as_bytes().split_at(at);
            let (passed, _) = passed(&[before, behind]);
            assert_eq!(passed.as_slice(), event.as_bytes(), "{event:?} at {at}");
        }
        let bytes: Vec<&[u8]> = event.as_bytes().chunks(1).collect();
        assert_eq!(passed(&bytes).0, event.as_bytes());
    }
}

#[test]
fn an_event_is_kept_no_longer_than_it_may_be_the_chunk() {
    let start = "data: {\"id\":\"c\",\"choices\":[";
    let kept = |pieces: &[&str]| {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        passed(&pieces).1
    };
    assert_eq!(kept(&[start, "{\"index\":0"]), [start.len(), 0]);
    assert_eq!(kept(&["data: ", "[DONE]"]), [6, 0]);
    assert_eq!(kept(&[start, "],", "\"usage\":{}}"]), [27, 29, 40]);
    // Whole events are not kept, and of what is larger than any such chunk nothing.
    assert_eq!(kept(&[OUTPUT, "data: {\"choices\":[]}\n\nda"]), [0, 2]);
    assert_eq!(kept(&[start, &" ".repeat(16 * 1024 - 27)]), [27, 16 * 1024]);
    assert_eq!(kept(&[start, &" ".repeat(16 * 1024 - 26)]), [27, 0]);
}

#[test]
fn several_pieces_pass_before_what_was_kept_is_forgotten() {
    let mut filter = UsageChunkFilter::new();
    let mut parts = Vec::new();
    for piece in ["data: 1", "\n\ndata: {", "x\n\n: a", "\n\n"] {
        filter.feed(piece.as_bytes(), &mut |part| parts.push(part));
    }
    let kept = filter.kept().to_vec();
    assert_eq!(kept, b"data: {: a");
    assert_eq!(
        parts,
        [
            Passed::Piece(0..7),
            Passed::Piece(0..2),
            Passed::Kept(0..7),
            Passed::Piece(0..3),
            Passed::Kept(7..10),
            Passed::Piece(0..2),
        ]
    );
    filter.forget_passed();
    assert!(filter.kept().is_empty());
}
