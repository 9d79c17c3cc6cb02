use super::{changed, changes, cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use relay_wire::dialect::{
    AnswerObserver, ContentCoding, Dialect, ErrorScan, RequestScan, StreamObserver,
};
use std::io::Write;

/// Events of all dialects, so that each also meets those of the others.
const EVENTS: &[&str] = &[
    "event: response.created\ndata: {\"type\":\"response.created\"}\n\n",
    "event: response.created\ndata: {\"response\":{\"id\":\"resp_0\",\"id\":\"resp_1\"}}\n\n",
    "data: {\"type\":\"response.in_progress\",\"response\":{\"a\":[],\"id\":\"resp_1\"}}\n\n",
    "event: error\ndata: {\"code\":\"slow_down\",\"error\":{\"resets_in_seconds\":15}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
    "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3}}}\n\n",
    "data: {\"sequence_number\":12345678901234567890,\"response\":{\"x\":1},\"type\":\"response.failed\"}\n\n",
    "event: keepalive\r\ndata: {\"type\":\"keepalive\"}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"\\u00e9 \\\"usage\\\":\"}}],\"usage\":null}\n\n",
    "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n",
    "data: {\"err\\u006fr\":{\"message\":\"x\"}}\n\n",
    "data: {\"error\":{\"message\":\"x\",\"code\":429}}\r\r",
    "data: [DONE]\n\n",
    "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":1,\"cache_read_input_tokens\":2}}}\n\n",
    "event: message_delta\ndata: {\"usage\":\ndata: {\"output_tokens\":9}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7}}\n\n",
    ": comment\n\n",
    "data\n\n",
];

const BODIES: &[&str] = &[
    "{\"model\":\"gpt-5\",\"stream\":true,\"max_output_tokens\":10,\"input\":[{\"a\":1.5e3}],\"prompt_cache_key\":\"k\\u0031\"}",
    "{\"stream\":false,\"store\":false,\"m\\u006fdel\":\"a b\",\"previous_response_id\":\"r\",\"x\":{\"model\":null}}",
    "{\"id\":\"r\",\"usage\":{\"input_tokens\":1},\"model\":\"x\",\"response\":{\"usage\":{\"output_tokens\":2}}}",
];

const ERRORS: &[&str] = &[
    "{\"error\":{\"code\":\"insufficient_quota\",\"type\":\"server_error\",\"resets_at\":1738888888.5}}",
    "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"},\"resets_in_seconds\":15}",
    "{\"error\":{\"code\":429,\"status\":\"UNAVAILABLE\",\"details\":[{\"retryDelay\":\"36s\"}]}}",
];

fn observed(dialect: Dialect, pieces: &[&[u8]]) -> String {
    let mut observer = StreamObserver::new(dialect, 100);
    pieces.iter().for_each(|piece| observer.observe(piece));
    format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {} {}",
        observer.events(),
        observer.progress(),
        observer.terminal(),
        observer.terminal_at_end(),
        observer.usage(),
        observer.failure(),
        observer.response_id(),
        observer.at_boundary(),
        observer.estimated_output_tokens(),
    )
}

fn answered(dialect: Dialect, pieces: &[&[u8]]) -> String {
    let mut observer = AnswerObserver::new(dialect, 8);
    pieces.iter().for_each(|piece| observer.observe(piece));
    format!("{:?} {:?}", observer.usage(), observer.response_id())
}

fn reported(pieces: &[&[u8]]) -> String {
    let mut scan = ErrorScan::new(8);
    pieces.iter().for_each(|piece| scan.observe(piece));
    format!("{:?}", scan.report())
}

fn scanned(coding: ContentCoding, pieces: &[&[u8]]) -> String {
    let mut scan = RequestScan::new(coding, 8, 200);
    let fed = pieces.iter().try_for_each(|piece| scan.feed(piece));
    let finished = scan.finish();
    assert!(fed.is_ok() || finished == fed, "the first error sticks");
    let told = (
        scan.model(),
        scan.stream(),
        scan.prompt_cache_key(),
        scan.previous_response_id(),
        scan.stores_response(),
        scan.output_tokens_max(),
    );
    if finished.is_err() {
        assert_eq!(told, (None, false, None, None, true, None));
    }
    // Of two errors in one piece either may be met first.
    format!("{:?} {told:?}", finished.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn splitting_a_stream_changes_nothing(
        events in vec(select(EVENTS), 0..5),
        changes in changes(b"\r\n\n\n: \"{}[]\\,edtu01"),
        cuts in cuts(),
    ) {
        let stream = changed(events.concat().as_bytes(), &changes);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        for dialect in Dialect::ALL {
            let whole = observed(dialect, &[&stream]);
            prop_assert_eq!(&observed(dialect, &pieces(&stream, &cuts)), &whole, "{:?}", dialect);
            prop_assert_eq!(&observed(dialect, &bytes), &whole, "{:?}", dialect);
        }
    }

    #[test]
    fn splitting_an_answer_changes_nothing(
        body in select(BODIES),
        changes in changes(b"\" {}[]:,\\01u"),
        cuts in cuts(),
    ) {
        let body = changed(body.as_bytes(), &changes);
        for dialect in Dialect::ALL {
            let whole = answered(dialect, &[&body]);
            prop_assert_eq!(answered(dialect, &pieces(&body, &cuts)), whole);
        }
    }

    #[test]
    fn splitting_an_error_changes_nothing(
        body in select(ERRORS),
        changes in changes(b"\" {}[]:,\\01u.-es"),
        cuts in cuts(),
    ) {
        let body = changed(body.as_bytes(), &changes);
        prop_assert_eq!(reported(&pieces(&body, &cuts)), reported(&[&body]));
    }

    #[test]
    fn splitting_and_coding_a_request_change_nothing(
        body in select(BODIES),
        changes in changes(b"\" {}[]:,\\01u"),
        cuts in cuts(),
    ) {
        let body = changed(body.as_bytes(), &changes);
        let whole = scanned(ContentCoding::Identity, &[&body]);
        prop_assert_eq!(&scanned(ContentCoding::Identity, &pieces(&body, &cuts)), &whole);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&body).unwrap();
        let gzip = gzip.finish().unwrap();
        prop_assert_eq!(&scanned(ContentCoding::Gzip, &pieces(&gzip, &cuts)), &whole);
        let zstd = zstd::bulk::compress(&body, 1).unwrap();
        prop_assert_eq!(&scanned(ContentCoding::Zstd, &pieces(&zstd, &cuts)), &whole);
    }

    #[test]
    fn damaged_compression_makes_nothing_panic(
        body in select(BODIES),
        changes in changes(b"\0\x01\x1f\x8b\x28\xb5\x2f\xfd\xff"),
        cuts in cuts(),
    ) {
        let zstd = zstd::bulk::compress(body.as_bytes(), 1).unwrap();
        let zstd = changed(&zstd, &changes);
        let whole = scanned(ContentCoding::Zstd, &[&zstd]);
        prop_assert_eq!(scanned(ContentCoding::Zstd, &pieces(&zstd, &cuts)), whole);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body.as_bytes()).unwrap();
        let gzip = changed(&gzip.finish().unwrap(), &changes);
        let whole = scanned(ContentCoding::Gzip, &[&gzip]);
        prop_assert_eq!(scanned(ContentCoding::Gzip, &pieces(&gzip, &cuts)), whole);
    }
}
