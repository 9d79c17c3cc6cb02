//! Message bodies: an incremental parser that finds payload and end in what was read, for every framing.
//!
//! The parser never copies: it returns pieces as ranges of the input it was given. A relay that keeps the
//! framing sends `Piece::Framing` and `Piece::Payload` as they are; one that changes it sends the payload only.

use crate::head::Framing;
use std::ops::Range;

/// Whose body it is: clients get no leniency, upstreams may use chunk extensions and trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Chunk extensions and trailer fields are errors.
    Client,
    /// Chunk extensions (≤ 256 bytes a chunk, no control characters) pass; trailers (≤ 8 KiB) are skipped.
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
#[derive(Debug)]
pub struct BodyParser {
    // private state
    _todo: (),
}

impl BodyParser {
    /// A parser at the start of a body.
    pub fn new(framing: Framing, sender: Sender) -> Self {
        todo!("{framing:?} {sender:?}")
    }

    /// The next piece of `input[from..]`, with indices into `input`; `None` when all of it is used up.
    /// A piece is as long as the input allows: chunk data that is all there is one piece.
    /// After `End` it must not be called again.
    ///
    /// ```ignore
    /// let mut at = 0;
    /// while let Some(piece) = parser.next(&input, at)? { at = piece.end(); … }
    /// ```
    ///
    /// # Errors
    /// At the first byte that cannot be part of a valid body.
    pub fn next(&mut self, input: &[u8], from: usize) -> Result<Option<Piece>, BodyError> {
        todo!("{input:?} {from}")
    }

    /// The body is complete (at once for `Framing::Empty` and `Length(0)`).
    pub fn is_complete(&self) -> bool {
        todo!()
    }

    /// Between two chunks (or not chunked at all, outside of counted framing): bytes of the relay's own may be put here.
    pub fn at_chunk_boundary(&self) -> bool {
        todo!()
    }

    /// The connection ended: was that a proper end of the body?
    pub fn may_end_here(&self) -> bool {
        todo!()
    }
}

impl Piece {
    /// Where the piece ends in the input.
    pub fn end(&self) -> usize {
        todo!()
    }
}
