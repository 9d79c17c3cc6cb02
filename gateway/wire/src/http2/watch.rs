//! Counting the frames of a client, and telling floods from use.

use super::budget::Budget;
use super::frame::{
    ACK, END_HEADERS, END_STREAM, FrameHeader, FrameKind, HEADER_BYTES, PADDED, PREFACE,
};

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// It does not begin as a client does: this is not HTTP/2.
    NotHttp2,
    /// PING, SETTINGS, PRIORITY, empty DATA and others that ask for work and bring none.
    Control,
    /// WINDOW_UPDATE, for hardly anything that was sent.
    WindowUpdate,
    /// Requests that are taken back (CVE-2023-44487).
    Reset,
    /// DATA in crumbs: each takes more memory than it has bytes.
    SmallData,
    /// A block of header fields that is too large, or in too many parts (CVE-2024-27316).
    HeaderBlock,
}

impl Flood {
    /// A name for logs and metrics (snake case).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotHttp2 => "not_http2",
            Self::Control => "control",
            Self::WindowUpdate => "window_update",
            Self::Reset => "reset",
            Self::SmallData => "small_data",
            Self::HeaderBlock => "header_block",
        }
    }
}

/// What has begun and is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The preface, or a block of header fields: nothing else can come on this connection until it is (RFC 9113 section 4.3).
    Head {
        /// The time at which it began.
        since_ms: u64,
    },
    /// Another frame.
    Frame {
        /// The time at which it began.
        since_ms: u64,
    },
}

/// PING, SETTINGS and the like. Whoever wants to know how far away we are asks once in a while; a proxy that measures the
/// bandwidth asks again and again, while it gets something.
const CONTROL: Budget = Budget::new(1000, 100);
/// A thing of SETTINGS goes through all streams, so each counts for several others.
const SETTINGS_COST: u64 = 8;
/// Browsers send a priority or two with each request.
const CONTROL_PER_REQUEST: u64 = 4;
const CONTROL_BYTES_SENT: u64 = 1024;
/// What is received to be thrown away costs by its length, too.
const CONTROL_PAYLOAD_BYTES: u64 = 1024;

/// Some clients answer each piece of a stream with two of them.
const WINDOW_UPDATE: Budget = Budget::new(10_000, 1000);
const WINDOW_UPDATE_PER_REQUEST: u64 = 4;
const WINDOW_UPDATE_BYTES_SENT: u64 = 32;

/// All streams of a connection twice over; and somebody who changes their mind all the time, but at the pace of a person.
const RESET: Budget = Budget::new(200, 10);

/// Each such piece is held with some hundred bytes of bookkeeping until it is consumed.
const SMALL_DATA: Budget = Budget::new(4096, 1000);
const SMALL_DATA_BYTES: u32 = 64;

/// Bytes of a block of header fields. Enough for what is refused with 431, compressed or not; a client must not be told that it may
/// send more.
pub const HEADER_BLOCK_BYTES_MAX: u32 = 128 * 1024;
const HEADER_BLOCK_FRAMES_MAX: u32 = 32;

/// Walks the bytes that a client sends, in whatever pieces they come, and judges its frames. The payload is skipped by its length.
///
/// Time is given in milliseconds since any fixed moment, and never goes back.
#[derive(Debug)]
pub struct FrameWatch {
    place: Place,
    header: [u8; HEADER_BYTES],
    /// Bytes of the payload that are still to come.
    payload_left: u32,
    /// A frame has begun.
    has_frames: bool,
    block: Option<HeaderBlock>,
    /// Of all blocks that have begun.
    block_bytes: u64,
    /// When the frame (or the preface) began in which it stands.
    began_ms: u64,
    now_ms: u64,
    control: Budget,
    window_update: Budget,
    reset: Budget,
    small_data: Budget,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The preface, of which so many bytes have come.
    Preface(usize),
    /// A frame's header, of which so many bytes have come.
    Header(usize),
    /// The byte that says how much of DATA is padding.
    PadLength {
        ends_stream: bool,
    },
    Payload,
}

/// HEADERS and the CONTINUATION frames behind it.
#[derive(Clone, Copy, Debug)]
struct HeaderBlock {
    began_ms: u64,
    bytes: u32,
    frames: u32,
    /// The frame in which it stands is its last.
    is_last_frame: bool,
}

impl FrameWatch {
    /// At the start of a connection, before its preface.
    pub fn new(now_ms: u64) -> Self {
        Self {
            place: Place::Preface(0),
            header: [0; HEADER_BYTES],
            payload_left: 0,
            has_frames: false,
            block: None,
            block_bytes: 0,
            began_ms: now_ms,
            now_ms,
            control: CONTROL,
            window_update: WINDOW_UPDATE,
            reset: RESET,
            small_data: SMALL_DATA,
        }
    }

    /// These bytes have come.
    ///
    /// # Errors
    /// There is too much of something: the connection is to be ended with ENHANCE_YOUR_CALM. What comes after that is of no
    /// interest any more.
    pub fn saw(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        self.pass_time(now_ms);
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self.place {
                Place::Payload => self.skip_payload(rest.len()),
                Place::Header(begun) => self.read_header(begun, rest)?,
                Place::PadLength { ends_stream } => self.read_pad_length(ends_stream, rest[0])?,
                Place::Preface(begun) => self.read_preface(begun, rest)?,
            };
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// How many bytes of header blocks have come or been announced so far: what they are when they are decoded is many times as much.
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// So many bytes of payload were sent to it: it may answer with WINDOW_UPDATE.
    pub fn note_sent(&mut self, payload_bytes: usize) {
        let bytes = payload_bytes as u64;
        self.window_update
            .earn_for_bytes(bytes, WINDOW_UPDATE_BYTES_SENT);
        self.control.earn_for_bytes(bytes, CONTROL_BYTES_SENT);
    }

    /// A request was answered, or at least the answer had begun: a reset of it was no waste.
    pub fn note_answered(&mut self) {
        self.reset.earn(1);
    }

    /// A request was reset because it is malformed. That costs as much work as one that is taken back, and is as easy to ask
    /// for (CVE-2025-8671).
    ///
    /// # Errors
    /// As for `saw`.
    pub fn note_malformed(&mut self) -> Result<(), Flood> {
        spend(&mut self.reset, 1, Flood::Reset)
    }

    /// What has begun and is not complete, if anything has. Between the frames of a header block it is that.
    pub fn unfinished(&self) -> Option<Unfinished> {
        if let Some(block) = self.block {
            let since_ms = block.began_ms;
            return Some(Unfinished::Head { since_ms });
        }
        let since_ms = self.began_ms;
        match self.place {
            Place::Preface(_) => Some(Unfinished::Head { since_ms }),
            Place::Header(0) => None,
            Place::Header(_) | Place::PadLength { .. } | Place::Payload => {
                Some(Unfinished::Frame { since_ms })
            }
        }
    }

    fn pass_time(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.now_ms);
        if elapsed_ms > 0 {
            self.now_ms = now_ms;
            self.control.refill(elapsed_ms);
            self.window_update.refill(elapsed_ms);
            self.reset.refill(elapsed_ms);
            self.small_data.refill(elapsed_ms);
        }
    }

    fn read_preface(&mut self, begun: usize, rest: &[u8]) -> Result<usize, Flood> {
        let wanted = &PREFACE[begun..];
        let taken = wanted.len().min(rest.len());
        if rest[..taken] != wanted[..taken] {
            return Err(Flood::NotHttp2);
        }
        self.place = if taken == wanted.len() {
            Place::Header(0)
        } else {
            Place::Preface(begun + taken)
        };
        Ok(taken)
    }

    fn read_header(&mut self, begun: usize, rest: &[u8]) -> Result<usize, Flood> {
        if begun == 0 {
            self.began_ms = self.now_ms;
            if let Some(header) = rest.first_chunk() {
                self.begin_frame(FrameHeader::of(header))?;
                return Ok(HEADER_BYTES);
            }
        }
        let taken = (HEADER_BYTES - begun).min(rest.len());
        self.header[begun..begun + taken].copy_from_slice(&rest[..taken]);
        if begun + taken == HEADER_BYTES {
            self.begin_frame(FrameHeader::of(&self.header))?;
        } else {
            self.place = Place::Header(begun + taken);
        }
        Ok(taken)
    }

    fn read_pad_length(&mut self, ends_stream: bool, padding_bytes: u8) -> Result<usize, Flood> {
        self.payload_left -= 1;
        let data_bytes = self.payload_left.saturating_sub(padding_bytes.into());
        self.judge_data(data_bytes, ends_stream)?;
        self.expect_payload();
        Ok(1)
    }

    fn skip_payload(&mut self, available: usize) -> usize {
        let taken = available.min(self.payload_left as usize);
        self.payload_left -= taken as u32;
        self.expect_payload();
        taken
    }

    /// Goes on with what is left of the payload, or with the next frame.
    fn expect_payload(&mut self) {
        if self.payload_left > 0 {
            self.place = Place::Payload;
            return;
        }
        self.place = Place::Header(0);
        if self.block.is_some_and(|block| block.is_last_frame) {
            self.block = None;
        }
    }

    fn begin_frame(&mut self, frame: FrameHeader) -> Result<(), Flood> {
        let is_settings = frame.kind == FrameKind::Settings && !frame.has(ACK);
        // RFC 9113 section 3.4: SETTINGS belongs to the preface. Whoever decodes the frames does not insist on it.
        if !std::mem::replace(&mut self.has_frames, true) && !is_settings {
            return Err(Flood::NotHttp2);
        }
        self.payload_left = frame.payload_bytes;
        if frame.kind == FrameKind::Data && frame.has(PADDED) && frame.payload_bytes > 0 {
            self.place = Place::PadLength {
                ends_stream: frame.has(END_STREAM),
            };
            return Ok(());
        }
        self.judge(frame)?;
        self.expect_payload();
        Ok(())
    }

    fn judge(&mut self, frame: FrameHeader) -> Result<(), Flood> {
        match frame.kind {
            FrameKind::Data => self.judge_data(frame.payload_bytes, frame.has(END_STREAM)),
            FrameKind::Headers => {
                self.control.earn(CONTROL_PER_REQUEST);
                self.window_update.earn(WINDOW_UPDATE_PER_REQUEST);
                let block = HeaderBlock {
                    began_ms: self.began_ms,
                    bytes: 0,
                    frames: 0,
                    is_last_frame: false,
                };
                self.judge_block(block, frame)
            }
            FrameKind::Continuation => match self.block {
                Some(block) => self.judge_block(block, frame),
                // An error of the connection, which whoever decodes the frame will find.
                None => self.spend_control(1),
            },
            FrameKind::ResetStream => spend(&mut self.reset, 1, Flood::Reset),
            FrameKind::WindowUpdate => spend(&mut self.window_update, 1, Flood::WindowUpdate),
            FrameKind::Settings if !frame.has(ACK) => self.spend_control(SETTINGS_COST),
            FrameKind::Settings
            | FrameKind::Priority
            | FrameKind::PushPromise
            | FrameKind::Ping
            | FrameKind::GoAway
            | FrameKind::Unknown => {
                let payload_bytes = u64::from(frame.payload_bytes);
                self.spend_control(1 + payload_bytes / CONTROL_PAYLOAD_BYTES)
            }
        }
    }

    /// The last DATA of a stream may be as small as it likes: there is one for each request.
    fn judge_data(&mut self, data_bytes: u32, ends_stream: bool) -> Result<(), Flood> {
        match data_bytes {
            _ if ends_stream => Ok(()),
            0 => self.spend_control(1),
            1..SMALL_DATA_BYTES => spend(&mut self.small_data, 1, Flood::SmallData),
            _ => Ok(()),
        }
    }

    fn judge_block(&mut self, block: HeaderBlock, frame: FrameHeader) -> Result<(), Flood> {
        let bytes = block.bytes.saturating_add(frame.payload_bytes);
        let frames = block.frames + 1;
        self.block_bytes += u64::from(frame.payload_bytes);
        if bytes > HEADER_BLOCK_BYTES_MAX || frames > HEADER_BLOCK_FRAMES_MAX {
            return Err(Flood::HeaderBlock);
        }
        self.block = Some(HeaderBlock {
            bytes,
            frames,
            is_last_frame: frame.has(END_HEADERS),
            ..block
        });
        // A part that has nothing for the block is asking for work alone.
        if frame.payload_bytes == 0 {
            self.spend_control(1)?;
        }
        Ok(())
    }

    fn spend_control(&mut self, frames: u64) -> Result<(), Flood> {
        spend(&mut self.control, frames, Flood::Control)
    }
}

fn spend(budget: &mut Budget, frames: u64, flood: Flood) -> Result<(), Flood> {
    if budget.spend(frames) {
        Ok(())
    } else {
        Err(flood)
    }
}
