//! Payload as a body of HTTP/1.1.

use crate::encode::{CHUNK_SIZE_LINE_MAX, chunk_size_line};
use crate::head::Framing;
use bytes::Bytes;

/// The payload is longer or shorter than `Content-Length` says, or there must be none: the message is malformed (RFC 9113
/// section 8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthMismatch;

/// Frames payload for whoever reads a head that was written here, and tells how much of the payload has been read from how
/// much has been read of all.
#[derive(Debug)]
pub struct BodyWriter {
    state: State,
    /// Bytes of the head and of the framing so far.
    overhead_bytes: u64,
    consumed_bytes: u64,
    released_bytes: u64,
}

#[derive(Debug)]
enum State {
    /// So many payload bytes are to come.
    Counted(u64),
    Chunked,
    Ended,
}

const LINE_BREAK: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl BodyWriter {
    /// Behind a head of so many bytes, which has announced this framing.
    pub fn new(framing: Framing, head_bytes: usize) -> Self {
        let state = match framing {
            Framing::Length(bytes) => State::Counted(bytes),
            Framing::Chunked => State::Chunked,
            // No head that is written here announces a body until the end of the connection.
            Framing::Empty | Framing::UntilClose => State::Counted(0),
        };
        Self {
            state,
            overhead_bytes: head_bytes as u64,
            consumed_bytes: 0,
            released_bytes: 0,
        }
    }

    /// What to send for this payload, in this order: what stands before it, the payload itself, what stands behind it. Any of
    /// them may be empty. An empty payload says nothing: as a chunk it would be the last one.
    ///
    /// # Errors
    /// The payload does not fit the length that was announced, or the body has ended.
    pub fn data(&mut self, payload: Bytes) -> Result<[Bytes; 3], LengthMismatch> {
        let bytes = payload.len() as u64;
        match &mut self.state {
            _ if bytes == 0 => Ok([const { Bytes::new() }; 3]),
            State::Counted(left) => {
                *left = left.checked_sub(bytes).ok_or(LengthMismatch)?;
                Ok([Bytes::new(), payload, Bytes::new()])
            }
            State::Chunked => {
                let mut line = [0; CHUNK_SIZE_LINE_MAX];
                let taken = chunk_size_line(payload.len(), &mut line);
                let line = Bytes::copy_from_slice(&line[CHUNK_SIZE_LINE_MAX - taken..]);
                self.overhead_bytes += (taken + LINE_BREAK.len()) as u64;
                Ok([line, payload, Bytes::from_static(LINE_BREAK)])
            }
            State::Ended => Err(LengthMismatch),
        }
    }

    /// What to send where the payload ends; empty where its length was announced.
    ///
    /// # Errors
    /// It is shorter than announced, or has ended before.
    pub fn end(&mut self) -> Result<Bytes, LengthMismatch> {
        let last = match self.state {
            State::Counted(0) => Bytes::new(),
            State::Chunked => Bytes::from_static(LAST_CHUNK),
            State::Counted(_) | State::Ended => return Err(LengthMismatch),
        };
        self.overhead_bytes += last.len() as u64;
        self.state = State::Ended;
        Ok(last)
    }

    /// The other side has read so many more bytes, of whatever kind: how many bytes of payload are those, so that a flow-control
    /// window can be opened by as many? Never more than have been read, perhaps fewer for a while, and all of them once everything
    /// has been read.
    pub fn consumed(&mut self, bytes: usize) -> usize {
        self.consumed_bytes += bytes as u64;
        let payload_bytes = self.consumed_bytes.saturating_sub(self.overhead_bytes);
        let released = payload_bytes.saturating_sub(self.released_bytes);
        self.released_bytes += released;
        released as usize
    }
}
