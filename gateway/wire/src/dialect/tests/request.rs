use super::*;
use crate::json::JsonError;
use std::io::Write;

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(body, 1).unwrap()
}

fn coded(coding: ContentCoding, body: &[u8]) -> Vec<u8> {
    match coding {
        ContentCoding::Identity => body.to_vec(),
        ContentCoding::Gzip => gzip(body),
        ContentCoding::Zstd => zstd(body),
    }
}

const CODINGS: [ContentCoding; 3] = [
    ContentCoding::Identity,
    ContentCoding::Gzip,
    ContentCoding::Zstd,
];

fn scanned(
    coding: ContentCoding,
    wire: &[u8],
    piece_bytes: usize,
) -> (RequestScan, Result<(), ScanError>) {
    let mut scan = RequestScan::new(coding, 64, 1 << 20);
    let fed = wire
        .chunks(piece_bytes)
        .try_for_each(|piece| scan.feed(piece));
    let finished = fed.and_then(|()| scan.finish());
    (scan, finished)
}

/// The verdict on a body, which must not depend on its coding and splitting.
fn verdict(body: &str) -> (RequestScan, Result<(), ScanError>) {
    let (scan, verdict) = scanned(ContentCoding::Identity, body.as_bytes(), usize::MAX);
    let describe = |scan: &RequestScan| {
        let texts = [
            scan.model(),
            scan.prompt_cache_key(),
            scan.previous_response_id(),
        ];
        (
            texts.map(|text| text.map(str::to_owned)),
            scan.stream(),
            scan.stores_response(),
            scan.background(),
            scan.output_tokens_max(),
        )
    };
    for coding in CODINGS {
        let wire = coded(coding, body.as_bytes());
        for piece_bytes in [1, 7, 1000] {
            let (split, split_verdict) = scanned(coding, &wire, piece_bytes);
            assert_eq!(
                split_verdict, verdict,
                "{coding:?} in {piece_bytes}: {body}"
            );
            if verdict.is_ok() {
                assert_eq!(split.decoded_bytes(), body.len() as u64, "{body}");
            }
            assert_eq!(
                describe(&split),
                describe(&scan),
                "{coding:?} in {piece_bytes}: {body}"
            );
        }
    }
    (scan, verdict)
}

#[test]
fn what_is_looked_for_is_found_in_every_coding() {
    let (scan, verdict) = verdict(
        r#"{"input":[{"model":"no","stream":false}],"model":"gpt-5","stream":true,"prompt_cache_key":"k\u00e9y","previous_response_id":"resp_1"}"#,
    );
    assert_eq!(verdict, Ok(()));
    assert_eq!(scan.model(), Some("gpt-5"));
    assert!(scan.stream());
    assert_eq!(scan.prompt_cache_key(), Some("k\u{e9}y"));
    assert_eq!(scan.previous_response_id(), Some("resp_1"));
}

#[test]
fn nothing_is_made_up() {
    let (scan, verdict) = verdict("{}");
    assert_eq!(verdict, Ok(()));
    assert_eq!(
        (scan.model(), scan.stream(), scan.prompt_cache_key()),
        (None, false, None)
    );
    for stream in ["false", "null", "1", "\"true\"", "[true]"] {
        let body = format!("{{\"stream\":{stream}}}");
        let (scan, verdict) = self::verdict(&body);
        assert_eq!((verdict, scan.stream()), (Ok(()), false), "{body}");
    }
}

#[test]
fn work_in_the_background_is_noticed() {
    for (body, wanted) in [
        (r#"{"background":true}"#, true),
        (r#"{"b\u0061ckground" : true}"#, true),
        (r#"{"background":false,"background":true}"#, true),
        (r#"{"background":true,"background":false}"#, false),
        (r#"{"background":"true"}"#, false),
        (r#"{"background":null}"#, false),
        (r#"{"metadata":{"background":true}}"#, false),
        ("{}", false),
    ] {
        let (scan, verdict) = verdict(body);
        assert_eq!((verdict, scan.background()), (Ok(()), wanted), "{body}");
    }
}

#[test]
fn of_duplicates_other_than_the_model_the_last_counts() {
    let (scan, verdict) = verdict(
        r#"{"stream":true,"prompt_cache_key":"\u0061","str\u0065am":false,"prompt_cache_key":"b"}"#,
    );
    assert_eq!(verdict, Ok(()));
    assert_eq!((scan.stream(), scan.prompt_cache_key()), (false, Some("b")));
    let (scan, verdict) = self::verdict(
        r#"{"prompt_cache_key":"a","prompt_cache_key":"\u0062","prompt_cache_key":"\u0063"}"#,
    );
    assert_eq!((verdict, scan.prompt_cache_key()), (Ok(()), Some("c")));
    let (scan, verdict) = self::verdict(r#"{"prompt_cache_key":"\u0062","prompt_cache_key":null}"#);
    assert_eq!((verdict, scan.prompt_cache_key()), (Ok(()), None));
}

#[test]
fn the_model_is_one_string() {
    for body in [
        r#"{"model":"a","model":"a"}"#.to_owned(),
        r#"{"model":"a","m\u006fdel":"b"}"#.to_owned(),
        r#"{"model":null}"#.to_owned(),
        r#"{"model":1}"#.to_owned(),
        r#"{"model":["a"]}"#.to_owned(),
        r#"{"model":"\ud800"}"#.to_owned(),
        format!(r#"{{"model":"{}"}}"#, "m".repeat(1023)),
    ] {
        let (scan, verdict) = verdict(&body);
        assert_eq!(verdict, Err(ScanError::AmbiguousModel), "{body}");
        assert_eq!(scan.model(), None);
    }
    let (scan, verdict) = verdict(&format!(r#"{{"model":"{}"}}"#, "m".repeat(1022)));
    assert_eq!((verdict, scan.model().unwrap().len()), (Ok(()), 1022));
    let (scan, verdict) = self::verdict(r#"{"model":"g\u0070t \ud83d\ude00"}"#);
    assert_eq!((verdict, scan.model()), (Ok(()), Some("gpt \u{1f600}")));
}

#[test]
fn the_model_is_known_before_the_body_is_complete() {
    let mut scan = RequestScan::new(ContentCoding::Identity, 64, 100);
    scan.feed(br#"{"model":"a\u0062"#).unwrap();
    assert_eq!(scan.model(), None);
    scan.feed(br#"","input":"#).unwrap();
    assert_eq!(scan.model(), Some("ab"));
    // A second one takes it back.
    assert_eq!(
        scan.feed(br#"1,"model":"c""#),
        Err(ScanError::AmbiguousModel)
    );
    assert_eq!(scan.model(), None);
    assert_eq!(scan.feed(b"}"), Err(ScanError::AmbiguousModel));
    assert_eq!(scan.finish(), Err(ScanError::AmbiguousModel));
}

#[test]
fn a_body_is_one_object() {
    for body in [
        "",
        " ",
        "[]",
        "\"model\"",
        "{",
        "{\"model\":\"a\"",
        "{}{}",
        "{} x",
        "\u{feff}{}",
        "model=a",
    ] {
        assert_eq!(
            verdict(body).1,
            Err(ScanError::Json(JsonError::Invalid)),
            "{body}"
        );
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
    assert_eq!(verdict(&deep).1, Err(ScanError::Json(JsonError::TooDeep)));
    let long = format!("{{\"{}\":1}}", "k".repeat(2000));
    assert_eq!(
        verdict(&long).1,
        Err(ScanError::Json(JsonError::KeyTooLong))
    );
}

#[test]
fn members_and_frames_follow_each_other() {
    let (one, two) = (br#"{"model":"#.as_slice(), br#""a"}"#.as_slice());
    for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
        let wire = [coded(coding, one), coded(coding, b""), coded(coding, two)].concat();
        for piece_bytes in [1, 10, 1000] {
            let (scan, verdict) = scanned(coding, &wire, piece_bytes);
            assert_eq!((verdict, scan.model()), (Ok(()), Some("a")), "{coding:?}");
        }
    }
}

#[test]
fn damaged_data_is_noticed() {
    let body = br#"{"model":"a","input":"0123456789"}"#;
    for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
        let wire = coded(coding, body);
        for end in 0..wire.len() {
            let (scan, verdict) = scanned(coding, &wire[..end], 1000);
            let wanted = match coding {
                // No frame at all is the coding of nothing.
                ContentCoding::Zstd if end == 0 => ScanError::Json(JsonError::Invalid),
                _ => ScanError::Compression,
            };
            assert_eq!(
                (verdict, scan.model()),
                (Err(wanted), None),
                "{coding:?} cut at {end}"
            );
        }
        for garbage in [&b"x"[..], b"\0\0\0\0", body] {
            let (_, verdict) = scanned(coding, &[&wire, garbage].concat(), 1000);
            assert_eq!(
                verdict,
                Err(ScanError::Compression),
                "{coding:?} {garbage:?}"
            );
        }
        assert_eq!(scanned(coding, body, 1000).1, Err(ScanError::Compression));
    }
    // The checksum of gzip covers what the deflate data does not.
    let mut wire = gzip(body);
    let checksum = wire.len() - 8;
    wire[checksum] ^= 1;
    assert_eq!(
        scanned(ContentCoding::Gzip, &wire, 1000).1,
        Err(ScanError::Compression)
    );
}

#[test]
fn what_is_decoded_has_a_limit() {
    let bomb = format!("{{\"x\":\"{}\"}}", " ".repeat(1 << 20));
    for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
        let wire = coded(coding, bomb.as_bytes());
        assert!(wire.len() < 10_000);
        for piece_bytes in [1, wire.len()] {
            let verdict = scanned(coding, &wire, piece_bytes).1;
            assert_eq!(verdict, Err(ScanError::DecodedTooLarge), "{coding:?}");
        }
        let exact = format!("{{\"x\":\"{}\"}}", " ".repeat((1 << 20) - 8));
        assert_eq!(
            scanned(coding, &coded(coding, exact.as_bytes()), 1000).1,
            Ok(())
        );
    }
}

#[test]
fn large_zstd_windows_are_refused() {
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(1000));
    for (window_log, wanted) in [(23, Ok(())), (24, Err(ScanError::Compression))] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(body.as_bytes()).unwrap();
        let wire = encoder.finish().unwrap();
        assert_eq!(
            scanned(ContentCoding::Zstd, &wire, 1000).1,
            wanted,
            "{window_log}"
        );
    }
}

#[test]
fn what_a_piece_holds_is_decoded_with_it() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let start = format!("{{\"input\":\"{}\",\"model\":\"a\",", "x".repeat(100_000));
    encoder.write_all(start.as_bytes()).unwrap();
    encoder.flush().unwrap();
    let mut scan = RequestScan::new(ContentCoding::Zstd, 64, 1 << 20);
    scan.feed(encoder.get_ref()).unwrap();
    assert_eq!(scan.model(), Some("a"));
}

#[test]
fn a_response_is_stored_unless_the_request_says_no() {
    for (body, stored) in [
        ("{}", true),
        (r#"{"store":true}"#, true),
        (r#"{"store":null}"#, true),
        (r#"{"store":"false"}"#, true),
        (r#"{"store":false}"#, false),
        (r#"{"store":true,"store":false}"#, false),
        (r#"{"metadata":{"store":false}}"#, true),
    ] {
        assert_eq!(verdict(body).0.stores_response(), stored, "{body}");
    }
    // Of what cannot be read nothing is known.
    assert!(verdict(r#"{"store":false}}"#).0.stores_response());
}

#[test]
fn a_request_says_how_much_may_be_written() {
    for (body, tokens) in [
        ("{}", None),
        (r#"{"max_output_tokens":100}"#, Some(100)),
        (r#"{"max_completion_tokens":100}"#, Some(100)),
        (r#"{"max_tokens":100}"#, Some(100)),
        (
            r#"{"generationConfig":{"temperature":0.5,"maxOutputTokens":100}}"#,
            Some(100),
        ),
        (
            r#"{"generation_config":{"max_output_tokens":100}}"#,
            Some(100),
        ),
        (r#"{"max_tokens":7,"max_completion_tokens":100}"#, Some(100)),
        (r#"{"max_tokens":7,"max_tokens":9}"#, Some(9)),
        (r#"{"max_tokens":null}"#, None),
        (r#"{"max_tokens":"100"}"#, Some(100)),
        (r#"{"max_tokens":1e6}"#, Some(1_000_000)),
        (r#"{"max_tokens":1000000.0}"#, Some(1_000_000)),
        (r#"{"max_tokens":99999999999999999999999}"#, Some(u64::MAX)),
        (r#"{"max_tokens":-1}"#, Some(u64::from(u32::MAX))),
        (r#"{"max_tokens":"many"}"#, Some(u64::from(u32::MAX))),
        (r#"{"max_tokens":"1\u0030"}"#, Some(u64::from(u32::MAX))),
        (r#"{"max_tokens":[100]}"#, Some(u64::from(u32::MAX))),
        (
            r#"{"max_tokens":true,"n":2}"#,
            Some(2 * u64::from(u32::MAX)),
        ),
        (r#"{"max_tokens":100,"n":2.0}"#, Some(200)),
        (r#"{"input":[{"max_tokens":100}]}"#, None),
        (r#"{"max_tokens":100,"n":3}"#, Some(300)),
        (r#"{"max_tokens":100,"n":0}"#, Some(100)),
        (r#"{"max_tokens":100,"n":null}"#, Some(100)),
        (r#"{"n":3}"#, None),
        (
            r#"{"generationConfig":{"maxOutputTokens":100,"candidateCount":2}}"#,
            Some(200),
        ),
        (
            r#"{"max_tokens":18446744073709551615,"n":2}"#,
            Some(u64::MAX),
        ),
    ] {
        let (scan, verdict) = verdict(body);
        assert_eq!(
            (verdict, scan.output_tokens_max()),
            (Ok(()), tokens),
            "{body}"
        );
    }
    // Of what cannot be read nothing is known.
    assert_eq!(
        verdict(r#"{"max_tokens":100}}"#).0.output_tokens_max(),
        None
    );
}
