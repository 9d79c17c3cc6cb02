//! Strings, numbers and literals of which a part is in another piece, or in which there is more than plain text.

use super::JsonError;
use super::number::Number;
use super::text::plain_bytes;
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
                Self::String(role) => {
                    let end = at - 1 + plain_bytes(&bytes[at - 1..]);
                    if role == StringRole::Key {
                        watch.key_text(&bytes[at - 1..end])?;
                    }
                    at = end + 1;
                    match bytes.get(end) {
                        None => return Ok((end, Some(lexeme))),
                        Some(b'"') => return Ok((at, None)),
                        Some(b'\\') => Self::Escape(role),
                        Some(_) => return Err(JsonError::Invalid),
                    }
                }
                Self::Escape(role) => escape(byte, role, watch)?,
                Self::Unicode { role, digits, unit } => unicode(byte, role, digits, unit, watch)?,
                Self::Number(number) => match number.step(byte) {
                    Some(number) => Self::Number(number),
                    None if number.may_end() => return Ok((at - 1, None)),
                    None => return Err(JsonError::Invalid),
                },
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

fn escape(name: u8, role: StringRole, watch: &mut Watch) -> Result<Lexeme, JsonError> {
    let character = match name {
        b'u' => {
            return Ok(Lexeme::Unicode {
                role,
                digits: 0,
                unit: 0,
            });
        }
        b'"' | b'\\' | b'/' => name,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Err(JsonError::Invalid),
    };
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
