//! Message bodies: an incremental parser that finds payload and end in what was read, for every framing.
//!
//! The parser never copies: it returns pieces as ranges of the input it was given. A relay that keeps the
//! framing sends `Piece::Framing` and `Piece::Payload` as they are; one that changes it sends the payload only.

#[cfg(test)]
mod tests;

use crate::head::{Framing, is_token_byte};
use std::ops::Range;

/// Whose body it is: clients get no leniency, upstreams may use chunk extensions and trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Chunk extensions and trailer fields are errors.
    Client,
    /// Chunk extensions (≤ 256 bytes a chunk, no control characters) pass; trailers (≤ 8 KiB) are set apart.
    Upstream,
}

/// What a stretch of input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Chunk-size lines, the line break after chunk data, the last chunk (`0 CRLF`), and the final CRLF.
    /// Passed on by a relay that keeps chunked framing.
    Framing(Range<usize>),
    /// Payload bytes.
    Payload(Range<usize>),
    /// Trailer fields: never passed on.
    Trailer(Range<usize>),
    /// The body is complete; input from this index on belongs to the next message.
    End(usize),
}

/// Why a body is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BodyError {
    /// Not `1*HEXDIG`, empty, or more than 15 digits.
    InvalidChunkSize,
    /// An extension from a client, or one that is too long or has control characters.
    ChunkExtension,
    /// Chunk data not followed by CRLF, or a bare CR or LF anywhere in the framing.
    MissingLineBreak,
    /// Trailer from a client, malformed or too long.
    InvalidTrailer,
}

/// Finds the pieces of one message body. Any split of the input gives the same payload and end.
///
/// Own code rather than `httparse::parse_chunk_size`, which takes an empty line for the last chunk. A clone looks ahead from
/// where it was made.
#[derive(Clone, Debug)]
pub struct BodyParser {
    state: State,
    sender: Sender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many payload bytes are left, more than 0; then the body is complete.
    Counted(u64),
    UntilClose,
    /// In the framing of the chunked coding.
    Chunked(Chunked),
    /// This many bytes of the chunk are left, more than 0.
    ChunkData(u64),
    /// Complete, but the caller was not told yet.
    Complete,
    Ended,
    Broken(BodyError),
}

/// Where in the framing (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    /// In the size; before its first digit if `digits` is 0.
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        bytes: u16,
    },
    SizeLineFeed {
        size: u64,
    },
    DataReturn,
    DataLineFeed,
    /// After the last chunk, up to the carriage return of the final line.
    Trailer {
        part: TrailerPart,
        bytes: u16,
    },
    FinalLineFeed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailerPart {
    LineStart,
    Name,
    Value,
    LineFeed,
}

const SIZE_DIGITS_MAX: u8 = 15;
const EXTENSION_BYTES_MAX: u16 = 256;
const TRAILER_BYTES_MAX: u16 = 8 * 1024;
const CHUNK_START: Chunked = Chunked::Size { size: 0, digits: 0 };

impl BodyParser {
    /// A parser at the start of a body.
    pub fn new(framing: Framing, sender: Sender) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Complete,
            Framing::Length(bytes) => State::Counted(bytes),
            Framing::Chunked => State::Chunked(CHUNK_START),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, sender }
    }

    /// The next piece of `input[from..]`, with indices into `input`; `None` when all of it is used up.
    /// A piece is as long as the input allows: chunk data that is all there is one piece. `End` comes as soon as
    /// the body is complete, also when the input is used up. After `End` it must not be called again.
    ///
    /// ```
    /// # use relay_wire::{body::{BodyParser, Piece, Sender}, head::Framing};
    /// # fn main() -> Result<(), relay_wire::body::BodyError> {
    /// let mut parser = BodyParser::new(Framing::Chunked, Sender::Client);
    /// let input = b"5\r\nhello\r\n0\r\n\r\nGET /";
    /// let (mut at, mut payload) = (0, Vec::new());
    /// while let Some(piece) = parser.next(input, at)? {
    ///     at = piece.end();
    ///     match piece {
    ///         Piece::Payload(bytes) => payload.extend_from_slice(&input[bytes]),
    ///         Piece::End(_) => break,
    ///         Piece::Framing(_) | Piece::Trailer(_) => {}
    ///     }
    /// }
    /// assert_eq!((&payload[..], &input[at..]), (&b"hello"[..], &b"GET /"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// At the first byte that cannot be part of a valid body. The error sticks.
    pub fn next(&mut self, input: &[u8], from: usize) -> Result<Option<Piece>, BodyError> {
        let rest = &input[from..];
        match self.state {
            State::Broken(error) => Err(error),
            State::Ended => Ok(None),
            State::Complete => {
                self.state = State::Ended;
                Ok(Some(Piece::End(from)))
            }
            _ if rest.is_empty() => Ok(None),
            State::UntilClose => Ok(Some(Piece::Payload(from..input.len()))),
            State::Counted(left) => {
                let (bytes, left) = take(left, rest);
                self.state = match left {
                    0 => State::Complete,
                    left => State::Counted(left),
                };
                Ok(Some(Piece::Payload(from..from + bytes)))
            }
            State::ChunkData(left) => {
                let (bytes, left) = take(left, rest);
                self.state = match left {
                    0 => State::Chunked(Chunked::DataReturn),
                    left => State::ChunkData(left),
                };
                Ok(Some(Piece::Payload(from..from + bytes)))
            }
            State::Chunked(chunked) => self
                .next_framing(chunked, rest, from)
                .map(Some)
                .inspect_err(|&error| self.state = State::Broken(error)),
        }
    }

    /// Framing or trailer bytes, up to where something else or the next chunk begins.
    fn next_framing(
        &mut self,
        mut chunked: Chunked,
        rest: &[u8],
        from: usize,
    ) -> Result<Piece, BodyError> {
        let is_trailer = chunked.is_in_trailer(rest[0]);
        let mut used = 0;
        self.state = loop {
            match rest.get(used) {
                Some(&byte) if chunked.is_in_trailer(byte) == is_trailer => {
                    used += 1;
                    match chunked.step(byte, self.sender)? {
                        State::Chunked(next) if next != CHUNK_START => chunked = next,
                        next => break next,
                    }
                }
                _ => break State::Chunked(chunked),
            }
        };
        let range = from..from + used;
        Ok(if is_trailer {
            Piece::Trailer(range)
        } else {
            Piece::Framing(range)
        })
    }

    /// The body is complete (at once for `Framing::Empty` and `Length(0)`).
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete | State::Ended)
    }

    /// Between two chunks (or not chunked at all, outside of counted framing): bytes of the relay's own may be put here.
    pub fn at_chunk_boundary(&self) -> bool {
        matches!(self.state, State::Chunked(CHUNK_START) | State::UntilClose)
    }

    /// The connection ended: was that a proper end of the body?
    pub fn may_end_here(&self) -> bool {
        self.is_complete() || self.state == State::UntilClose
    }
}

/// How many of the bytes left are in `rest`, and how many are left after that.
fn take(left: u64, rest: &[u8]) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(all) if all <= rest.len() => (all, 0),
        _ => (rest.len(), left - rest.len() as u64),
    }
}

impl Chunked {
    /// Whether `byte`, the next one, belongs to a trailer field.
    fn is_in_trailer(self, byte: u8) -> bool {
        match self {
            Self::Trailer {
                part: TrailerPart::LineStart,
                ..
            } => byte != b'\r',
            Self::Trailer { .. } => true,
            _ => false,
        }
    }

    /// The state after one byte of framing.
    fn step(self, byte: u8, sender: Sender) -> Result<State, BodyError> {
        Ok(State::Chunked(match (self, byte) {
            (Self::Size { size, digits }, _) => size_step(size, digits, byte, sender)?,
            (Self::Extension { size, .. }, b'\r') => Self::SizeLineFeed { size },
            (Self::Extension { size, bytes }, _) if byte != b'\n' => {
                if bytes == EXTENSION_BYTES_MAX || is_forbidden_control(byte) {
                    return Err(BodyError::ChunkExtension);
                }
                Self::Extension {
                    size,
                    bytes: bytes + 1,
                }
            }
            (Self::SizeLineFeed { size: 0 }, b'\n') => Self::Trailer {
                part: TrailerPart::LineStart,
                bytes: 0,
            },
            (Self::SizeLineFeed { size }, b'\n') => return Ok(State::ChunkData(size)),
            (Self::DataReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => CHUNK_START,
            (
                Self::Trailer {
                    part: TrailerPart::LineStart,
                    ..
                },
                b'\r',
            ) => Self::FinalLineFeed,
            (Self::Trailer { part, bytes }, _) => {
                if byte != b'\n' && (sender == Sender::Client || bytes >= TRAILER_BYTES_MAX) {
                    return Err(BodyError::InvalidTrailer);
                }
                Self::Trailer {
                    part: trailer_step(part, byte)?,
                    bytes: bytes + 1,
                }
            }
            (Self::FinalLineFeed, b'\n') => return Ok(State::Complete),
            _ => return Err(BodyError::MissingLineBreak),
        }))
    }
}

fn size_step(size: u64, digits: u8, byte: u8, sender: Sender) -> Result<Chunked, BodyError> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        if digits == SIZE_DIGITS_MAX {
            return Err(BodyError::InvalidChunkSize);
        }
        return Ok(Chunked::Size {
            size: size * 16 + u64::from(digit),
            digits: digits + 1,
        });
    }
    match byte {
        b'\n' => Err(BodyError::MissingLineBreak),
        _ if digits == 0 => Err(BodyError::InvalidChunkSize),
        b'\r' => Ok(Chunked::SizeLineFeed { size }),
        b';' if sender == Sender::Upstream => Ok(Chunked::Extension { size, bytes: 1 }),
        // The grammar allows white space before the semicolon. It goes on to clients, not all of which know that.
        b';' | b' ' | b'\t' => Err(BodyError::ChunkExtension),
        _ => Err(BodyError::InvalidChunkSize),
    }
}

fn trailer_step(part: TrailerPart, byte: u8) -> Result<TrailerPart, BodyError> {
    match (part, byte) {
        (TrailerPart::LineFeed, b'\n') => Ok(TrailerPart::LineStart),
        (TrailerPart::LineFeed, _) | (_, b'\n') => Err(BodyError::MissingLineBreak),
        (TrailerPart::Name, b':') => Ok(TrailerPart::Value),
        (TrailerPart::LineStart | TrailerPart::Name, _) if is_token_byte(byte) => {
            Ok(TrailerPart::Name)
        }
        (TrailerPart::Value, b'\r') => Ok(TrailerPart::LineFeed),
        (TrailerPart::Value, _) if !is_forbidden_control(byte) => Ok(TrailerPart::Value),
        _ => Err(BodyError::InvalidTrailer),
    }
}

/// Control characters that no field value and no extension may have.
fn is_forbidden_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

impl Piece {
    /// Where the piece ends in the input.
    pub fn end(&self) -> usize {
        match self {
            Self::Framing(range) | Self::Payload(range) | Self::Trailer(range) => range.end,
            Self::End(at) => *at,
        }
    }
}
