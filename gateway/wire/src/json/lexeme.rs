//! Strings, numbers and literals of which a part is in another piece, and strings in which there is more than plain text.

use super::JsonError;
use super::number::Number;
use super::text::{escapes_bytes, plain_bytes, unescaped};
use super::watch::Watch;

/// One that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
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
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringRole {
    /// A value, or a key where no key is looked for.
    Unread,
    /// A key that may be one of those looked for.
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    pub(super) fn begin(byte: u8) -> Option<Self> {
        match byte {
            b't' => Some(Self::True),
            b'f' => Some(Self::False),
            b'n' => Some(Self::Null),
            _ => None,
        }
    }

    pub(super) fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

impl Lexeme {
    /// Reads on from `at`: returns where it ends, or where the piece does and what is to be read on then.
    pub(super) fn read(
        self,
        bytes: &[u8],
        mut at: usize,
        watch: &mut Watch,
    ) -> Result<(usize, Option<Self>), JsonError> {
        let mut lexeme = self;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            lexeme = match lexeme {
                Self::String(StringRole::Unread) => {
                    let (end, broken_off) = unread_string(bytes, at - 1)?;
                    at = end;
                    match broken_off {
                        None => return Ok((end, None)),
                        Some(broken_off) => broken_off,
                    }
                }
                Self::String(StringRole::Key) => {
                    let end = at - 1 + plain_bytes(&bytes[at - 1..]);
                    watch.key_text(&bytes[at - 1..end])?;
                    at = end + 1;
                    match bytes.get(end) {
                        None => return Ok((end, Some(lexeme))),
                        Some(b'"') => return Ok((at, None)),
                        Some(b'\\') => Self::Escape(StringRole::Key),
                        Some(_) => return Err(JsonError::Invalid),
                    }
                }
                Self::Escape(role) => escape(byte, role, watch)?,
                Self::Unicode { role, digits, unit } => unicode(byte, role, digits, unit, watch)?,
                Self::Number(number) => {
                    let (end, broken_off) = number.read(bytes, at - 1)?;
                    return Ok((end, broken_off.map(Self::Number)));
                }
                Self::Literal(literal, matched) => {
                    let text = literal.text();
                    if text[usize::from(matched)] != byte {
                        return Err(JsonError::Invalid);
                    }
                    if usize::from(matched) + 1 == text.len() {
                        return Ok((at, None));
                    }
                    Self::Literal(literal, matched + 1)
                }
            };
        }
        Ok((at, Some(lexeme)))
    }
}

/// Reads on in a string of which nobody wants to know the text: what is whole in the piece takes no state.
fn unread_string(bytes: &[u8], mut at: usize) -> Result<(usize, Option<Lexeme>), JsonError> {
    loop {
        at += plain_bytes(&bytes[at..]);
        match bytes.get(at) {
            None => return Ok((at, Some(Lexeme::String(StringRole::Unread)))),
            Some(b'"') => return Ok((at + 1, None)),
            Some(b'\\') => {}
            Some(_) => return Err(JsonError::Invalid),
        }
        at += escapes_bytes(&bytes[at..])?;
        if bytes.get(at) == Some(&b'\\') {
            return Ok((at + 1, Some(Lexeme::Escape(StringRole::Unread))));
        }
    }
}

fn escape(name: u8, role: StringRole, watch: &mut Watch) -> Result<Lexeme, JsonError> {
    if name == b'u' {
        return Ok(Lexeme::Unicode {
            role,
            digits: 0,
            unit: 0,
        });
    }
    let character = unescaped(name).ok_or(JsonError::Invalid)?;
    if role == StringRole::Key {
        watch.key_text(&[character])?;
    }
    Ok(Lexeme::String(role))
}

fn unicode(
    byte: u8,
    role: StringRole,
    digits: u8,
    unit: u16,
    watch: &mut Watch,
) -> Result<Lexeme, JsonError> {
    let digit = char::from(byte).to_digit(16).ok_or(JsonError::Invalid)?;
    let unit = (unit << 4) | digit as u16;
    if digits < 3 {
        return Ok(Lexeme::Unicode {
            role,
            digits: digits + 1,
            unit,
        });
    }
    if role == StringRole::Key {
        watch.key_utf16_unit(unit)?;
    }
    Ok(Lexeme::String(role))
}
