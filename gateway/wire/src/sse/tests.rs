use super::*;

/// What the visitor is told of these pieces, one line of text each.
fn told(pieces: &[&str]) -> Vec<String> {
    let mut scan = EventScan::new();
    let mut told = Vec::new();
    for piece in pieces {
        scan.feed(piece.as_bytes(), &mut |line| {
            told.push(match line {
                Line::Event(part) => format!("event {}", String::from_utf8_lossy(part)),
                Line::Data(part) => format!("data {}", String::from_utf8_lossy(part)),
                other => format!("{other:?}"),
            });
        });
    }
    told
}

const START: &str = "DataStart { is_last: false }";
const LAST: &str = "DataStart { is_last: true }";

#[test]
fn an_event_is_told_line_by_line() {
    let wanted = [
        "EventStart",
        "event a:b",
        START,
        "data x",
        LAST,
        "data  y",
        "Dispatch { has_data: true, bytes: 29 }",
    ];
    assert_eq!(told(&["event: a:b\ndata: x\ndata:  y\n\n"]), wanted);
}

#[test]
fn a_split_value_comes_in_parts() {
    let wanted = [
        START,
        "data ab",
        "data c",
        "Dispatch { has_data: true, bytes: 12 }",
    ];
    assert_eq!(
        told(&["da", "ta:", " ", "ab", "c", "\r", "\n", "\r"]),
        wanted
    );
}

#[test]
fn comments_and_unknown_fields_are_no_data() {
    assert_eq!(
        told(&[": data: x\n\n"]),
        ["Dispatch { has_data: false, bytes: 11 }"]
    );
    assert_eq!(told(&["Data: x\ndatax: y\n data: z\n\n"]).len(), 1);
}

#[test]
fn values_may_be_empty() {
    let dispatch = |bytes| format!("Dispatch {{ has_data: true, bytes: {bytes} }}");
    assert_eq!(told(&["data\n\n"]), [LAST, &dispatch(6)]);
    assert_eq!(told(&["data:\n\n"]), [LAST, &dispatch(7)]);
    assert_eq!(told(&["data: \n\n"]), [LAST, &dispatch(8)]);
    assert_eq!(told(&["event\ndata\r\r"])[0], "EventStart");
    assert_eq!(told(&["event:\n"]), ["EventStart"]);
}

#[test]
fn own_bytes_may_be_put_between_events_only() {
    let mut scan = EventScan::new();
    assert!(scan.at_boundary());
    for (piece, at_boundary) in [
        ("d", false),
        ("ata: x\n", false),
        ("\n", true),
        ("\r", false),
        ("\n", true),
        (": note\n", false),
        ("\r", false),
        ("d", false),
        ("\n\r", false),
        ("\n", true),
        ("\r\r\n", true),
    ] {
        scan.feed(piece.as_bytes(), &mut |_| {});
        assert_eq!(scan.at_boundary(), at_boundary, "after {piece:?}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    assert_eq!(told(&["\u{feff}data: x\n\n"])[1], "data x");
    assert_eq!(told(&["\n\u{feff}data: x\n\n"]).len(), 2);
    assert_eq!(told(&["\u{feff}\u{feff}data: x\n\n"]).len(), 1);
}
