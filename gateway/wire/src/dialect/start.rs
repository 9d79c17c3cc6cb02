//! How something begins that may come in parts.

/// The first bytes of something that may come in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<const BYTES_MAX: usize> {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl<const BYTES_MAX: usize> Default for Start<BYTES_MAX> {
    fn default() -> Self {
        Self {
            bytes: [0; BYTES_MAX],
            length: 0,
        }
    }
}

impl<const BYTES_MAX: usize> Start<BYTES_MAX> {
    /// Takes what there is room for and returns the rest.
    pub(super) fn push<'p>(&mut self, part: &'p [u8]) -> &'p [u8] {
        let (taken, rest) = part.split_at(part.len().min(BYTES_MAX - self.length));
        self.bytes[self.length..self.length + taken.len()].copy_from_slice(taken);
        self.length += taken.len();
        rest
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == BYTES_MAX
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }
}
