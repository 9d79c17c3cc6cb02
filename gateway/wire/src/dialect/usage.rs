//! Token counts, put together from the members in which the providers write them.

use super::Dialect;
use super::layout::{Count, Layout, Member};
use crate::json::JsonScan;

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

/// The counts of one or more usage objects, in the provider's own division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    input: Option<u64>,
    cached: Option<u64>,
    cache_written: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
}

impl Counts {
    /// What was found in a text that has been read to its end; `None` if no token is counted.
    pub(super) fn found(layout: &Layout, json: &JsonScan) -> Option<Self> {
        let mut counts = Self::default();
        for (index, (_, member)) in layout.members.iter().enumerate() {
            let Member::Count(count) = member else {
                continue;
            };
            let place = match count {
                Count::Input => &mut counts.input,
                Count::Cached => &mut counts.cached,
                Count::CacheWritten => &mut counts.cache_written,
                Count::Output => &mut counts.output,
                Count::Reasoning => &mut counts.reasoning,
            };
            *place = json.found(index).as_u64().or(*place);
        }
        (counts != Self::default()).then_some(counts)
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

    /// Tokens that were written are among them.
    pub(super) fn has_output(self) -> bool {
        self.output.is_some() || self.reasoning.is_some()
    }

    pub(super) fn usage(self, dialect: Dialect) -> Usage {
        let count = |count: Option<u64>| count.unwrap_or(0);
        let (cached_tokens, reasoning_tokens) = (count(self.cached), count(self.reasoning));
        let (input_besides, output_besides) = match dialect {
            // Neither cached nor newly cached tokens are among the input tokens.
            Dialect::Messages => (cached_tokens.saturating_add(count(self.cache_written)), 0),
            // Thoughts are not among the tokens of the candidates.
            Dialect::Gemini => (0, reasoning_tokens),
            Dialect::Responses | Dialect::ChatCompletions | Dialect::Opaque => (0, 0),
        };
        Usage {
            input_tokens: count(self.input).saturating_add(input_besides),
            cached_tokens,
            output_tokens: count(self.output).saturating_add(output_besides),
            reasoning_tokens,
        }
    }
}
