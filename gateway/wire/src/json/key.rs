//! A key that is not there in one piece as it is meant: it comes in parts, or has escapes.

use super::JsonError;

/// No key we look for comes near this.
pub(super) const KEY_BYTES_MAX: usize = 1024;

/// What has come of a key, unescaped.
#[derive(Debug, Default)]
pub(super) struct KeyText {
    text: Vec<u8>,
    /// The first half of a surrogate pair has come as an escape.
    high_surrogate: Option<u16>,
    /// Half a character has come: no key we look for has that.
    is_broken: bool,
}

impl KeyText {
    /// Another key begins.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        (self.high_surrogate, self.is_broken) = (None, false);
    }

    /// More bytes of the key.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), JsonError> {
        if text.is_empty() {
            return Ok(());
        }
        self.break_at_lone_surrogate();
        if self.text.len() + text.len() > KEY_BYTES_MAX {
            return Err(JsonError::KeyTooLong);
        }
        self.text.extend_from_slice(text);
        Ok(())
    }

    /// A code unit of UTF-16 that came as `\uXXXX`.
    pub(super) fn push_utf16_unit(&mut self, unit: u16) -> Result<(), JsonError> {
        let character = match (self.high_surrogate.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.high_surrogate = Some(unit);
                return Ok(());
            }
            (None, _) => char::from_u32(unit.into()),
            (Some(high), _) => char::decode_utf16([high, unit]).next().and_then(Result::ok),
        };
        if let Some(character) = character {
            return self.push(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.is_broken = true;
        Ok(())
    }

    /// The key, which has come to its end; `None` if it is none that anybody looks for.
    pub(super) fn end(&mut self) -> Option<&[u8]> {
        self.break_at_lone_surrogate();
        (!self.is_broken).then_some(&self.text)
    }

    fn break_at_lone_surrogate(&mut self) {
        self.is_broken |= self.high_surrogate.take().is_some();
    }
}
