//! A JSON scanner that looks for a few members and lets everything else pass, incrementally and in bounded memory.
//!
//! It validates enough to be safe against parser differentials: the grammar of RFC 8259 is held to the
//! letter, keys are compared after unescaping, duplicates are counted, nesting is limited. Bytes are never
//! changed; numbers are never converted. Not checked is whether the bytes beyond ASCII are UTF-8: a name we look
//! for has none, and a captured string that is not UTF-8 is no string (`Found::as_str`).

mod key;
mod lexeme;
mod number;
mod paths;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod watch;

pub use paths::{Path, Paths};

use paths::NodeIndex;
use smallvec::SmallVec;
use std::borrow::Cow;
use syntax::Syntax;
use watch::Watch;

/// Stands in a `Path` for every item of an array, so it cannot be looked for as a key.
pub const EVERY_ITEM: &str = "[]";

/// The deepest nesting that a scanner can follow.
pub const DEPTH_CEILING: usize = 128;

/// Counts, flags and most names need no allocation.
const RAW_INLINE_BYTES: usize = 32;

/// What was found for one path.
#[derive(Debug, Default)]
pub struct Found {
    /// The value's bytes as they stand in the text (strings with their quotes), up to `capture_bytes_max`.
    pub raw: SmallVec<[u8; RAW_INLINE_BYTES]>,
    /// Bytes of the text in front of `raw`.
    pub start: u64,
    /// How often the member occurred; more than one is ambiguous. `raw` is of the last.
    pub times: u32,
    /// The value has come to its end.
    pub complete: bool,
    /// The value was longer than the limit; `raw` holds its start.
    pub truncated: bool,
    /// What the occurrences that are numbers which count something come to.
    pub sum: u64,
    /// Where in the current piece the value begins or goes on.
    from: usize,
}

impl Found {
    const NOTHING: Self = Self {
        raw: SmallVec::new_const(),
        start: 0,
        times: 0,
        complete: false,
        truncated: false,
        sum: 0,
        from: 0,
    };

    /// The value as a string (unescaped); `None` if it is not a string, not there, truncated or invalid.
    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        if let Some(text) = self.as_plain_str() {
            return Some(Cow::Borrowed(text));
        }
        serde_json::from_slice(self.whole()?).ok().map(Cow::Owned)
    }

    /// The value as a string if it is one without escapes.
    pub(crate) fn as_plain_str(&self) -> Option<&str> {
        let text = self.whole()?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if text.contains(&b'\\') {
            return None;
        }
        std::str::from_utf8(text).ok()
    }

    /// The value as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.whole()? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The value as a number that counts something.
    pub fn as_u64(&self) -> Option<u64> {
        let digits = self.whole()?;
        digits.iter().try_fold(0_u64, |value, byte| {
            byte.is_ascii_digit().then_some(())?;
            value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
        })
    }

    /// The value as a count, in whichever way the number is written, also in a string as ProtoJSON has it: rounded up, and at
    /// most the largest that there is.
    pub fn as_count(&self) -> Option<u64> {
        if let Some(count) = self.as_u64() {
            return Some(count);
        }
        let text = self.whole()?;
        let quoted = text
            .strip_prefix(b"\"")
            .and_then(|text| text.strip_suffix(b"\""));
        number::count(quoted.unwrap_or(text))
    }

    /// The value was there and is something else than `null`.
    pub fn is_not_null(&self) -> bool {
        !self.raw.is_empty() && !b"null".starts_with(&self.raw)
    }

    fn whole(&self) -> Option<&[u8]> {
        (self.complete && !self.truncated).then_some(&self.raw)
    }

    fn clear(&mut self) {
        self.raw.clear();
        (self.times, self.complete, self.truncated) = (0, false, false);
        self.sum = 0;
    }

    /// The value begins there in the current piece, which comes after so many bytes.
    fn begin(&mut self, from: usize, earlier_bytes: u64) {
        let (times, sum) = (self.times.saturating_add(1), self.sum);
        self.clear();
        (self.times, self.sum) = (times, sum);
        (self.from, self.start) = (from, earlier_bytes + from as u64);
    }

    /// The value goes on in the next piece.
    fn pause(&mut self, piece: &[u8], bytes_max: usize) {
        self.append(&piece[self.from..], bytes_max);
        self.from = 0;
    }

    /// The value is over where these bytes of the piece are.
    fn end(&mut self, bytes: &[u8], bytes_max: usize) {
        self.append(&bytes[self.from..], bytes_max);
        self.from = 0;
        self.complete = true;
        self.sum = self.sum.saturating_add(self.as_u64().unwrap_or(0));
    }

    /// What has come of the value says nothing.
    fn forget(&mut self) {
        self.raw.clear();
        (self.truncated, self.from) = (false, 0);
    }

    fn append(&mut self, bytes: &[u8], bytes_max: usize) {
        let room = bytes_max - self.raw.len();
        self.truncated |= bytes.len() > room;
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Why scanning stopped. The text may still be passed on, but nothing may be concluded from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JsonError {
    /// A byte that cannot stand there, or bytes after the end of the value.
    Invalid,
    /// Nested deeper than allowed.
    TooDeep,
    /// A key longer than 1,024 bytes (it cannot be one we look for, so: only inside the objects that are looked at).
    KeyTooLong,
}

/// The scanner. Feed it the text in pieces. The text has to be an object, or, where a path says so, an array.
#[derive(Debug)]
pub struct JsonScan {
    syntax: Syntax,
    watch: Watch,
    error: Option<JsonError>,
}

impl JsonScan {
    /// A scanner for these members. `depth_max` counts nested arrays and objects; more than `DEPTH_CEILING`
    /// counts as that.
    pub fn new(paths: &'static Paths, depth_max: usize, capture_bytes_max: usize) -> Self {
        Self {
            syntax: Syntax::new(depth_max, paths.item(NodeIndex::ROOT).is_some()),
            watch: Watch::new(paths, capture_bytes_max),
            error: None,
        }
    }

    /// Scans the next piece. Long strings are skipped with vector instructions; nothing is allocated but captures, and keys
    /// that are split or have escapes.
    ///
    /// # Errors
    /// The first error sticks: every later call returns it again.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), JsonError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let read = self.syntax.read(piece, &mut self.watch);
        match read {
            Ok(()) => self.watch.end_piece(piece),
            Err(error) => {
                self.error = Some(error);
                self.watch.drop_captures();
            }
        }
        read
    }

    /// The value is complete (a closing bracket matched the first one); only white space may follow.
    pub fn is_complete(&self) -> bool {
        self.syntax.is_complete() && self.error.is_none()
    }

    /// It is not JSON, or more than can be followed: nothing may be concluded from it.
    pub fn is_broken(&self) -> bool {
        self.error.is_some()
    }

    /// What was found for the path of this index so far. A value still being captured has `times` counted already.
    #[inline]
    pub fn found(&self, index: usize) -> &Found {
        static NOTHING: Found = Found::NOTHING;
        self.watch.found(index).unwrap_or(&NOTHING)
    }

    /// The indices of the paths for which something was found, in their order.
    pub fn found_paths(&self) -> impl Iterator<Item = usize> + use<> {
        self.watch.found_paths()
    }

    /// Starts over, keeping allocations.
    pub fn reset(&mut self) {
        self.syntax.reset();
        self.watch.reset();
        self.error = None;
    }
}
