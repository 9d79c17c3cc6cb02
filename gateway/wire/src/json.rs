//! A JSON scanner that looks for a few members and lets everything else pass, incrementally and in bounded memory.
//!
//! It validates enough to be safe against parser differentials: keys are compared after unescaping, duplicates are
//! counted, nesting is limited. Bytes are never changed; numbers are never converted.

/// A member to look for: the keys from the top-level object down, e.g. `["response", "usage"]`.
pub type Path = &'static [&'static str];

/// What was found for one path.
#[derive(Debug, Default)]
pub struct Found {
    /// The value's bytes as they stand in the text (strings with their quotes), up to `capture_bytes_max`.
    pub raw: Vec<u8>,
    /// How often the member occurred; more than one is ambiguous.
    pub times: u32,
    /// The value was longer than the limit; `raw` holds its start.
    pub truncated: bool,
}

impl Found {
    /// The value as a string (unescaped); `None` if it is not a string, not there, truncated or invalid.
    pub fn as_str(&self) -> Option<std::borrow::Cow<'_, str>> {
        todo!()
    }
    /// The value as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        todo!()
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

/// The scanner. Feed it the text in pieces.
#[derive(Debug)]
pub struct JsonScan {
    _todo: (),
}

impl JsonScan {
    /// A scanner for these members. `depth_max` counts nested arrays and objects.
    pub fn new(paths: &'static [Path], depth_max: usize, capture_bytes_max: usize) -> Self {
        todo!("{paths:?} {depth_max} {capture_bytes_max}")
    }

    /// Scans the next piece. Strings are skipped with SIMD search (`memchr2`); nothing is allocated but captures.
    ///
    /// # Errors
    /// The first error sticks: every later call returns it again.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), JsonError> {
        todo!("{piece:?}")
    }

    /// The value is complete (a closing brace matched the first one); only white space may follow.
    pub fn is_complete(&self) -> bool {
        todo!()
    }

    /// What was found for `paths[index]` so far. A value still being captured has `times` counted already.
    pub fn found(&self, index: usize) -> &Found {
        todo!("{index}")
    }

    /// Starts over, keeping allocations.
    pub fn reset(&mut self) {
        todo!()
    }
}
