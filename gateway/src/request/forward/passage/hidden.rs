//! The chunk with the usage that the gateway alone has asked for: it is taken out of what the client is sent.

use super::{Parts, Ranges};
use relay_wire::dialect::{Passed, UsageChunkFilter};
use smallvec::SmallVec;
use std::io::IoSlice;

/// Looks for the chunk, and knows what of the buffers at hand is not of it.
pub(super) struct HiddenUsage {
    filter: UsageChunkFilter,
    /// With the buffer of which it is, counted from those that were sifted last.
    passed: SmallVec<[(usize, Passed); 4]>,
}

impl HiddenUsage {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Self {
            filter: UsageChunkFilter::new(),
            passed: SmallVec::new(),
        }
    }

    /// Finds out what of a buffer's payload goes on, and what of the buffers before it that was kept.
    pub(super) fn sift(&mut self, payload: &Ranges, bytes: &[u8], buffer: usize) {
        let Self { filter, passed } = self;
        for range in payload {
            filter.feed(&bytes[range.clone()], &mut |piece| {
                let piece = match piece {
                    Passed::Piece(place) => {
                        Passed::Piece(range.start + place.start..range.start + place.end)
                    }
                    kept @ Passed::Kept(_) => kept,
                };
                passed.push((buffer, piece));
            });
        }
    }

    /// Finds out what goes on of that which was kept, now that nothing more comes.
    pub(super) fn finish(&mut self) {
        let Self { filter, passed } = self;
        filter.finish(&mut |piece| passed.push((0, piece)));
    }

    /// How much goes on.
    pub(super) fn bytes(&self) -> usize {
        let lengths = self.passed.iter().map(|(_, piece)| match piece {
            Passed::Kept(place) | Passed::Piece(place) => place.len(),
        });
        lengths.sum()
    }

    /// What goes on, in order.
    pub(super) fn push_to<'l>(&'l self, parts: &mut Parts<'l>, buffers: &[&'l [u8]]) {
        parts.extend(self.passed.iter().map(|(buffer, piece)| match piece {
            Passed::Kept(place) => IoSlice::new(&self.filter.kept()[place.clone()]),
            Passed::Piece(place) => IoSlice::new(&buffers[*buffer][place.clone()]),
        }));
    }

    /// All of it has been sent.
    pub(super) fn forget(&mut self) {
        self.passed.clear();
        self.filter.forget_passed();
    }
}
