use super::frame::{ACK, END_HEADERS, END_STREAM, FrameKind, PADDED, PREFACE};
use super::*;

const PRIORITY_FLAG: u8 = 0x20;
/// RFC 9218, which browsers send: not one of RFC 9113's.
const PRIORITY_UPDATE: u8 = 0x10;

fn frame(code: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [length[1], length[2], length[3], code, flags, 0, 0, 0, 1];
    [&header[..], payload].concat()
}

fn of(kind: FrameKind, flags: u8, payload_bytes: usize) -> Vec<u8> {
    frame(kind as u8, flags, &vec![0; payload_bytes])
}

/// A client whose preface and SETTINGS have come.
fn begun() -> FrameWatch {
    let mut watch = FrameWatch::new(0);
    watch.saw(PREFACE, 0).unwrap();
    watch.saw(&of(FrameKind::Settings, 0, 18), 0).unwrap();
    watch
}

/// How many of these frames pass at once.
fn passing(watch: &mut FrameWatch, frame: &[u8], now_ms: u64) -> (usize, Flood) {
    let mut count = 0;
    loop {
        match watch.saw(frame, now_ms) {
            Ok(()) => count += 1,
            Err(flood) => return (count, flood),
        }
        assert!(count < 1_000_000, "no end to it");
    }
}

mod floods {
    use super::*;

    #[test]
    fn each_sort_has_an_end() {
        for (kind, flags, payload_bytes, wanted) in [
            (FrameKind::Ping, 0, 8, (992, Flood::Control)),
            (FrameKind::Ping, ACK, 8, (992, Flood::Control)),
            (FrameKind::Settings, 0, 6, (124, Flood::Control)),
            (FrameKind::Settings, ACK, 0, (992, Flood::Control)),
            (FrameKind::Priority, 0, 5, (992, Flood::Control)),
            (FrameKind::GoAway, 0, 8, (992, Flood::Control)),
            (FrameKind::Unknown, 0, 0, (992, Flood::Control)),
            (FrameKind::Unknown, 0, 16_384, (58, Flood::Control)),
            (FrameKind::Data, 0, 0, (992, Flood::Control)),
            (FrameKind::Continuation, 0, 9, (992, Flood::Control)),
            (FrameKind::WindowUpdate, 0, 4, (10_000, Flood::WindowUpdate)),
            (FrameKind::ResetStream, 0, 4, (200, Flood::Reset)),
            (FrameKind::Data, 0, 1, (4096, Flood::SmallData)),
            (FrameKind::Data, 0, 63, (4096, Flood::SmallData)),
        ] {
            let found = passing(&mut begun(), &of(kind, flags, payload_bytes), 0);
            assert_eq!(found, wanted, "{kind:?} {flags} {payload_bytes}");
        }
    }

    #[test]
    fn padding_is_no_data() {
        let padded = |padding: u8, data_bytes: usize| {
            let mut payload = vec![padding];
            payload.resize(1 + data_bytes + usize::from(padding), 0);
            frame(FrameKind::Data as u8, PADDED, &payload)
        };
        for (padding, data_bytes, wanted) in [
            (255, 0, Flood::Control),
            (0, 0, Flood::Control),
            (100, 63, Flood::SmallData),
        ] {
            let (_, flood) = passing(&mut begun(), &padded(padding, data_bytes), 0);
            assert_eq!(flood, wanted, "{padding} {data_bytes}");
        }
        let mut watch = begun();
        for _ in 0..20_000 {
            watch.saw(&padded(255, 64), 0).unwrap();
        }
        // More padding than payload: an error of the connection that is found elsewhere.
        let broken = frame(FrameKind::Data as u8, PADDED, &[9, 0]);
        assert_eq!(passing(&mut begun(), &broken, 0).1, Flood::Control);
    }

    #[test]
    fn requests_that_are_taken_back() {
        let request = of(FrameKind::Headers, END_HEADERS | END_STREAM, 40);
        let rapid = [request, of(FrameKind::ResetStream, 0, 4)].concat();
        let mut watch = begun();
        assert_eq!(passing(&mut watch, &rapid, 0), (200, Flood::Reset));
        // Ten a second come back.
        assert_eq!(passing(&mut watch, &rapid, 2000), (20, Flood::Reset));
        watch.note_answered();
        assert_eq!(passing(&mut watch, &rapid, 2000), (1, Flood::Reset));
    }

    #[test]
    fn requests_that_have_to_be_reset() {
        let mut watch = begun();
        for _ in 0..200 {
            assert_eq!(watch.note_malformed(), Ok(()));
        }
        assert_eq!(watch.note_malformed(), Err(Flood::Reset));
    }

    #[test]
    fn header_blocks_without_end() {
        let continuation = |bytes| of(FrameKind::Continuation, 0, bytes);
        for (bytes, wanted) in [(1, 31), (16_384, 7), (0, 31)] {
            let mut watch = begun();
            watch.saw(&of(FrameKind::Headers, 0, 16_384), 0).unwrap();
            let found = passing(&mut watch, &continuation(bytes), 0);
            assert_eq!(found, (wanted, Flood::HeaderBlock), "{bytes}");
        }
        // A length of 16 MiB is not waited for.
        let huge = [0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1];
        assert_eq!(begun().saw(&huge, 0), Err(Flood::HeaderBlock));
    }

    #[test]
    fn blocks_are_measured_and_nothing_else_is() {
        let mut watch = begun();
        let frames = [
            of(FrameKind::Headers, 0, 100),
            of(FrameKind::Continuation, END_HEADERS, 20),
            of(FrameKind::Data, 0, 1000),
            of(FrameKind::Headers, END_HEADERS, 3),
        ];
        for byte in frames.concat() {
            watch.saw(&[byte], 0).unwrap();
        }
        assert_eq!(watch.block_bytes(), 123);
    }

    #[test]
    fn empty_parts_of_header_blocks() {
        let block = [
            of(FrameKind::Headers, 0, 0),
            of(FrameKind::Continuation, 0, 0).repeat(29),
            of(FrameKind::Continuation, END_HEADERS, 10),
        ]
        .concat();
        let (count, flood) = passing(&mut begun(), &block, 0);
        assert!(count < 50, "{count}");
        assert_eq!(flood, Flood::Control);
    }

    #[test]
    fn what_is_no_preface() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        ] {
            assert_eq!(FrameWatch::new(0).saw(bytes, 0), Err(Flood::NotHttp2));
        }
    }

    #[test]
    fn settings_belong_to_the_preface() {
        for first in [
            of(FrameKind::Ping, 0, 8),
            of(FrameKind::Settings, ACK, 0),
            of(FrameKind::Headers, END_HEADERS, 9),
            of(FrameKind::Data, PADDED, 9),
        ] {
            let mut watch = FrameWatch::new(0);
            watch.saw(PREFACE, 0).unwrap();
            assert_eq!(watch.saw(&first, 0), Err(Flood::NotHttp2));
            assert_eq!(begun().saw(&first, 0), Ok(()));
        }
    }
}

mod real_clients {
    use super::*;

    /// Sends the trace again and again, without any time passing.
    fn assert_endless(mut watch: FrameWatch, trace: &[u8], answer: impl Fn(&mut FrameWatch)) {
        for round in 0..20_000 {
            assert_eq!(watch.saw(trace, 0), Ok(()), "round {round}");
            answer(&mut watch);
        }
    }

    fn get() -> Vec<u8> {
        of(FrameKind::Headers, END_HEADERS | END_STREAM, 60)
    }

    #[test]
    fn h2load() {
        let start = [
            &PREFACE[..],
            &of(FrameKind::Settings, 0, 12),
            &of(FrameKind::WindowUpdate, 0, 4),
            &get().repeat(100),
            &of(FrameKind::Settings, ACK, 0),
        ];
        let mut watch = FrameWatch::new(0);
        watch.saw(&start.concat(), 0).unwrap();
        assert_endless(watch, &get(), |watch| watch.note_sent(1024));
    }

    #[test]
    fn nghttp_builds_a_tree_of_priorities() {
        let start = [
            &PREFACE[..],
            &of(FrameKind::Settings, 0, 12),
            &of(FrameKind::Priority, 0, 5).repeat(5),
            &of(
                FrameKind::Headers,
                END_HEADERS | END_STREAM | PRIORITY_FLAG,
                45,
            ),
            &of(FrameKind::Settings, ACK, 0),
            &of(FrameKind::GoAway, 0, 8),
        ];
        let mut watch = FrameWatch::new(0);
        watch.saw(&start.concat(), 0).unwrap();
    }

    #[test]
    fn a_browser_sends_priorities_with_each_request() {
        let request = [
            of(FrameKind::Headers, END_HEADERS | PRIORITY_FLAG, 400),
            frame(PRIORITY_UPDATE, 0, &[0; 7]),
            of(FrameKind::Priority, 0, 5),
            of(FrameKind::Data, END_STREAM, 39_000),
            of(FrameKind::WindowUpdate, 0, 4).repeat(2),
        ];
        assert_endless(begun(), &request.concat(), |_| {});
    }

    #[test]
    fn codex_leaves_before_the_last_byte() {
        let request = [
            of(FrameKind::Headers, END_HEADERS, 300),
            of(FrameKind::Data, 0, 16_384),
            of(FrameKind::Data, 0, 16_384),
            of(FrameKind::Data, END_STREAM, 7000),
            of(FrameKind::WindowUpdate, 0, 4),
            of(FrameKind::ResetStream, 0, 4),
        ];
        assert_endless(begun(), &request.concat(), FrameWatch::note_answered);
    }

    #[test]
    fn small_events_are_answered_with_updates_of_both_windows() {
        let updates = of(FrameKind::WindowUpdate, 0, 4).repeat(2);
        assert_endless(begun(), &updates, |watch| watch.note_sent(200));
    }

    #[test]
    fn a_large_answer_is_answered_with_updates_and_pings() {
        let answer = [
            of(FrameKind::WindowUpdate, 0, 4).repeat(8),
            of(FrameKind::Ping, 0, 8),
        ];
        assert_endless(begun(), &answer.concat(), |watch| watch.note_sent(16_384));
    }

    #[test]
    fn an_idle_connection_is_kept_alive_with_pings() {
        let mut watch = begun();
        for second in 0..100_000 {
            let ping = of(FrameKind::Ping, 0, 8);
            assert_eq!(watch.saw(&ping, second * 1000), Ok(()), "second {second}");
        }
    }

    #[test]
    fn a_large_request() {
        assert_endless(begun(), &of(FrameKind::Data, 0, 16_384), |_| {});
    }
}

mod places {
    use super::*;

    #[test]
    fn what_is_not_complete_has_begun_some_time() {
        let head = |since_ms| Some(Unfinished::Head { since_ms });
        let frame = |since_ms| Some(Unfinished::Frame { since_ms });
        let mut watch = FrameWatch::new(5);
        assert_eq!(watch.unfinished(), head(5));
        watch.saw(&PREFACE[..20], 6).unwrap();
        assert_eq!(watch.unfinished(), head(5));
        watch.saw(&PREFACE[20..], 7).unwrap();
        watch.saw(&of(FrameKind::Settings, 0, 0), 7).unwrap();
        assert_eq!(watch.unfinished(), None);

        let data = of(FrameKind::Data, PADDED, 100);
        for (part, now_ms) in [(&data[..4], 10), (&data[4..9], 11), (&data[9..50], 12)] {
            watch.saw(part, now_ms).unwrap();
            assert_eq!(watch.unfinished(), frame(10));
        }
        watch.saw(&data[50..], 13).unwrap();
        assert_eq!(watch.unfinished(), None);

        let block = [
            of(FrameKind::Headers, 0, 10),
            of(FrameKind::Continuation, 0, 10),
            of(FrameKind::Continuation, END_HEADERS, 10),
        ]
        .concat();
        watch.saw(&block[..9], 20).unwrap();
        for (at, byte) in block.iter().enumerate().skip(9) {
            assert_eq!(watch.unfinished(), head(20), "byte {at}");
            watch.saw(&[*byte], 20 + at as u64).unwrap();
        }
        assert_eq!(watch.unfinished(), None);
    }

    /// Also of frames without a payload, and of those that end a block.
    #[test]
    fn pieces_make_no_difference() {
        let trace = [
            &PREFACE[..],
            &of(FrameKind::Settings, 0, 12),
            &of(FrameKind::Settings, ACK, 0),
            &of(FrameKind::Headers, 0, 0),
            &of(FrameKind::Continuation, END_HEADERS, 0),
            &frame(FrameKind::Data as u8, PADDED, &[1, 2, 3]),
            &frame(FrameKind::Data as u8, PADDED, &[0]),
            &of(FrameKind::Data, PADDED, 0),
            &of(FrameKind::ResetStream, 0, 4),
        ]
        .concat();
        for size in 1..=trace.len() {
            let mut watch = FrameWatch::new(0);
            for piece in trace.chunks(size) {
                watch.saw(piece, 0).unwrap();
            }
            assert_eq!(watch.unfinished(), None, "pieces of {size}");
            // What is left of each budget: SETTINGS is eight, its answer one, the two empty parts of a block of header fields
            // and the two empty DATA one each, and the request has given four; one small DATA; one reset.
            let left = [
                of(FrameKind::Ping, 0, 8),
                of(FrameKind::Data, 0, 1),
                of(FrameKind::ResetStream, 0, 4),
            ];
            let left = left.map(|frame| passing(&mut watch, &frame, 0).0);
            assert_eq!(left, [991, 4095, 199], "pieces of {size}");
        }
    }

    #[test]
    fn kinds_stand_in_the_order_of_their_codes() {
        for (code, kind) in FrameKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, code);
        }
        assert!(size_of::<FrameWatch>() <= 256);
    }
}
