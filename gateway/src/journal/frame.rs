//! The form of a segment's bytes: a header, then frames.
//!
//! ```text
//! header  magic 8 · version 4 · segment's identity 8 · first sequence 8 · made at 8 · its predecessor's span 8 + 8 · CRC32C 4
//! frame   payload's length 4 · sequence 8 · type 1 · version 1 · payload · CRC32C 4
//! ```
//!
//! Numbers are little-endian, times are microseconds since 1970. A frame's checksum begins with the segment's identity, so
//! that bytes that belonged to another file never pass for this one's. Only entries have a sequence of their own; another
//! frame has that of the entry that comes after it. The first frame of a commit is marked as such. A reader leaves out types that it does not know, and what a later
//! version has added to a payload's end.

use super::payload;

const MAGIC: [u8; 8] = *b"CRjournl";
const VERSION: u32 = 1;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 56;

/// Bytes of a frame without its payload.
pub(super) const FRAME_BYTES_MIN: usize = FRAME_HEAD_BYTES + CHECKSUM_BYTES;

/// No frame is longer: one that says it is does not have to be waited for.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 10;

/// Where in a frame its payload begins.
pub(super) const PAYLOAD_AT: usize = FRAME_HEAD_BYTES;

const FRAME_HEAD_BYTES: usize = 14;
const CHECKSUM_BYTES: usize = 4;

const _: () = assert!(payload::BYTES_MAX + FRAME_BYTES_MIN <= FRAME_BYTES_MAX);

/// A name's number, and the name.
pub(super) const NAME: u8 = 1;

/// What is kept of one request.
pub(super) const ENTRY: u8 = 2;

/// Set in the type of a commit's first frame: when it was written, everything before it was on the disk.
const BEGINS_COMMIT: u8 = 0x80;

/// The version of both types' payloads.
const PAYLOAD_VERSION: u8 = 1;

/// The times of some entries, from the earliest to the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The earliest time, in microseconds since 1970.
    pub from_us: u64,
    /// The latest.
    pub to_us: u64,
}

impl Span {
    /// Of no entries.
    pub(super) const EMPTY: Self = Self {
        from_us: u64::MAX,
        to_us: 0,
    };

    /// Of entries that are not known.
    pub(super) const ANY: Self = Self {
        from_us: 0,
        to_us: u64::MAX,
    };

    pub(super) fn add(&mut self, time_us: u64) {
        self.from_us = self.from_us.min(time_us);
        self.to_us = self.to_us.max(time_us);
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random: tells this file's bytes from those of any other.
    pub identity: [u8; 8],
    /// The sequence of its first entry.
    pub first_sequence: u64,
    /// When it was begun, in microseconds since 1970.
    pub created_us: u64,
    /// Times of the entries of the segment before it: whoever looks for others need not open that one.
    pub previous: Span,
}

/// Why a header says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Broken,
    /// It was written by a later version of this program.
    Newer,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = &mut bytes[..];
        let mut put = |part: &[u8]| {
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&self.identity);
        put(&self.first_sequence.to_le_bytes());
        put(&self.created_us.to_le_bytes());
        put(&self.previous.from_us.to_le_bytes());
        put(&self.previous.to_us.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - CHECKSUM_BYTES]);
        bytes[HEADER_BYTES - CHECKSUM_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let (content, checksum) = bytes.split_at(HEADER_BYTES - CHECKSUM_BYTES);
        let mut input = payload::Input(content);
        let is_whole = checksum == crc32c::crc32c(content).to_le_bytes();
        if !is_whole || input.array() != Some(MAGIC) {
            return Err(HeaderError::Broken);
        }
        if input.array().map(u32::from_le_bytes) != Some(VERSION) {
            return Err(HeaderError::Newer);
        }
        let read = |input: &mut payload::Input<'_>| {
            Some(Self {
                identity: input.array()?,
                first_sequence: input.number()?,
                created_us: input.number()?,
                previous: Span {
                    from_us: input.number()?,
                    to_us: input.number()?,
                },
            })
        };
        read(&mut input).ok_or(HeaderError::Broken)
    }

    /// What the checksums of this segment's frames begin with.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.identity)
    }
}

/// Puts a frame behind what is there.
pub(super) fn push(
    out: &mut Vec<u8>,
    seed: u32,
    sequence: u64,
    kind: u8,
    payload: &[u8],
    begins_commit: bool,
) {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[4..12].copy_from_slice(&sequence.to_le_bytes());
    head[12] = kind | if begins_commit { BEGINS_COMMIT } else { 0 };
    head[13] = PAYLOAD_VERSION;
    let begin = out.len();
    out.reserve(payload.len() + FRAME_BYTES_MIN);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(seed, &out[begin..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// A frame that proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) sequence: u64,
    pub(super) kind: u8,
    pub(super) begins_commit: bool,
    pub(super) payload: &'a [u8],
    /// Bytes of all of it.
    pub(super) length: usize,
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked<'a> {
    Whole(Frame<'a>),
    /// There may be a frame if more bytes are there.
    Cut,
    /// There is none.
    Invalid,
}

/// Looks at what these bytes begin with; `sequences` are those that a frame may have here.
pub(super) fn check(
    bytes: &[u8],
    seed: u32,
    sequences: std::ops::RangeInclusive<u64>,
) -> Checked<'_> {
    let Some((head, _)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Checked::Cut;
    };
    let mut input = payload::Input(head);
    let payload_length = input.array().map(u32::from_le_bytes).unwrap_or_default();
    let sequence = input.number().unwrap_or_default();
    let length = payload_length as usize + FRAME_BYTES_MIN;
    if length > FRAME_BYTES_MAX || !sequences.contains(&sequence) {
        return Checked::Invalid;
    }
    let Some(whole) = bytes.get(..length) else {
        return Checked::Cut;
    };
    let (content, checksum) = whole.split_at(length - CHECKSUM_BYTES);
    if checksum != crc32c::crc32c_append(seed, content).to_le_bytes() {
        return Checked::Invalid;
    }
    Checked::Whole(Frame {
        sequence,
        kind: content[12] & !BEGINS_COMMIT,
        begins_commit: content[12] & BEGINS_COMMIT != 0,
        payload: &content[FRAME_HEAD_BYTES..],
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        identity: *b"identity",
        first_sequence: 7,
        created_us: 1_700_000_000_000_000,
        previous: Span {
            from_us: 3,
            to_us: 4,
        },
    };

    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all() {
        let bytes = HEADER.to_bytes();
        assert_eq!(Header::read(&bytes), Ok(HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&damaged), Err(HeaderError::Broken));
        }
        let mut newer = bytes;
        newer[8] += 1;
        let checksum = crc32c::crc32c(&newer[..52]);
        newer[52..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::read(&newer), Err(HeaderError::Newer));
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_or_not_at_all() {
        let seed = HEADER.seed();
        let mut bytes = Vec::new();
        push(&mut bytes, seed, 9, ENTRY, b"payload", true);
        let whole = Frame {
            sequence: 9,
            kind: ENTRY,
            begins_commit: true,
            payload: b"payload",
            length: bytes.len(),
        };
        assert_eq!(check(&bytes, seed, 9..=9), Checked::Whole(whole));
        assert_eq!(check(&bytes, seed, 10..=11), Checked::Invalid);
        assert_eq!(
            check(&bytes, seed ^ 1, 9..=9),
            Checked::Invalid,
            "other file"
        );
        for length in 0..bytes.len() {
            assert_eq!(check(&bytes[..length], seed, 9..=9), Checked::Cut);
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = check(&damaged, seed, 0..=u64::MAX);
            assert!(!matches!(found, Checked::Whole(_)), "bit {bit}");
        }
    }
}
