//! A JSON scanner that looks for a few members and lets everything else pass, incrementally and in bounded memory.
//!
//! It validates enough to be safe against parser differentials: the grammar of RFC 8259 is held to the
//! letter, keys are compared after unescaping, duplicates are counted, nesting is limited. Bytes are never
//! changed; numbers are never converted. Not checked is whether the bytes beyond ASCII are UTF-8: a name we look
//! for has none, and a captured string that is not UTF-8 is no string (`Found::as_str`).

mod key;
mod number;
#[cfg(test)]
mod tests;

use key::KeyMatch;
use memchr::memchr2;
use number::Number;
use std::borrow::Cow;

/// A member to look for: the keys from the top-level object down, e.g. `["response", "usage"]`.
/// `EVERY_ITEM` in the place of a key stands for the items of an array.
pub type Path = &'static [&'static str];

/// Stands in a `Path` for every item of an array, so it cannot be looked for as a key.
pub const EVERY_ITEM: &str = "[]";

/// The deepest nesting that a scanner can follow.
pub const DEPTH_CEILING: usize = 128;

/// What was found for one path.
#[derive(Debug, Default)]
pub struct Found {
    /// The value's bytes as they stand in the text (strings with their quotes), up to `capture_bytes_max`.
    pub raw: Vec<u8>,
    /// How often the member occurred; more than one is ambiguous. `raw` is of the last.
    pub times: u32,
    /// The value has come to its end.
    pub complete: bool,
    /// The value was longer than the limit; `raw` holds its start.
    pub truncated: bool,
}

impl Found {
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

    /// The value was there and is something else than `null`.
    pub fn is_not_null(&self) -> bool {
        !self.raw.is_empty() && !b"null".starts_with(&self.raw)
    }

    fn whole(&self) -> Option<&[u8]> {
        (self.complete && !self.truncated).then_some(&self.raw)
    }

    fn begin(&mut self) {
        self.raw.clear();
        self.times = self.times.saturating_add(1);
        self.complete = false;
        self.truncated = false;
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

/// A set of paths, by index.
type PathSet = u32;
/// More than any path we look for has.
const PATH_LENGTH_MAX: usize = 4;

/// The scanner. Feed it the text in pieces. The text has to be an object.
#[derive(Debug)]
pub struct JsonScan {
    paths: &'static [Path],
    depth_max: usize,
    capture_bytes_max: usize,
    found: Vec<Found>,
    state: State,
    error: Option<JsonError>,
    /// Open arrays and objects.
    depth: usize,
    /// Of each of them whether it is an object, the innermost in the lowest bit.
    objects: u128,
    /// How many of them, counted from the outermost, lie on a path.
    watched: usize,
    /// The paths that go on inside of each of those.
    inside: [PathSet; PATH_LENGTH_MAX],
    /// The paths that lead to or through the next value.
    to_value: PathSet,
    /// The paths whose value is being captured.
    capturing: PathSet,
    key: KeyMatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the object that is the text.
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
    /// After the object.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringRole {
    Value,
    /// A key in an object on a path.
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

/// A piece with the place up to which it has been captured.
struct Piece<'p> {
    bytes: &'p [u8],
    captured: usize,
}

impl JsonScan {
    /// A scanner for these members. `depth_max` counts nested arrays and objects; more than `DEPTH_CEILING`
    /// counts as that.
    ///
    /// # Panics
    /// There are more than 32 paths, or one has no key or more than 4: paths are constants.
    pub fn new(paths: &'static [Path], depth_max: usize, capture_bytes_max: usize) -> Self {
        assert!(paths.len() <= PathSet::BITS as usize);
        assert!(
            paths
                .iter()
                .all(|path| (1..=PATH_LENGTH_MAX).contains(&path.len()))
        );
        Self {
            paths,
            depth_max: depth_max.min(DEPTH_CEILING),
            capture_bytes_max,
            found: paths.iter().map(|_| Found::default()).collect(),
            state: State::Start,
            error: None,
            depth: 0,
            objects: 0,
            watched: 0,
            inside: [0; PATH_LENGTH_MAX],
            to_value: all_of(paths),
            capturing: 0,
            key: KeyMatch::default(),
        }
    }

    /// Scans the next piece. Strings are skipped with SIMD search (`memchr2`); nothing is allocated but captures.
    ///
    /// # Errors
    /// The first error sticks: every later call returns it again.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), JsonError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut piece = Piece {
            bytes: piece,
            captured: 0,
        };
        let scanned = self.scan(&mut piece);
        if let Err(error) = scanned {
            self.error = Some(error);
            // How much of a broken value was seen depends on the splitting.
            for index in indices(self.capturing) {
                self.found[index].raw.clear();
            }
        } else {
            let end = piece.bytes.len();
            self.capture(&mut piece, end);
        }
        scanned
    }

    /// The value is complete (a closing brace matched the first one); only white space may follow.
    pub fn is_complete(&self) -> bool {
        self.state == State::Done && self.error.is_none()
    }

    /// What was found for `paths[index]` so far. A value still being captured has `times` counted already.
    pub fn found(&self, index: usize) -> &Found {
        &self.found[index]
    }

    /// Starts over, keeping allocations.
    pub fn reset(&mut self) {
        for found in &mut self.found {
            found.raw.clear();
            (found.times, found.complete, found.truncated) = (0, false, false);
        }
        self.state = State::Start;
        self.error = None;
        (self.depth, self.watched, self.capturing) = (0, 0, 0);
        self.to_value = all_of(self.paths);
    }

    fn scan(&mut self, piece: &mut Piece<'_>) -> Result<(), JsonError> {
        let mut at = 0;
        while let Some(&byte) = piece.bytes.get(at) {
            at = match self.state {
                State::String(role) => self.string(piece, at, role)?,
                State::Escape(role) => {
                    self.escape(byte, role)?;
                    at + 1
                }
                State::Unicode { role, digits, unit } => {
                    self.unicode(byte, role, digits, unit)?;
                    at + 1
                }
                State::Number(number) => self.number(piece, at, number)?,
                State::Literal(literal, matched) => self.literal(piece, at, literal, matched)?,
                _ => {
                    if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                        self.token(piece, at, byte)?;
                    }
                    at + 1
                }
            };
        }
        Ok(())
    }

    /// A byte between strings, numbers and literals that is not white space.
    fn token(&mut self, piece: &mut Piece<'_>, at: usize, byte: u8) -> Result<(), JsonError> {
        match (self.state, byte) {
            (
                State::Value | State::FirstItem,
                b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'a'..=b'z',
            )
            | (State::Start, b'{') => self.value_start(piece, at, byte)?,
            (State::FirstKey | State::Key, b'"') => self.key_start(),
            (State::Colon, b':') => self.state = State::Value,
            (State::AfterValue, b',') if self.in_object() => self.state = State::Key,
            (State::AfterValue, b',') => self.state = State::Value,
            (State::FirstKey, b'}') | (State::FirstItem, b']') => self.close(piece, at),
            (State::AfterValue, b'}') if self.in_object() => self.close(piece, at),
            (State::AfterValue, b']') if !self.in_object() => self.close(piece, at),
            _ => return Err(JsonError::Invalid),
        }
        Ok(())
    }

    fn value_start(&mut self, piece: &mut Piece<'_>, at: usize, byte: u8) -> Result<(), JsonError> {
        let mut going_on = 0;
        if self.on_path() {
            if self.depth > 0 && !self.in_object() {
                self.to_value = self.inside[self.depth - 1];
            }
            going_on = self.begin_captures(piece, at);
        }
        self.state = match byte {
            b'"' => State::String(StringRole::Value),
            b'{' | b'[' => return self.open(byte == b'{', going_on),
            b't' => State::Literal(Literal::True, 1),
            b'f' => State::Literal(Literal::False, 1),
            b'n' => State::Literal(Literal::Null, 1),
            _ => State::Number(Number::begin(byte).ok_or(JsonError::Invalid)?),
        };
        Ok(())
    }

    /// Begins to capture for the paths that end at the value at `at`, and returns those that go on.
    fn begin_captures(&mut self, piece: &mut Piece<'_>, at: usize) -> PathSet {
        let ending = self.subset(self.to_value, |path| path.len() == self.depth);
        if ending != 0 {
            self.capture(piece, at);
            for index in indices(ending) {
                self.found[index].begin();
            }
            self.capturing |= ending;
        }
        self.to_value & !ending
    }

    fn open(&mut self, is_object: bool, going_on: PathSet) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep);
        }
        if self.on_path() {
            let wants_items = |path: Path| path[self.depth] == EVERY_ITEM;
            let inside = self.subset(going_on, |path| wants_items(path) != is_object);
            if inside != 0 {
                self.inside[self.watched] = inside;
                self.watched += 1;
            }
        }
        self.depth += 1;
        self.objects = (self.objects << 1) | u128::from(is_object);
        self.state = if is_object {
            State::FirstKey
        } else {
            State::FirstItem
        };
        Ok(())
    }

    fn close(&mut self, piece: &mut Piece<'_>, at: usize) {
        self.watched -= usize::from(self.on_path());
        self.depth -= 1;
        self.objects >>= 1;
        self.value_end(piece, at + 1);
    }

    fn value_end(&mut self, piece: &mut Piece<'_>, end: usize) {
        if self.capturing != 0 {
            let ending = self.subset(self.capturing, |path| path.len() == self.depth);
            if ending != 0 {
                self.capture(piece, end);
                for index in indices(ending) {
                    self.found[index].complete = true;
                }
                self.capturing &= !ending;
            }
        }
        self.state = if self.depth == 0 {
            State::Done
        } else {
            State::AfterValue
        };
    }

    /// Appends to the captures what has come up to `end`.
    fn capture(&mut self, piece: &mut Piece<'_>, end: usize) {
        for index in indices(self.capturing) {
            self.found[index].append(&piece.bytes[piece.captured..end], self.capture_bytes_max);
        }
        piece.captured = end;
    }

    fn key_start(&mut self) {
        self.state = State::String(if self.on_path() {
            self.key = KeyMatch::new(self.inside[self.depth - 1]);
            StringRole::WatchedKey
        } else {
            StringRole::OtherKey
        });
    }

    fn string(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        role: StringRole,
    ) -> Result<usize, JsonError> {
        let rest = &piece.bytes[at..];
        let text_bytes = plain_bytes(rest)?;
        let text = &rest[..text_bytes];
        if role == StringRole::WatchedKey {
            self.key.text(text, self.paths, self.depth)?;
        }
        let end = at + text_bytes;
        match (rest.get(text_bytes), role) {
            (None, _) => return Ok(end),
            (Some(b'\\'), _) => self.state = State::Escape(role),
            (Some(_), StringRole::Value) => self.value_end(piece, end + 1),
            (Some(_), StringRole::WatchedKey) => {
                self.to_value = self.key.end(self.paths, self.depth);
                self.state = State::Colon;
            }
            (Some(_), StringRole::OtherKey) => self.state = State::Colon,
        }
        Ok(end + 1)
    }

    fn escape(&mut self, byte: u8, role: StringRole) -> Result<(), JsonError> {
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode {
                    role,
                    digits: 0,
                    unit: 0,
                };
                return Ok(());
            }
            _ => return Err(JsonError::Invalid),
        };
        if role == StringRole::WatchedKey {
            self.key.text(&[plain], self.paths, self.depth)?;
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
    ) -> Result<(), JsonError> {
        let digit = (byte as char).to_digit(16).ok_or(JsonError::Invalid)?;
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
            self.key.utf16_unit(unit, self.paths, self.depth)?;
        }
        self.state = State::String(role);
        Ok(())
    }

    fn number(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        mut number: Number,
    ) -> Result<usize, JsonError> {
        let mut end = at;
        while let Some(&byte) = piece.bytes.get(end) {
            let Some(next) = number.step(byte) else {
                if !number.may_end() {
                    return Err(JsonError::Invalid);
                }
                self.value_end(piece, end);
                return Ok(end);
            };
            number = next;
            end += 1;
        }
        self.state = State::Number(number);
        Ok(end)
    }

    fn literal(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        literal: Literal,
        matched: u8,
    ) -> Result<usize, JsonError> {
        let rest = &literal.text()[usize::from(matched)..];
        let there = &piece.bytes[at..];
        let there = &there[..there.len().min(rest.len())];
        if !rest.starts_with(there) {
            return Err(JsonError::Invalid);
        }
        let end = at + there.len();
        if there.len() == rest.len() {
            self.value_end(piece, end);
        } else {
            self.state = State::Literal(literal, matched + there.len() as u8);
        }
        Ok(end)
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// The innermost open array or object is one that a path goes through (or none is open).
    fn on_path(&self) -> bool {
        self.watched == self.depth
    }

    fn subset(&self, set: PathSet, wanted: impl Fn(Path) -> bool) -> PathSet {
        indices(set)
            .filter(|&index| wanted(self.paths[index]))
            .fold(0, |set, index| set | 1 << index)
    }
}

fn all_of(paths: &[Path]) -> PathSet {
    (0..paths.len()).fold(0, |set, index| set | 1 << index)
}

fn indices(mut set: PathSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (index < PathSet::BITS as usize).then_some(index)
    })
}

/// How many bytes come before a quote or backslash. Control characters must not stand in a string as they are
/// (RFC 8259 section 7).
fn plain_bytes(text: &[u8]) -> Result<usize, JsonError> {
    let short = &text[..text.len().min(SHORT_STRING_BYTES)];
    let (words, tail) = short.as_chunks();
    for (index, &word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(word));
        if special != 0 {
            let at = special.trailing_zeros() as usize / 8;
            return if word[at] < 0x20 {
                Err(JsonError::Invalid)
            } else {
                Ok(8 * index + at)
            };
        }
    }
    let searched = 8 * words.len();
    let rest = if tail.is_empty() {
        &text[searched..]
    } else {
        tail
    };
    let rest = &rest[..memchr2(b'"', b'\\', rest).unwrap_or(rest.len())];
    // The minimum of a whole stretch, with no way out of the loop, takes vector instructions.
    if rest.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte)) < 0x20 {
        return Err(JsonError::Invalid);
    }
    Ok(searched + rest.len())
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
