//! The usage in an answer that is one JSON text.

use super::usage::Counts;
use super::{Dialect, Usage};
use crate::json::JsonScan;

/// Members are captured only as far as they can be counts.
const COUNT_BYTES_MAX: usize = 32;

/// Reads a plain JSON answer as it passes.
#[derive(Debug)]
pub struct AnswerObserver {
    dialect: Dialect,
    json: JsonScan,
}

impl AnswerObserver {
    /// An observer.
    pub fn new(dialect: Dialect, depth_max: usize) -> Self {
        Self {
            dialect,
            json: JsonScan::new(dialect.layout().paths, depth_max, COUNT_BYTES_MAX),
        }
    }

    /// Observes the next payload bytes.
    pub fn observe(&mut self, payload: &[u8]) {
        // From an answer that is not JSON nothing is concluded; the scan keeps the error.
        let _ = self.json.feed(payload);
    }

    /// The usage, once the answer is complete.
    pub fn usage(&self) -> Option<Usage> {
        let is_read = self.json.is_complete();
        let counts = is_read
            .then(|| Counts::found(&self.dialect.layout(), &self.json))
            .flatten();
        counts.map(|counts| counts.usage(self.dialect))
    }
}
