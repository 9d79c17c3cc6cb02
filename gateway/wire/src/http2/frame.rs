//! The header of a frame (RFC 9113 section 4.1).

/// Bytes before a frame's payload.
pub(super) const HEADER_BYTES: usize = 9;

/// What a client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;

/// The type of a frame (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// An extension's, ignored (RFC 9113 section 5.5).
    Unknown,
}

impl FrameKind {
    /// All of them, in the order of their codes: `ALL[kind as usize]` is `kind`.
    pub(super) const ALL: [Self; 11] = [
        Self::Data,
        Self::Headers,
        Self::Priority,
        Self::ResetStream,
        Self::Settings,
        Self::PushPromise,
        Self::Ping,
        Self::GoAway,
        Self::WindowUpdate,
        Self::Continuation,
        Self::Unknown,
    ];

    fn of_code(code: u8) -> Self {
        let known = Self::ALL.get(usize::from(code));
        known.copied().unwrap_or(Self::Unknown)
    }
}

/// What stands before a payload; which stream it belongs to is of no interest here.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) flags: u8,
    pub(super) payload_bytes: u32,
}

impl FrameHeader {
    pub(super) fn of(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [length_high, length_mid, length_low, code, flags, ..] = *bytes;
        Self {
            kind: FrameKind::of_code(code),
            flags,
            payload_bytes: u32::from_be_bytes([0, length_high, length_mid, length_low]),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}
