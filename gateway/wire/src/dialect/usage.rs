//! Token counts, put together from the members in which the providers write them.

use super::Dialect;
use super::layout::{Count, Layout, Member};
use crate::json::{Found, JsonScan};

/// No answer has so many tokens. A count that says so is taken for as many, so that sums of very many stay right.
const TOKENS_MAX: u64 = 1 << 40;

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
    tool_input: Option<u64>,
    cached: Option<u64>,
    cache_written: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    total: Option<u64>,
}

impl Counts {
    /// What was found in a text that has been read to its end; `None` if no token is counted.
    pub(super) fn found(layout: &Layout, json: &JsonScan) -> Option<Self> {
        let mut counts = Self::default();
        let sum = |found: &Found| (found.times > 0).then_some(found.sum);
        for index in json.found_paths() {
            let Member::Count(count) = layout.members[index].1 else {
                continue;
            };
            let found = json.found(index);
            let (place, counted) = match count {
                Count::Input => (&mut counts.input, found.as_u64()),
                Count::ToolInput => (&mut counts.tool_input, found.as_u64()),
                Count::Cached => (&mut counts.cached, found.as_u64()),
                Count::CacheWritten => (&mut counts.cache_written, found.as_u64()),
                Count::Output => (&mut counts.output, found.as_u64()),
                Count::Reasoning => (&mut counts.reasoning, found.as_u64()),
                Count::Total => (&mut counts.total, found.as_u64()),
                Count::EachInput => (&mut counts.input, sum(found)),
                Count::EachCached => (&mut counts.cached, sum(found)),
                Count::EachCacheWritten => (&mut counts.cache_written, sum(found)),
                Count::EachOutput => (&mut counts.output, sum(found)),
            };
            let counted = counted.map(|tokens| tokens.min(TOKENS_MAX));
            *place = match count {
                Count::EachInput
                | Count::EachCached
                | Count::EachCacheWritten
                | Count::EachOutput => counted.max(*place),
                _ => counted.or(*place),
            };
        }
        // The sum alone tells nothing.
        let nothing = Self {
            total: counts.total,
            ..Self::default()
        };
        (counts != nothing).then_some(counts)
    }

    /// What is known after `newer`, whose counts are totals and replace the ones that were there.
    pub(super) fn updated(self, newer: Self) -> Self {
        Self {
            input: newer.input.or(self.input),
            tool_input: newer.tool_input.or(self.tool_input),
            cached: newer.cached.or(self.cached),
            cache_written: newer.cache_written.or(self.cache_written),
            output: newer.output.or(self.output),
            reasoning: newer.reasoning.or(self.reasoning),
            total: newer.total.or(self.total),
        }
    }

    /// Tokens that were written are among them.
    pub(super) fn has_output(self) -> bool {
        self.output.is_some() || self.reasoning.is_some()
    }

    pub(super) fn usage(self, dialect: Dialect) -> Usage {
        let count = |count: Option<u64>| count.unwrap_or(0);
        let (input, output) = (count(self.input), count(self.output));
        let (cached_tokens, reasoning_tokens) = (count(self.cached), count(self.reasoning));
        let (input_besides, output_besides) = match dialect {
            // Neither cached nor newly cached tokens are among the input tokens.
            Dialect::Messages => (cached_tokens.saturating_add(count(self.cache_written)), 0),
            // Thoughts are not among the tokens of the candidates.
            Dialect::Gemini => (count(self.tool_input), reasoning_tokens),
            // With some of OpenAI's followers the tokens of reasoning come on top, which only the sum tells.
            Dialect::ChatCompletions | Dialect::Opaque
                if self.total == sum([input, output, reasoning_tokens]) =>
            {
                (0, reasoning_tokens)
            }
            Dialect::Responses | Dialect::ChatCompletions | Dialect::Opaque => (0, 0),
        };
        Usage {
            input_tokens: input.saturating_add(input_besides),
            cached_tokens,
            output_tokens: output.saturating_add(output_besides),
            reasoning_tokens,
        }
    }
}

fn sum(counts: [u64; 3]) -> Option<u64> {
    counts.into_iter().try_fold(0, u64::checked_add)
}
