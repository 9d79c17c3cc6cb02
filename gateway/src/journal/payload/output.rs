//! Memory that a payload is written into. Whoever makes it sees to it that there is room for all of it: where there is none,
//! writing panics.

/// Where a payload is written to.
pub(super) struct Output<'o> {
    bytes: &'o mut [u8],
    length: usize,
}

impl<'o> Output<'o> {
    /// To the beginning of these.
    pub(super) fn to(bytes: &'o mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// How many bytes were written.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// A number, as LEB128.
    #[inline]
    pub(super) fn push(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }
}
