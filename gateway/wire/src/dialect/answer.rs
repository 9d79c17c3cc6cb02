//! What an answer that is one JSON text says about itself.

use super::event;
use super::layout::{Member, RESPONSE_ID_BYTES_MAX};
use super::usage::Counts;
use super::{Dialect, Usage};
use crate::json::{Found, JsonScan};

/// Members are captured as far as they can be counts or an identifier with its quotes.
const MEMBER_BYTES_MAX: usize = RESPONSE_ID_BYTES_MAX + 2;

/// Reads a plain JSON answer as it passes.
#[derive(Debug)]
pub struct AnswerObserver {
    dialect: Dialect,
    bytes: u64,
    json: JsonScan,
}

impl AnswerObserver {
    /// An observer.
    pub fn new(dialect: Dialect, depth_max: usize) -> Self {
        Self {
            dialect,
            bytes: 0,
            json: JsonScan::new(dialect.document_layout().paths, depth_max, MEMBER_BYTES_MAX),
        }
    }

    /// Observes the next payload bytes.
    pub fn observe(&mut self, payload: &[u8]) {
        self.bytes += payload.len() as u64;
        // From an answer that is not JSON nothing is concluded; the scan keeps the error.
        let _ = self.json.feed(payload);
    }

    /// The usage, once the answer is complete.
    pub fn usage(&self) -> Option<Usage> {
        let is_read = self.json.is_complete();
        let counts = is_read
            .then(|| Counts::found(&self.dialect.document_layout(), &self.json))
            .flatten();
        counts.map(|counts| counts.usage(self.dialect))
    }

    /// About how many tokens the provider has written so far, for answers that are cut: a token is about four bytes.
    pub fn estimated_output_tokens(&self) -> u64 {
        self.bytes / event::TEXT_BYTES_PER_TOKEN
    }

    /// The identifier of a response of the Responses API, once the answer is complete.
    pub fn response_id(&self) -> Option<&str> {
        if !self.json.is_complete() {
            return None;
        }
        let layout = self.dialect.document_layout();
        let mut found = layout.found(&self.json, Member::DocumentId);
        found.find_map(Found::as_plain_str)
    }
}
