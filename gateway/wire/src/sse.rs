//! Server-sent events (WHATWG HTML, "Parsing an event stream"): finds events in what passes, without holding it up.
//!
//! LF, CR and CRLF end lines, a byte order mark at the start is skipped, comments and unknown fields are passed over.

/// What `EventScan` tells its visitor, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Bytes of an `event:` value (may come in several parts if the line was split over reads).
    Event(&'a [u8]),
    /// A `data:` line begins (so the second one of an event stands for a line feed in the data).
    DataStart,
    /// Bytes of a `data:` value.
    Data(&'a [u8]),
    /// An empty line ended the event. `has_data` is false for a block of comments or fields without data.
    Dispatch {
        /// The event had at least one data line.
        has_data: bool,
        /// Bytes of the event, line breaks included.
        bytes: u64,
    },
}

/// Splits a byte stream into events. Allocates nothing.
#[derive(Debug, Default)]
pub struct EventScan {
    _todo: (),
}

impl EventScan {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the next piece.
    pub fn feed(&mut self, piece: &[u8], visit: &mut impl FnMut(Line<'_>)) {
        todo!("{piece:?} {:p}", visit)
    }

    /// Nothing has come since the last empty line: something of our own may be put here.
    /// (After a CR that ended a line this is true only if no LF can belong to it: true once the next byte is known,
    /// or when CR was not the last byte.)
    pub fn at_boundary(&self) -> bool {
        todo!()
    }
}
