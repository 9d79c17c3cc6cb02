//! The grammar of JSON (RFC 8259) as a machine that can stop after any byte.

use super::key::KEY_BYTES_MAX;
use super::lexeme::{Lexeme, Literal, StringRole};
use super::number::Number;
use super::text::plain_bytes;
use super::watch::Watch;
use super::{DEPTH_CEILING, JsonError};

/// Where in the text, and inside of what.
#[derive(Debug)]
pub(super) struct Syntax {
    expected: Expected,
    /// The string, number or literal that the last piece broke off in.
    lexeme: Option<Lexeme>,
    may_be_array: bool,
    /// Open arrays and objects.
    depth: usize,
    depth_max: usize,
    /// Of each open one whether it is an object, the innermost in the lowest bit.
    objects: u128,
}

/// What comes next, white space aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The object or array that is the text.
    Start,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After `,` in an object.
    Key,
    Colon,
    /// After `[`: a value or `]`.
    FirstItem,
    Value,
    /// After a value in an array or object: `,` or the closing bracket.
    AfterValue,
    /// After the text.
    Nothing,
}

impl Syntax {
    pub(super) fn new(depth_max: usize, may_be_array: bool) -> Self {
        // As many levels as `objects` has bits.
        const { assert!(DEPTH_CEILING == u128::BITS as usize) };
        Self {
            expected: Expected::Start,
            lexeme: None,
            may_be_array,
            depth: 0,
            depth_max: depth_max.min(DEPTH_CEILING),
            objects: 0,
        }
    }

    /// Starts over.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.depth_max, self.may_be_array);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.expected == Expected::Nothing
    }

    /// Reads a piece and tells `watch` about keys and values.
    pub(super) fn read(&mut self, bytes: &[u8], watch: &mut Watch) -> Result<(), JsonError> {
        let mut at = match self.lexeme {
            Some(lexeme) => self.lexeme(lexeme, bytes, 0, watch)?,
            None => 0,
        };
        while let Some(&byte) = bytes.get(at) {
            at = match self.expected {
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => at + 1,
                Expected::Key | Expected::FirstKey if byte == b'"' => {
                    self.key(bytes, at + 1, watch)?
                }
                _ if self.may_close_with(byte) => self.close(bytes, at, watch),
                Expected::Value | Expected::FirstItem => self.value(bytes, at, byte, watch)?,
                Expected::AfterValue if byte == b',' => {
                    self.comma(watch);
                    at + 1
                }
                Expected::Colon if byte == b':' => {
                    self.expected = Expected::Value;
                    at + 1
                }
                Expected::Start if byte == b'{' || (byte == b'[' && self.may_be_array) => {
                    self.open(at, byte, watch)?
                }
                _ => return Err(JsonError::Invalid),
            };
        }
        Ok(())
    }

    /// A key behind its quote.
    #[inline(always)]
    fn key(&mut self, bytes: &[u8], at: usize, watch: &mut Watch) -> Result<usize, JsonError> {
        let end = at + plain_bytes(&bytes[at..]);
        let is_watched = watch.looks_into(self.depth);
        if bytes.get(end) != Some(&b'"') || (is_watched && end - at > KEY_BYTES_MAX) {
            if !is_watched {
                return self.lexeme(Lexeme::String(StringRole::Unread), bytes, end, watch);
            }
            watch.key_starts();
            return self.lexeme(Lexeme::String(StringRole::Key), bytes, at, watch);
        }
        if is_watched {
            watch.key(&bytes[at..end], self.depth);
        }
        if bytes.get(end + 1) == Some(&b':') {
            self.expected = Expected::Value;
            return Ok(end + 2);
        }
        self.expected = Expected::Colon;
        Ok(end + 1)
    }

    /// A comma behind a value.
    #[inline(always)]
    fn comma(&mut self, watch: &mut Watch) {
        self.expected = if self.in_object() {
            Expected::Key
        } else {
            watch.item_follows(self.depth);
            Expected::Value
        };
    }

    /// A value that begins with `byte`.
    #[inline(always)]
    fn value(
        &mut self,
        bytes: &[u8],
        at: usize,
        byte: u8,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        if matches!(byte, b'{' | b'[') {
            return self.open(at, byte, watch);
        }
        watch.scalar_starts(at, self.depth);
        let behind = at + 1;
        let (end, broken_off) = if byte == b'"' {
            let end = behind + plain_bytes(&bytes[behind..]);
            match bytes.get(end) {
                Some(b'"') => (end + 1, None),
                _ => (end, Some(Lexeme::String(StringRole::Unread))),
            }
        } else if let Some(number) = Number::begin(byte) {
            match number.plain_end(bytes, behind) {
                Some(end) => (end, None),
                None => {
                    let (end, broken_off) = number.read(bytes, behind)?;
                    (end, broken_off.map(Lexeme::Number))
                }
            }
        } else {
            let literal = Literal::begin(byte).ok_or(JsonError::Invalid)?;
            if bytes[at..].starts_with(literal.text()) {
                (at + literal.text().len(), None)
            } else {
                (behind, Some(Lexeme::Literal(literal, 1)))
            }
        };
        match broken_off {
            None => Ok(self.end_value(bytes, end, watch)),
            Some(lexeme) => self.lexeme(lexeme, bytes, end, watch),
        }
    }

    /// What is not read in one go, up to its end or that of the piece.
    fn lexeme(
        &mut self,
        lexeme: Lexeme,
        bytes: &[u8],
        at: usize,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        let (end, lexeme) = lexeme.read(bytes, at, watch)?;
        self.lexeme = lexeme;
        if lexeme.is_some() {
            return Ok(end);
        }
        if matches!(self.expected, Expected::Key | Expected::FirstKey) {
            if watch.looks_into(self.depth) {
                watch.key_ends(self.depth);
            }
            self.expected = Expected::Colon;
            return Ok(end);
        }
        Ok(self.end_value(bytes, end, watch))
    }

    #[inline(always)]
    fn open(&mut self, at: usize, byte: u8, watch: &mut Watch) -> Result<usize, JsonError> {
        let is_object = byte == b'{';
        watch.opens(at, self.depth, is_object);
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.objects = (self.objects << 1) | u128::from(is_object);
        self.expected = if is_object {
            Expected::FirstKey
        } else {
            Expected::FirstItem
        };
        Ok(at + 1)
    }

    #[inline(always)]
    fn may_close_with(&self, byte: u8) -> bool {
        match self.expected {
            Expected::FirstKey => byte == b'}',
            Expected::FirstItem => byte == b']',
            Expected::AfterValue if self.in_object() => byte == b'}',
            Expected::AfterValue => byte == b']',
            _ => false,
        }
    }

    #[inline(always)]
    fn close(&mut self, bytes: &[u8], at: usize, watch: &mut Watch) -> usize {
        watch.closes(self.depth);
        self.depth -= 1;
        self.objects >>= 1;
        self.end_value(bytes, at + 1, watch)
    }

    /// A value is over; so is the comma that may follow at once.
    #[inline(always)]
    fn end_value(&mut self, bytes: &[u8], end: usize, watch: &mut Watch) -> usize {
        watch.value_ends(bytes, end, self.depth);
        if self.depth == 0 {
            self.expected = Expected::Nothing;
            return end;
        }
        if bytes.get(end) == Some(&b',') {
            self.comma(watch);
            return end + 1;
        }
        self.expected = Expected::AfterValue;
        end
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}
