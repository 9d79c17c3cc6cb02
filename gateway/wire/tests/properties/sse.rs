use super::{cuts, pieces};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_wire::sse::{EventScan, Line};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    event_type: Vec<u8>,
    data: Option<Vec<u8>>,
    bytes: u64,
}

/// The events as a scanner reports them.
fn scanned(pieces: &[&[u8]]) -> (Vec<Event>, EventScan) {
    let mut scan = EventScan::new();
    let mut events = Vec::new();
    let mut event = Event::default();
    for piece in pieces {
        // After the last line of an event: how much of its data has come.
        let mut parts_of_last = None;
        scan.feed(piece, &mut |line| match line {
            Line::EventStart => event.event_type.clear(),
            Line::Event(part) => {
                assert!(!part.is_empty() && parts_of_last.is_none());
                event.event_type.extend(part);
            }
            Line::DataStart { is_last } => {
                assert!(parts_of_last.is_none());
                match &mut event.data {
                    Some(data) => data.push(b'\n'),
                    None => event.data = Some(Vec::new()),
                }
                parts_of_last = is_last.then_some(0);
            }
            Line::Data(part) => {
                assert!(!part.is_empty() && parts_of_last != Some(1));
                parts_of_last = parts_of_last.map(|parts| parts + 1);
                event
                    .data
                    .as_mut()
                    .expect("DataStart comes first")
                    .extend(part);
            }
            Line::Dispatch { has_data, bytes } => {
                assert_eq!(has_data, event.data.is_some());
                parts_of_last = None;
                event.bytes = bytes;
                events.push(std::mem::take(&mut event));
            }
        });
        assert_eq!(
            parts_of_last, None,
            "the event ends in the piece that said so"
        );
    }
    (events, scan)
}

/// The events and how many bytes came behind the last, by the letter of the standard, on the whole stream.
fn reference(stream: &[u8]) -> (Vec<Event>, usize) {
    let mut events = Vec::new();
    let mut event = Event::default();
    let mut event_start = 0;
    let mut line_start = if stream.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let mut at = line_start;
    while at < stream.len() {
        if !matches!(stream[at], b'\r' | b'\n') {
            at += 1;
            continue;
        }
        let line = &stream[line_start..at];
        let is_crlf = stream[at..].starts_with(b"\r\n");
        if line.is_empty() {
            event.bytes = (at + 1 - event_start) as u64;
            events.push(std::mem::take(&mut event));
        } else {
            field(&mut event, line);
        }
        at += if is_crlf { 2 } else { 1 };
        if line.is_empty() {
            event_start = at;
        }
        line_start = at;
    }
    (events, stream.len() - event_start)
}

fn field(event: &mut Event, line: &[u8]) {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default();
    let value = parts.next().unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match (name, &mut event.data) {
        (b"event", _) => event.event_type = value.to_vec(),
        (b"data", None) => event.data = Some(value.to_vec()),
        (b"data", Some(data)) => {
            data.push(b'\n');
            data.extend(value);
        }
        _ => {}
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let fragment = proptest::sample::select(vec![
        &b"\n"[..],
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n",
        b"\n\n",
        b"data: {\"a\":1}\n\n",
        b"event: x\r\n",
        b"data:",
        b"data: ",
        b"data",
        b"event:",
        b"event",
        b"even",
        b":",
        b" ",
        b"  ",
        b"x",
        b"id: 1",
        b": note",
        b"retry:1",
        b"dat",
        b"a",
        b"\xef\xbb\xbf",
        b"\xef\xbb",
        b"\xc3\xa9",
        b"\0",
    ]);
    vec(fragment, 0..25).prop_map(|fragments| fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn events_are_those_of_the_standard(stream in stream(), cuts in cuts()) {
        let (wanted, rest) = reference(&stream);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        for pieces in [vec![&stream[..]], pieces(&stream, &cuts), bytes] {
            let (events, scan) = scanned(&pieces);
            prop_assert_eq!(&events, &wanted);
            prop_assert_eq!(scan.at_boundary(), rest == 0 && !stream.ends_with(b"\r"));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(stream in vec(any::<u8>(), 0..100), cuts in cuts()) {
        let (events, _) = scanned(&pieces(&stream, &cuts));
        prop_assert_eq!(events, reference(&stream).0);
    }
}
