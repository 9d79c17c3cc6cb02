//! Where frames begin and end in what passes. No payload is held but that of a frame that closes the connection: whoever
//! wants to read a message is told where its bytes are.
//!
//! That text is UTF-8 (RFC 6455 section 8.1) is for the endpoints to check.

use std::ops::Range;

/// The longest header of a frame: two bytes, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// What a control frame may carry (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// Whose frames they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client's: masked, every one (RFC 6455 section 5.1).
    Client,
    /// A server's: not one is.
    Server,
}

/// Why the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame breaks the protocol, and how.
    Protocol(&'static str),
    /// A message is longer than allowed.
    TooBig,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of a message.
    Payload {
        /// Where they are.
        range: Range<usize>,
        /// Takes their mask off; `None`: they have none.
        mask: Option<Mask>,
    },
    /// A frame has ended here.
    End {
        /// Behind its last byte.
        at: usize,
        /// What it was.
        what: Ended,
    },
}

/// What has ended with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A part of a message.
    Fragment,
    /// A message.
    Message,
    /// A ping or a pong.
    Control,
    /// The connection, as far as its sender goes; with this code, if it named one.
    Close(Option<u16>),
}

/// The mask of a client's frame, from a certain byte of its payload on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask([u8; 4]);

impl Mask {
    /// From the first byte on.
    pub fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Puts it on, or takes it off (RFC 6455 section 5.3).
    pub fn apply(self, bytes: &mut [u8]) {
        let four = u32::from_ne_bytes(self.0);
        let mut chunks = bytes.chunks_exact_mut(4);
        for chunk in &mut chunks {
            let masked = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            chunk.copy_from_slice(&(masked ^ four).to_ne_bytes());
        }
        for (byte, key) in chunks.into_remainder().iter_mut().zip(self.0) {
            *byte ^= key;
        }
    }

    /// From so many bytes later on.
    #[must_use]
    pub fn behind(self, bytes: usize) -> Self {
        let mut key = self.0;
        key.rotate_left(bytes % 4);
        Self(key)
    }
}

/// Reads the frames of one sender as they pass.
#[derive(Debug)]
pub struct FrameReader {
    sender: Sender,
    message_bytes_max: u64,
    /// Of a frame whose header has not come yet.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    frame: Option<Frame>,
    /// Bytes of the message that has begun and not ended.
    message_bytes: Option<u64>,
    closing: Closing,
}

/// A frame whose header has come.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_final: bool,
    mask: Option<Mask>,
    left_bytes: u64,
}

/// The payload of a frame that closes the connection.
#[derive(Clone, Copy, Debug)]
struct Closing {
    payload: [u8; CONTROL_BYTES_MAX as usize],
    bytes: usize,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl FrameReader {
    /// At the start of a connection on which no extension was agreed on.
    pub fn new(sender: Sender, message_bytes_max: u64) -> Self {
        Self {
            sender,
            message_bytes_max,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            frame: None,
            message_bytes: None,
            closing: Closing {
                payload: [0; CONTROL_BYTES_MAX as usize],
                bytes: 0,
            },
        }
    }

    /// Between two frames; a header that has not come to its end does not count as one.
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_none()
    }

    /// Neither in a frame nor between the parts of a message.
    pub fn is_between_messages(&self) -> bool {
        self.is_between_frames() && self.message_bytes.is_none()
    }

    /// The beginning of a header that has not come to its end: the last bytes of what was read. Whoever passes on what it
    /// reads does better to keep these until it is known that the frame is one.
    pub fn unfinished_header(&self) -> &[u8] {
        &self.header[..self.header_bytes]
    }

    /// What comes next in `bytes`, from `at` on. `None`: all of it has been read.
    ///
    /// # Errors
    /// This is not WebSocket, or too much. Nothing may be read afterwards.
    pub fn next(&mut self, bytes: &[u8], at: usize) -> Result<Option<Piece>, Violation> {
        let mut at = at;
        let frame = match self.frame {
            Some(frame) => frame,
            None => match self.read_header(bytes, &mut at)? {
                Some(frame) => frame,
                None => return Ok(None),
            },
        };
        if frame.left_bytes == 0 {
            return self.end(frame, at).map(Some);
        }
        let there = (bytes.len() - at) as u64;
        let taken = there.min(frame.left_bytes) as usize;
        if taken == 0 {
            self.frame = Some(frame);
            return Ok(None);
        }
        let range = at..at + taken;
        let rest = Frame {
            left_bytes: frame.left_bytes - taken as u64,
            mask: frame.mask.map(|mask| mask.behind(taken)),
            ..frame
        };
        self.frame = Some(rest);
        match frame.opcode {
            CLOSE | PING | PONG => {
                if frame.opcode == CLOSE {
                    self.closing.take(&bytes[range.clone()], frame.mask);
                }
                if rest.left_bytes > 0 {
                    return Ok(None);
                }
                self.end(rest, range.end).map(Some)
            }
            _ => Ok(Some(Piece::Payload {
                range,
                mask: frame.mask,
            })),
        }
    }

    /// The header that begins, or goes on, at `at`, which then stands behind it.
    fn read_header(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Frame>, Violation> {
        loop {
            let wanted = self.header_length();
            if self.header_bytes == wanted {
                let frame = self.parse()?;
                self.header_bytes = 0;
                return Ok(Some(frame));
            }
            let rest = &bytes[*at..];
            if rest.is_empty() {
                return Ok(None);
            }
            let taken = rest.len().min(wanted - self.header_bytes);
            self.header[self.header_bytes..self.header_bytes + taken]
                .copy_from_slice(&rest[..taken]);
            self.header_bytes += taken;
            *at += taken;
            if self.header_bytes >= 2 {
                self.check_beginning()?;
            }
        }
    }

    /// How long the header is, as far as its first two bytes tell.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        match self.header[1] & 0x7F {
            126 => 4 + mask,
            127 => 10 + mask,
            _ => 2 + mask,
        }
    }

    /// The rules about the first two bytes (RFC 6455 sections 5.1, 5.2, 5.4 and 5.5).
    fn check_beginning(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        let has_reserved_bits = first & 0x70 != 0;
        let broken = |how| Err(Violation::Protocol(how));
        if has_reserved_bits {
            return broken("reserved bits are set");
        }
        if (second & 0x80 != 0) != (self.sender == Sender::Client) {
            return broken(match self.sender {
                Sender::Client => "a client's frame has no mask",
                Sender::Server => "a server's frame has a mask",
            });
        }
        match opcode {
            CONTINUATION if self.message_bytes.is_none() => {
                broken("nothing is there to be continued")
            }
            TEXT | BINARY if self.message_bytes.is_some() => {
                broken("a message begins in another one")
            }
            CONTINUATION | TEXT | BINARY => Ok(()),
            CLOSE | PING | PONG if !is_final => broken("a control frame is fragmented"),
            CLOSE | PING | PONG if u64::from(second & 0x7F) > CONTROL_BYTES_MAX => {
                broken("a control frame is too long")
            }
            CLOSE | PING | PONG => Ok(()),
            _ => broken("the opcode is reserved"),
        }
    }

    fn parse(&mut self) -> Result<Frame, Violation> {
        let [first, second, rest @ ..] = self.header;
        let (left_bytes, length_bytes) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), 2),
            127 => {
                let [length @ .., _, _, _, _] = rest;
                (u64::from_be_bytes(length), 8)
            }
            short => (u64::from(short), 0),
        };
        let is_minimal = match length_bytes {
            0 => true,
            2 => left_bytes >= 126,
            _ => left_bytes > u64::from(u16::MAX),
        };
        if !is_minimal || left_bytes >> 63 != 0 {
            return Err(Violation::Protocol(
                "the length is not in its one right form",
            ));
        }
        let mask = (second & 0x80 != 0).then(|| {
            let key = &rest[length_bytes..];
            Mask::new([key[0], key[1], key[2], key[3]])
        });
        let frame = Frame {
            opcode: first & 0x0F,
            is_final: first & 0x80 != 0,
            mask,
            left_bytes,
        };
        match frame.opcode {
            TEXT | BINARY | CONTINUATION => self.grow_message(left_bytes)?,
            _ => self.closing.bytes = 0,
        }
        Ok(frame)
    }

    fn grow_message(&mut self, frame_bytes: u64) -> Result<(), Violation> {
        let begun = self.message_bytes.unwrap_or(0);
        let bytes = begun.saturating_add(frame_bytes);
        if bytes > self.message_bytes_max {
            return Err(Violation::TooBig);
        }
        self.message_bytes = Some(bytes);
        Ok(())
    }

    fn end(&mut self, frame: Frame, at: usize) -> Result<Piece, Violation> {
        self.frame = None;
        let what = match frame.opcode {
            CLOSE => Ended::Close(self.closing.code()?),
            PING | PONG => Ended::Control,
            _ if frame.is_final => {
                self.message_bytes = None;
                Ended::Message
            }
            _ => Ended::Fragment,
        };
        Ok(Piece::End { at, what })
    }
}

impl Closing {
    fn take(&mut self, bytes: &[u8], mask: Option<Mask>) {
        let end = self.bytes + bytes.len();
        let place = &mut self.payload[self.bytes..end];
        place.copy_from_slice(bytes);
        if let Some(mask) = mask {
            mask.apply(place);
        }
        self.bytes = end;
    }

    /// The code, if there is one and it may be sent (RFC 6455 sections 5.5.1 and 7.4).
    fn code(&self) -> Result<Option<u16>, Violation> {
        let broken = |how| Err(Violation::Protocol(how));
        match &self.payload[..self.bytes] {
            [] => Ok(None),
            [_] => broken("half a code closes the connection"),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                // 1004 to 1006 and 1015 are never sent; 1012 to 1014 are registered with IANA since.
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    broken("no connection is closed with this code")
                } else if std::str::from_utf8(reason).is_err() {
                    broken("the reason of a close is not UTF-8")
                } else {
                    Ok(Some(code))
                }
            }
        }
    }
}
