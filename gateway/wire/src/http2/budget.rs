//! How many frames of one sort may come.

/// Parts of a frame, so that refilling needs no fractions.
const UNITS_PER_FRAME: u64 = 1000;

/// So many at once, and so many a second; what deserves it adds to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: u64,
    burst: u64,
    units_per_ms: u64,
}

impl Budget {
    pub(super) const fn new(burst_frames: u64, frames_per_second: u64) -> Self {
        let burst = burst_frames * UNITS_PER_FRAME;
        Self {
            left: burst,
            burst,
            // A thousand units a frame, a thousand milliseconds a second.
            units_per_ms: frames_per_second,
        }
    }

    /// Time has passed.
    pub(super) fn refill(&mut self, elapsed_ms: u64) {
        self.add(elapsed_ms.saturating_mul(self.units_per_ms));
    }

    pub(super) fn earn(&mut self, frames: u64) {
        self.add(frames.saturating_mul(UNITS_PER_FRAME));
    }

    /// One frame for so many bytes.
    pub(super) fn earn_for_bytes(&mut self, bytes: u64, bytes_per_frame: u64) {
        self.add(bytes.saturating_mul(UNITS_PER_FRAME) / bytes_per_frame);
    }

    /// Are there so many left?
    pub(super) fn spend(&mut self, frames: u64) -> bool {
        match self.left.checked_sub(frames * UNITS_PER_FRAME) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn add(&mut self, units: u64) {
        self.left = self.left.saturating_add(units).min(self.burst);
    }
}
