//! Frames (RFC 9113, section 4.1): any that can be written down.

use super::FRAME_BYTES;

/// Types (RFC 9113, section 6).
pub mod kind {
    #![allow(missing_docs, reason = "names of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (RFC 9113, section 6).
pub mod flag {
    #![allow(missing_docs, reason = "names of the RFC")]
    pub const NONE: u8 = 0;
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (RFC 9113, section 7).
pub mod code {
    #![allow(missing_docs, reason = "names of the RFC")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const SETTINGS_TIMEOUT: u32 = 4;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const CONNECT_ERROR: u32 = 10;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    pub const INADEQUATE_SECURITY: u32 = 12;
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// Settings (RFC 9113, section 6.5.2).
pub mod setting {
    #![allow(missing_docs, reason = "names of the RFC")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// A frame, right or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, with the reserved bit.
    pub stream: u32,
    /// Everything behind the nine bytes in front.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// DATA.
    pub fn data(stream: u32, payload: impl Into<Vec<u8>>, end: bool) -> Self {
        Self::new(kind::DATA, end_stream(end), stream, payload)
    }

    /// HEADERS with all of a field block.
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>, end: bool) -> Self {
        let flags = end_stream(end) | flag::END_HEADERS;
        Self::new(kind::HEADERS, flags, stream, block)
    }

    /// HEADERS with the beginning of a field block: CONTINUATION has to follow.
    pub fn begin_headers(stream: u32, block: impl Into<Vec<u8>>, end: bool) -> Self {
        Self::new(kind::HEADERS, end_stream(end), stream, block)
    }

    /// CONTINUATION.
    pub fn continuation(stream: u32, block: impl Into<Vec<u8>>, last: bool) -> Self {
        let flags = if last { flag::END_HEADERS } else { flag::NONE };
        Self::new(kind::CONTINUATION, flags, stream, block)
    }

    /// A whole field block: HEADERS, and as many CONTINUATION frames as it needs.
    pub fn whole_block(stream: u32, block: &[u8], end: bool) -> Vec<Self> {
        let first_bytes = block.len().min(FRAME_BYTES);
        let (first, rest) = block.split_at(first_bytes);
        if rest.is_empty() {
            return vec![Self::headers(stream, first, end)];
        }
        let mut frames = vec![Self::begin_headers(stream, first, end)];
        let mut parts = rest.chunks(FRAME_BYTES).peekable();
        while let Some(part) = parts.next() {
            frames.push(Self::continuation(stream, part, parts.peek().is_none()));
        }
        frames
    }

    /// PRIORITY.
    pub fn priority(stream: u32, dependency: u32, weight: u8) -> Self {
        let payload = [&dependency.to_be_bytes()[..], &[weight]].concat();
        Self::new(kind::PRIORITY, flag::NONE, stream, payload)
    }

    /// RST_STREAM.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, flag::NONE, stream, code.to_be_bytes())
    }

    /// SETTINGS.
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let payload = settings.iter().flat_map(|(name, value)| {
            let name = name.to_be_bytes();
            name.into_iter().chain(value.to_be_bytes())
        });
        let payload: Vec<u8> = payload.collect();
        Self::new(kind::SETTINGS, flag::NONE, 0, payload)
    }

    /// SETTINGS that acknowledges.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// PING.
    pub fn ping(payload: [u8; 8]) -> Self {
        Self::new(kind::PING, flag::NONE, 0, payload)
    }

    /// GOAWAY.
    pub fn goaway(last_stream: u32, code: u32) -> Self {
        let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
        Self::new(kind::GOAWAY, flag::NONE, 0, payload)
    }

    /// WINDOW_UPDATE.
    pub fn window_update(stream: u32, bytes: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, flag::NONE, stream, bytes.to_be_bytes())
    }

    /// With more flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// With so much padding.
    pub fn padded(mut self, bytes: u8) -> Self {
        self.payload.insert(0, bytes);
        self.payload
            .resize(self.payload.len() + usize::from(bytes), 0);
        self.flags(flag::PADDED)
    }

    /// With the priority of RFC 7540 in front of the field block.
    pub fn with_priority(mut self, dependency: u32, weight: u8) -> Self {
        let priority = [&dependency.to_be_bytes()[..], &[weight]].concat();
        self.payload.splice(0..0, priority);
        self.flags(flag::PRIORITY)
    }

    /// As it stands on the wire.
    ///
    /// # Panics
    /// If the payload is longer than the field for its length can say.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a payload");
        let length = length.to_be_bytes();
        assert_eq!(length[0], 0, "a payload of 24 bits");
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Takes the frame at the start of what was read; `None` while it is not complete.
    pub(super) fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = buffer.first_chunk()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = buffer.get(9..end)?.to_vec();
        buffer.drain(..end);
        let stream = u32::from_be_bytes([d, e, f, g]);
        Some(Self::new(kind, flags, stream, payload))
    }

    /// The 32 bits at this place of the payload.
    ///
    /// # Panics
    /// If the payload is too short.
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..).and_then(<[u8]>::first_chunk);
        u32::from_be_bytes(*bytes.unwrap_or_else(|| panic!("too short: {self:?}")))
    }

    /// The payload without padding and priority.
    ///
    /// # Panics
    /// If the padding is longer than the payload (RFC 9113, section 6.1).
    pub fn content(&self) -> &[u8] {
        let mut content = self.payload.as_slice();
        if self.flags & flag::PADDED != 0 {
            let (padding, rest) = content.split_first().expect("the length of the padding");
            let end = rest.len().checked_sub(usize::from(*padding));
            content = &rest[..end.expect("padding within the payload")];
        }
        if self.kind == kind::HEADERS && self.flags & flag::PRIORITY != 0 {
            content = &content[5..];
        }
        content
    }

    /// Are all of these flags set?
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

fn end_stream(end: bool) -> u8 {
    if end { flag::END_STREAM } else { flag::NONE }
}
