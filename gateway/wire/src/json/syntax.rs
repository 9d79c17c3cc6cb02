//! The grammar of JSON (RFC 8259) as a machine that can stop after any byte.

use super::number::Number;
use super::watch::Watch;
use super::{DEPTH_CEILING, JsonError};
use memchr::memchr2;

/// Where in the text, and inside of what. It is small and copied into registers while a piece is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    state: State,
    /// Open arrays and objects.
    depth: usize,
    depth_max: usize,
    may_be_array: bool,
    /// Of each open one whether it is an object, the innermost in the lowest bit.
    objects: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the object or array that is the text.
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
    String(StringRole),
    /// After a backslash.
    Escape(StringRole),
    /// In the four digits of `\u`: how many have come, and what they say.
    Unicode {
        role: StringRole,
        digits: u8,
        unit: u16,
    },
    Number(Number),
    /// In `true`, `false` or `null`, after that many of its bytes.
    Literal(Literal, u8),
    /// After the text.
    Done,
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringRole {
    Value,
    /// A key that may be one of those looked for.
    WatchedKey,
    OtherKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

impl Syntax {
    pub(super) fn new(depth_max: usize, may_be_array: bool) -> Self {
        // As many levels as `objects` has bits.
        const { assert!(DEPTH_CEILING == u128::BITS as usize) };
        Self {
            state: State::Start,
            depth: 0,
            depth_max: depth_max.min(DEPTH_CEILING),
            may_be_array,
            objects: 0,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Reads a piece and tells `watch` about keys and values.
    pub(super) fn read(&mut self, bytes: &[u8], watch: &mut Watch) -> Result<(), JsonError> {
        let mut local = *self;
        let read = local.read_all(bytes, watch);
        *self = local;
        read
    }

    #[inline(always)]
    fn read_all(&mut self, bytes: &[u8], watch: &mut Watch) -> Result<(), JsonError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match self.state {
                State::String(role) => self.string(bytes, at, role, watch)?,
                State::Escape(role) => {
                    self.escape(byte, role, watch)?;
                    at + 1
                }
                State::Unicode { role, digits, unit } => {
                    self.unicode(byte, role, digits, unit, watch)?;
                    at + 1
                }
                State::Number(number) => self.number(bytes, at, number, watch)?,
                State::Literal(literal, matched) => {
                    self.literal(bytes, at, literal, matched, watch)?
                }
                _ => self.token(bytes, at, byte, watch)?,
            };
        }
        Ok(())
    }

    /// A byte between strings, numbers and literals, or the first of one.
    #[inline(always)]
    fn token(
        &mut self,
        bytes: &[u8],
        at: usize,
        byte: u8,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        let is_value = matches!(self.state, State::Value | State::FirstItem);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'"' if is_value => {
                watch.value_starts(bytes, at, self.depth, self.in_object());
                return self.string(bytes, at + 1, StringRole::Value, watch);
            }
            b'"' if matches!(self.state, State::Key | State::FirstKey) => {
                let role = watch.key_starts(self.depth);
                return self.string(bytes, at + 1, role, watch);
            }
            b':' if self.state == State::Colon => self.state = State::Value,
            b',' if self.state == State::AfterValue => {
                self.state = if self.in_object() {
                    State::Key
                } else {
                    State::Value
                };
            }
            b'{' | b'[' if is_value || self.may_start_with(byte) => {
                watch.value_starts(bytes, at, self.depth, self.in_object());
                self.open(byte == b'{', watch)?;
            }
            b'}' if self.state == State::FirstKey => self.close(bytes, at, watch),
            b']' if self.state == State::FirstItem => self.close(bytes, at, watch),
            b'}' | b']' if self.state == State::AfterValue => {
                if self.in_object() != (byte == b'}') {
                    return Err(JsonError::Invalid);
                }
                self.close(bytes, at, watch);
            }
            _ if is_value => {
                watch.value_starts(bytes, at, self.depth, self.in_object());
                self.state = match byte {
                    b't' => State::Literal(Literal::True, 1),
                    b'f' => State::Literal(Literal::False, 1),
                    b'n' => State::Literal(Literal::Null, 1),
                    _ => State::Number(Number::begin(byte).ok_or(JsonError::Invalid)?),
                };
            }
            _ => return Err(JsonError::Invalid),
        }
        Ok(at + 1)
    }

    #[inline(always)]
    fn open(&mut self, is_object: bool, watch: &mut Watch) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep);
        }
        watch.opens(self.depth, is_object);
        self.depth += 1;
        self.objects = (self.objects << 1) | u128::from(is_object);
        self.state = if is_object {
            State::FirstKey
        } else {
            State::FirstItem
        };
        Ok(())
    }

    #[inline(always)]
    fn close(&mut self, bytes: &[u8], at: usize, watch: &mut Watch) {
        watch.closes(self.depth);
        self.depth -= 1;
        self.objects >>= 1;
        self.end_value(bytes, at + 1, watch);
    }

    #[inline(always)]
    fn end_value(&mut self, bytes: &[u8], end: usize, watch: &mut Watch) {
        watch.value_ends(bytes, end, self.depth);
        self.state = if self.depth == 0 {
            State::Done
        } else {
            State::AfterValue
        };
    }

    /// A string from `at` to its end or that of the piece.
    #[inline(always)]
    fn string(
        &mut self,
        bytes: &[u8],
        at: usize,
        role: StringRole,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        let mut start = at;
        loop {
            let end = start + plain_bytes(&bytes[start..]);
            if role == StringRole::WatchedKey {
                watch.key_text(&bytes[start..end], self.depth)?;
            }
            match (bytes.get(end), role) {
                (None, _) => {
                    self.state = State::String(role);
                    return Ok(end);
                }
                (Some(b'"'), StringRole::Value) => self.end_value(bytes, end + 1, watch),
                (Some(b'"'), StringRole::WatchedKey) => {
                    watch.key_ends(self.depth);
                    self.state = State::Colon;
                }
                (Some(b'"'), StringRole::OtherKey) => self.state = State::Colon,
                (Some(b'\\'), StringRole::Value | StringRole::OtherKey)
                    if bytes
                        .get(end + 1)
                        .is_some_and(|&name| unescaped(name).is_some()) =>
                {
                    start = end + 2;
                    continue;
                }
                (Some(b'\\'), _) => self.state = State::Escape(role),
                (Some(_), _) => return Err(JsonError::Invalid),
            }
            return Ok(end + 1);
        }
    }

    fn escape(&mut self, name: u8, role: StringRole, watch: &mut Watch) -> Result<(), JsonError> {
        if name == b'u' {
            self.state = State::Unicode {
                role,
                digits: 0,
                unit: 0,
            };
            return Ok(());
        }
        let character = unescaped(name).ok_or(JsonError::Invalid)?;
        if role == StringRole::WatchedKey {
            watch.key_text(&[character], self.depth)?;
        }
        self.state = State::String(role);
        Ok(())
    }

    fn unicode(
        &mut self,
        byte: u8,
        role: StringRole,
        digits: u8,
        unit: u16,
        watch: &mut Watch,
    ) -> Result<(), JsonError> {
        let digit = char::from(byte).to_digit(16).ok_or(JsonError::Invalid)?;
        let unit = (unit << 4) | digit as u16;
        if digits < 3 {
            self.state = State::Unicode {
                role,
                digits: digits + 1,
                unit,
            };
            return Ok(());
        }
        if role == StringRole::WatchedKey {
            watch.key_utf16_unit(unit, self.depth)?;
        }
        self.state = State::String(role);
        Ok(())
    }

    #[inline(always)]
    fn number(
        &mut self,
        bytes: &[u8],
        at: usize,
        mut number: Number,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        let mut end = at;
        while let Some(&byte) = bytes.get(end) {
            let Some(next) = number.step(byte) else {
                if !number.may_end() {
                    return Err(JsonError::Invalid);
                }
                self.end_value(bytes, end, watch);
                return Ok(end);
            };
            number = next;
            end += 1;
        }
        self.state = State::Number(number);
        Ok(end)
    }

    #[inline(always)]
    fn literal(
        &mut self,
        bytes: &[u8],
        at: usize,
        literal: Literal,
        matched: u8,
        watch: &mut Watch,
    ) -> Result<usize, JsonError> {
        let rest = &literal.text()[usize::from(matched)..];
        let there = &bytes[at..];
        let there = &there[..there.len().min(rest.len())];
        if !rest.starts_with(there) {
            return Err(JsonError::Invalid);
        }
        let end = at + there.len();
        if there.len() == rest.len() {
            self.end_value(bytes, end, watch);
        } else {
            self.state = State::Literal(literal, matched + there.len() as u8);
        }
        Ok(end)
    }

    fn may_start_with(&self, byte: u8) -> bool {
        self.state == State::Start && (byte == b'{' || self.may_be_array)
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// The character that an escape other than `\u` stands for.
fn unescaped(name: u8) -> Option<u8> {
    Some(match name {
        b'"' | b'\\' | b'/' => name,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// How many bytes come before the first that cannot be in a string as it is (RFC 8259 section 7): a quote, a
/// backslash or a control character.
#[inline]
fn plain_bytes(text: &[u8]) -> usize {
    let short = &text[..text.len().min(SHORT_STRING_BYTES)];
    let (words, tail) = short.as_chunks();
    for (index, &word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(word));
        if special != 0 {
            return 8 * index + special.trailing_zeros() as usize / 8;
        }
    }
    let searched = 8 * words.len();
    let rest = if tail.is_empty() {
        &text[searched..]
    } else {
        tail
    };
    searched + plain_bytes_of_long(rest)
}

fn plain_bytes_of_long(text: &[u8]) -> usize {
    let text = &text[..memchr2(b'"', b'\\', text).unwrap_or(text.len())];
    // The minimum of a whole stretch, with no way out of the loop, takes vector instructions.
    if text.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) >= 0x20 {
        return text.len();
    }
    text.iter()
        .position(|&byte| byte < 0x20)
        .unwrap_or(text.len())
}

/// Up to here eight bytes at a time are faster than a vector search.
const SHORT_STRING_BYTES: usize = 32;

/// The high bits of the bytes that are quotes, backslashes or control characters. Exact up to the first one;
/// what comes after it may be wrong.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let below = |word: u64, limit: u64| word.wrapping_sub(limit * ONES) & !word;
    let equal = |byte: u8| below(word ^ (u64::from(byte) * ONES), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (0x80 * ONES)
}
