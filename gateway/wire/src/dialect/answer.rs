//! The usage in an answer that is one JSON text.

use super::usage::{Counts, USAGE_BYTES_MAX};
use super::{Dialect, Usage};
use crate::json::JsonScan;

/// Reads a plain JSON answer as it passes.
#[derive(Debug)]
pub struct AnswerObserver {
    dialect: Dialect,
    scan: JsonScan,
}

impl AnswerObserver {
    /// An observer.
    pub fn new(dialect: Dialect, depth_max: usize) -> Self {
        let paths = dialect.answer_usage_paths();
        Self {
            dialect,
            scan: JsonScan::new(paths, depth_max, USAGE_BYTES_MAX),
        }
    }

    /// Observes the next payload bytes.
    pub fn observe(&mut self, payload: &[u8]) {
        // From a text that is not JSON nothing is concluded; the scan keeps the error.
        let _ = self.scan.feed(payload);
    }

    /// The usage, once the answer is complete.
    pub fn usage(&self) -> Option<Usage> {
        if !self.scan.is_complete() {
            return None;
        }
        let paths = 0..self.dialect.answer_usage_paths().len();
        let counts = paths.into_iter().find_map(|index| {
            let found = self.scan.found(index);
            Counts::read(self.dialect, &found.raw).filter(|_| !found.truncated)
        })?;
        Some(counts.usage(self.dialect))
    }
}
