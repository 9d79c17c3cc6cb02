//! Comparing a key with the ones on the paths while it comes in, without keeping it.

use super::watch::{PathSet, indices};
use super::{JsonError, Path};

/// No key we look for comes near this.
const KEY_BYTES_MAX: usize = 1024;

/// How far a key agrees with those that it may be. The key's depth is that of the object that it is in, so it
/// is compared with `path[depth - 1]`.
#[derive(Debug, Default)]
pub(super) struct KeyMatch {
    /// The paths whose key begins with what has come.
    candidates: PathSet,
    /// Bytes so far, unescaped.
    bytes: usize,
    /// The first half of a surrogate pair has come as an escape.
    high_surrogate: Option<u16>,
}

impl KeyMatch {
    pub(super) fn new(candidates: PathSet) -> Self {
        Self {
            candidates,
            ..Self::default()
        }
    }

    /// Nothing has come, and the first byte is one that only these have: nearly all keys differ there from all of them.
    pub(super) fn begins(&mut self, with_first_byte: impl FnOnce() -> PathSet) {
        if self.bytes == 0 {
            self.candidates &= with_first_byte();
        }
    }

    /// More bytes of the key.
    pub(super) fn text(
        &mut self,
        text: &[u8],
        paths: &[Path],
        depth: usize,
    ) -> Result<(), JsonError> {
        if text.is_empty() {
            return Ok(());
        }
        self.drop_lone_surrogate();
        let end = self.bytes + text.len();
        for index in indices(self.candidates) {
            let wanted = paths[index][depth - 1].as_bytes();
            if wanted.get(self.bytes..end) != Some(text) {
                self.candidates &= !(1 << index);
            }
        }
        self.bytes = end;
        if end > KEY_BYTES_MAX {
            Err(JsonError::KeyTooLong)
        } else {
            Ok(())
        }
    }

    /// A code unit of UTF-16 that came as `\uXXXX`.
    pub(super) fn utf16_unit(
        &mut self,
        unit: u16,
        paths: &[Path],
        depth: usize,
    ) -> Result<(), JsonError> {
        let character = match (self.high_surrogate.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.high_surrogate = Some(unit);
                return Ok(());
            }
            (None, _) => char::from_u32(unit.into()),
            (Some(high), _) => char::decode_utf16([high, unit]).next().and_then(Result::ok),
        };
        if let Some(character) = character {
            return self.text(character.encode_utf8(&mut [0; 4]).as_bytes(), paths, depth);
        }
        // Half a character: no key we look for has that.
        self.candidates = 0;
        Ok(())
    }

    /// The paths that have this key.
    pub(super) fn end(&mut self, paths: &[Path], depth: usize) -> PathSet {
        self.drop_lone_surrogate();
        for index in indices(self.candidates) {
            if paths[index][depth - 1].len() != self.bytes {
                self.candidates &= !(1 << index);
            }
        }
        self.candidates
    }

    fn drop_lone_surrogate(&mut self) {
        if self.high_surrogate.take().is_some() {
            self.candidates = 0;
        }
    }
}
