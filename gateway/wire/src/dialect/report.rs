//! What a provider's report of a failure says: of which kind it is, and when it is over.

use super::layout::{ERROR_BODY, Layout, Member};
use crate::json::{Found, JsonScan};
use std::time::Duration;

/// Codes are short; of what is longer only the beginning is kept, which is none.
const MEMBER_BYTES_MAX: usize = 64;

/// What is over later than this is not meant as a time (JSON numbers may be anything).
const RESET_SECONDS_MAX: f64 = 1e11;

/// What a failure means for whoever asked, as far as the provider's code tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The provider is overloaded, or failed: another moment or another account may do better.
    Overloaded,
    /// The account asks too often.
    RateLimited,
    /// What the account may use is used up.
    QuotaExhausted,
    /// Anything else, mostly the request's own mistake.
    #[default]
    Other,
}

impl ErrorKind {
    /// What a code means, whichever of the providers uses it; `None` if it does not tell.
    fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "server_is_overloaded"
            | "slow_down"
            | "server_error"
            | "overloaded_error"
            | "api_error"
            | "UNAVAILABLE"
            | "INTERNAL"
            | "500"
            | "502"
            | "503"
            | "529" => Self::Overloaded,
            "rate_limit_exceeded"
            | "rate_limit_error"
            | "too_many_requests"
            | "RESOURCE_EXHAUSTED"
            | "429" => Self::RateLimited,
            "insufficient_quota"
            | "usage_limit_reached"
            | "usage_not_included"
            | "quota_exceeded"
            | "billing_hard_limit_reached"
            | "billing_not_active"
            | "billing_error"
            | "402" => Self::QuotaExhausted,
            _ => return None,
        })
    }
}

/// A provider's report of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    /// Of which kind it is.
    pub kind: ErrorKind,
    /// When it is over, in time since 1970 began.
    pub resets_at: Option<Duration>,
    /// How long it lasts from now on.
    pub resets_after: Option<Duration>,
}

impl ErrorReport {
    /// What was found so far.
    pub(super) fn found(layout: &Layout, json: &JsonScan) -> Self {
        let of = |wanted| layout.found(json, wanted);
        Self {
            kind: of(Member::ErrorCode)
                .find_map(|found| ErrorKind::of_code(text(found)?))
                .unwrap_or_default(),
            resets_at: of(Member::ResetsAt).find_map(|found| seconds(text(found)?)),
            resets_after: of(Member::ResetsAfter).find_map(|found| {
                let told = text(found)?;
                // Google writes durations with their unit (`google.protobuf.Duration`).
                seconds(told.strip_suffix('s').unwrap_or(told))
            }),
        }
    }
}

/// A string without its quotes, or a number as it is written.
fn text(found: &Found) -> Option<&str> {
    let number = || {
        let raw = std::str::from_utf8(&found.raw).ok()?;
        let is_whole = found.complete && !found.truncated;
        (is_whole && raw.starts_with(|first: char| first.is_ascii_digit())).then_some(raw)
    };
    found.as_plain_str().or_else(number)
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..RESET_SECONDS_MAX)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

/// Reads the body of an error answer, in the forms of OpenAI, Anthropic and Google. Where it breaks off, what has come counts:
/// it is a hint, and nobody else reads it.
#[derive(Debug)]
pub struct ErrorScan {
    json: JsonScan,
}

impl ErrorScan {
    /// A scan that looks into so many nested arrays and objects.
    pub fn new(depth_max: usize) -> Self {
        Self {
            json: JsonScan::new(ERROR_BODY.paths, depth_max, MEMBER_BYTES_MAX),
        }
    }

    /// Observes the next payload bytes.
    pub fn observe(&mut self, payload: &[u8]) {
        // From what is not JSON nothing is concluded; the scan keeps the error.
        let _ = self.json.feed(payload);
    }

    /// What it says so far.
    pub fn report(&self) -> ErrorReport {
        if self.json.is_broken() {
            return ErrorReport::default();
        }
        ErrorReport::found(&ERROR_BODY, &self.json)
    }
}
