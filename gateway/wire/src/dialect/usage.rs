//! Token counts in the forms in which the providers write them.

use super::Dialect;
use crate::json::Path;
use serde_json::Value;

/// More than any provider needs to write its counts.
pub(super) const USAGE_BYTES_MAX: usize = 4096;

/// Tokens as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Of those, read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Of those, reasoning.
    pub reasoning_tokens: u64,
}

/// What one or more usage objects say, in the provider's own division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    input: Option<u64>,
    cached: Option<u64>,
    /// Only in Messages, where neither cached nor newly cached tokens are part of the input tokens.
    cache_written: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

impl Dialect {
    /// Where the answer that is one JSON text has its usage.
    pub(super) fn answer_usage_paths(self) -> &'static [Path] {
        match self {
            Self::Responses | Self::ChatCompletions | Self::Messages => &[&["usage"]],
            Self::Gemini => &[&["usageMetadata"]],
            Self::Opaque => &[&["usage"], &["response", "usage"]],
        }
    }
}

impl Counts {
    /// Reads a usage object; `None` if it is no object or counts nothing.
    pub(super) fn read(dialect: Dialect, raw: &[u8]) -> Option<Self> {
        let object: Value = serde_json::from_slice(raw).ok()?;
        let count = |name: &str| object.get(name).and_then(Value::as_u64);
        let detail = |group: &str, name: &str| object.get(group)?.get(name)?.as_u64();
        let responses = || Self {
            input: count("input_tokens"),
            cached: detail("input_tokens_details", "cached_tokens"),
            cache_written: None,
            output: count("output_tokens"),
            reasoning: detail("output_tokens_details", "reasoning_tokens"),
        };
        let chat = || Self {
            input: count("prompt_tokens"),
            cached: detail("prompt_tokens_details", "cached_tokens"),
            cache_written: None,
            output: count("completion_tokens"),
            reasoning: detail("completion_tokens_details", "reasoning_tokens"),
        };
        let counts = match dialect {
            Dialect::Responses => responses(),
            Dialect::ChatCompletions => chat(),
            Dialect::Opaque => Some(responses()).filter(Self::is_some).unwrap_or_else(chat),
            Dialect::Messages => Self {
                input: count("input_tokens"),
                cached: count("cache_read_input_tokens"),
                cache_written: count("cache_creation_input_tokens"),
                output: count("output_tokens"),
                reasoning: None,
            },
            Dialect::Gemini => {
                let (candidates, thoughts) =
                    (count("candidatesTokenCount"), count("thoughtsTokenCount"));
                Self {
                    input: count("promptTokenCount"),
                    cached: count("cachedContentTokenCount"),
                    cache_written: None,
                    output: candidates
                        .map(|tokens| tokens.saturating_add(thoughts.unwrap_or(0)))
                        .or(thoughts),
                    reasoning: thoughts,
                }
            }
        };
        counts.is_some().then_some(counts)
    }

    fn is_some(&self) -> bool {
        *self != Self::default()
    }

    /// What is known after `newer`, whose counts are totals and replace the ones that were there.
    pub(super) fn updated(self, newer: Self) -> Self {
        Self {
            input: newer.input.or(self.input),
            cached: newer.cached.or(self.cached),
            cache_written: newer.cache_written.or(self.cache_written),
            output: newer.output.or(self.output),
            reasoning: newer.reasoning.or(self.reasoning),
        }
    }

    pub(super) fn usage(self, dialect: Dialect) -> Usage {
        let cached_tokens = self.cached.unwrap_or(0);
        let input_tokens = self.input.unwrap_or(0);
        let besides = match dialect {
            Dialect::Messages => cached_tokens.saturating_add(self.cache_written.unwrap_or(0)),
            _ => 0,
        };
        Usage {
            input_tokens: input_tokens.saturating_add(besides),
            cached_tokens,
            output_tokens: self.output.unwrap_or(0),
            reasoning_tokens: self.reasoning.unwrap_or(0),
        }
    }
}
