//! Server-sent events (WHATWG HTML, "Parsing an event stream"): finds events in what passes, without holding it up.
//!
//! LF, CR and CRLF end lines, a byte order mark at the start is skipped, comments and unknown fields are passed over.

#[cfg(test)]
mod tests;

use memchr::memchr2;

/// What `EventScan` tells its visitor, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// An `event:` line begins: it replaces the type that an earlier one of the same event gave.
    EventStart,
    /// Bytes of an `event:` value (may come in several parts if the line was split over reads).
    Event(&'a [u8]),
    /// A `data:` line begins (so the second one of an event stands for a line feed in the data).
    DataStart {
        /// This line and the empty line behind it are in the same piece: all of the line comes in
        /// one `Data` (none if it is empty), and `Dispatch` follows.
        is_last: bool,
    },
    /// Bytes of a `data:` value.
    Data(&'a [u8]),
    /// An empty line ended the event. `has_data` is false for a block of comments or fields without data.
    Dispatch {
        /// The event had at least one data line.
        has_data: bool,
        /// Bytes of the event, line breaks included; but the LF of a CRLF that ends the empty line is not
        /// counted, because it may not have come yet.
        bytes: u64,
    },
}

/// Splits a byte stream into events. Allocates nothing.
#[derive(Debug, Default)]
pub struct EventScan {
    state: State,
    /// The last byte was a CR that ended a line: an LF would belong to it.
    after_return: bool,
    has_data: bool,
    /// Bytes of the event in earlier pieces.
    earlier_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the start of the stream.
    #[default]
    StreamStart,
    /// In a byte order mark, after that many of its bytes.
    ByteOrderMark(usize),
    LineStart,
    /// The line so far is the first bytes of this field's name.
    Name(Field, usize),
    /// After the colon: one space is not part of the value.
    Colon(Field),
    Value(Field),
    /// In a comment or another field.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Event,
    Data,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Event => b"event",
            Self::Data => b"data",
        }
    }
}

impl EventScan {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the next piece.
    pub fn feed(&mut self, piece: &[u8], visit: &mut impl FnMut(Line<'_>)) {
        let mut cursor = Cursor {
            piece,
            at: 0,
            event_start: 0,
        };
        if self.after_return && !piece.is_empty() {
            self.after_return = false;
            if piece[0] == b'\n' {
                cursor.at = 1;
                // Behind the event's empty line it counts neither for that event nor for the next one.
                cursor.event_start = usize::from(self.earlier_bytes == 0);
            }
        }
        while let Some(&byte) = piece.get(cursor.at) {
            match self.state {
                State::StreamStart | State::ByteOrderMark(_) => {
                    self.stream_start(&mut cursor, byte);
                }
                State::Value(_) | State::Other => self.value(&mut cursor, false, visit),
                _ if matches!(byte, b'\r' | b'\n') => self.end_line(&mut cursor, visit),
                State::LineStart => self.start_line(&mut cursor, byte),
                State::Name(field, matched) => {
                    cursor.at += 1;
                    self.state = match field.name().get(matched) {
                        Some(&wanted) if wanted == byte => State::Name(field, matched + 1),
                        None if byte == b':' => State::Colon(field),
                        _ => State::Other,
                    };
                }
                State::Colon(field) => {
                    cursor.at += usize::from(byte == b' ');
                    self.state = State::Value(field);
                    self.value(&mut cursor, true, visit);
                }
            }
        }
        self.earlier_bytes += (piece.len() - cursor.event_start) as u64;
    }

    /// Nothing has come since the last empty line: something of our own may be put here.
    /// (After a CR that ended a line this is true only if no LF can belong to it: true once the next byte is known,
    /// or when CR was not the last byte.)
    pub fn at_boundary(&self) -> bool {
        self.earlier_bytes == 0 && !self.after_return
    }

    fn stream_start(&mut self, cursor: &mut Cursor<'_>, byte: u8) {
        let matched = match self.state {
            State::ByteOrderMark(matched) => matched,
            _ => 0,
        };
        self.state = match matched {
            _ if byte == BYTE_ORDER_MARK[matched] => {
                cursor.at += 1;
                match matched + 1 {
                    matched if matched == BYTE_ORDER_MARK.len() => State::LineStart,
                    matched => State::ByteOrderMark(matched),
                }
            }
            0 => State::LineStart,
            // What looked like a mark is the name of a field that nobody knows.
            _ => State::Other,
        };
    }

    fn start_line(&mut self, cursor: &mut Cursor<'_>, byte: u8) {
        // Nearly always the whole name is there.
        self.state = if cursor.skip(b"data:") {
            State::Colon(Field::Data)
        } else if cursor.skip(b"event:") {
            State::Colon(Field::Event)
        } else {
            cursor.at += 1;
            match byte {
                b'd' => State::Name(Field::Data, 1),
                b'e' => State::Name(Field::Event, 1),
                _ => State::Other,
            }
        };
    }

    /// Bytes up to the end of the line; `starts`: they are the first of a value.
    fn value(&mut self, cursor: &mut Cursor<'_>, starts: bool, visit: &mut impl FnMut(Line<'_>)) {
        let rest = &cursor.piece[cursor.at..];
        let line_break = memchr2(b'\r', b'\n', rest);
        let value = &rest[..line_break.unwrap_or(rest.len())];
        cursor.at += value.len();
        match self.state {
            State::Value(Field::Event) => {
                if starts {
                    visit(Line::EventStart);
                }
                if !value.is_empty() {
                    visit(Line::Event(value));
                }
            }
            State::Value(Field::Data) => {
                if starts {
                    self.has_data = true;
                    visit(Line::DataStart {
                        is_last: cursor.is_before_empty_line(),
                    });
                }
                if !value.is_empty() {
                    visit(Line::Data(value));
                }
            }
            _ => {}
        }
        if line_break.is_some() {
            self.end_line(cursor, visit);
        }
    }

    /// At a CR or LF.
    fn end_line(&mut self, cursor: &mut Cursor<'_>, visit: &mut impl FnMut(Line<'_>)) {
        match self.state {
            State::Colon(field) => self.empty_value(field, cursor, visit),
            // A field name alone is a field with an empty value.
            State::Name(field, matched) if matched == field.name().len() => {
                self.empty_value(field, cursor, visit);
            }
            State::LineStart => {
                let bytes = cursor.at + 1 - cursor.event_start;
                let bytes = self.earlier_bytes + bytes as u64;
                visit(Line::Dispatch {
                    has_data: self.has_data,
                    bytes,
                });
                self.has_data = false;
                self.earlier_bytes = 0;
            }
            _ => {}
        }
        let is_dispatch = self.state == State::LineStart;
        let line_break = cursor.at;
        cursor.at = after_line_break(cursor.piece, line_break);
        if is_dispatch {
            cursor.event_start = cursor.at;
        }
        self.after_return = cursor.at == cursor.piece.len() && cursor.piece.ends_with(b"\r");
        self.state = State::LineStart;
    }

    fn empty_value(&mut self, field: Field, cursor: &Cursor<'_>, visit: &mut impl FnMut(Line<'_>)) {
        match field {
            Field::Event => visit(Line::EventStart),
            Field::Data => {
                self.has_data = true;
                visit(Line::DataStart {
                    is_last: cursor.is_before_empty_line(),
                });
            }
        }
    }
}

/// Where in a piece.
struct Cursor<'p> {
    piece: &'p [u8],
    at: usize,
    event_start: usize,
}

impl Cursor<'_> {
    fn skip(&mut self, wanted: &[u8]) -> bool {
        let there = self.piece[self.at..].starts_with(wanted);
        self.at += if there { wanted.len() } else { 0 };
        there
    }

    /// At a line break that is followed by an empty line in the same piece.
    fn is_before_empty_line(&self) -> bool {
        let next_line = after_line_break(self.piece, self.at);
        matches!(self.piece.get(next_line), Some(b'\r' | b'\n'))
    }
}

/// Where the next line begins, if this one's break is at `at` and no LF comes in the next piece.
fn after_line_break(piece: &[u8], at: usize) -> usize {
    at + if piece[at..].starts_with(b"\r\n") {
        2
    } else {
        1
    }
}
