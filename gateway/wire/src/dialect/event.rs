//! What single events of a stream mean.

use super::Dialect;
use super::layout::{Layout, Member};
use crate::json::{Found, JsonScan};
use memchr::memmem::Finder;
use std::sync::LazyLock;

/// What the data of Anthropic's `content_block_delta` has around the text, whichever kind of delta it is.
const CONTENT_BLOCK_DELTA_BYTES: u64 = 90;

/// What an event does to the stream that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It carries no output.
    Preamble,
    Output,
    /// Output, with the end of one of the candidates. How many there are, no event tells.
    Finished,
    Completed,
    Failed,
}

/// What is read of an event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// The identifier of the response, unless it is known.
    Id,
    /// Token counts, or what failed.
    All,
}

/// How many tokens an event is taken for as long as the provider has not counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    None,
    One,
    /// A token is about four bytes of text. What is around the text in the event's data is taken off.
    OfText {
        besides_bytes: u64,
    },
    /// A token for so many bytes of data, because nobody knows what of it is text.
    OfData {
        bytes_per_token: u64,
    },
}

/// What a token of text is taken for.
pub(super) const TEXT_BYTES_PER_TOKEN: u64 = 4;

impl Share {
    pub(super) fn tokens(self, data_bytes: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::OfText { besides_bytes } => {
                (data_bytes.saturating_sub(besides_bytes) / TEXT_BYTES_PER_TOKEN).max(1)
            }
            Self::OfData { bytes_per_token } => data_bytes / bytes_per_token,
        }
    }
}

/// What an event of a named type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) effect: Effect,
    pub(super) wanted: Wanted,
    pub(super) share: Share,
}

impl Dialect {
    /// Events say of which type they are.
    pub(super) fn has_event_types(self) -> bool {
        matches!(self, Self::Responses | Self::Messages)
    }

    /// What an event of this type means. Unknown types count as output: a retry must not repeat any.
    pub(super) fn meaning(self, event_type: &[u8]) -> Meaning {
        let (effect, wanted) = match (self, event_type) {
            (_, b"error") => (Effect::Failed, Wanted::All),
            (
                Self::Responses,
                b"response.created" | b"response.in_progress" | b"response.queued",
            ) => (Effect::Preamble, Wanted::Id),
            (Self::Responses, b"keepalive") | (Self::Messages, b"ping") => {
                (Effect::Preamble, Wanted::Nothing)
            }
            // What Codex's backend says about limits and headers, before the answer and in it.
            (Self::Responses, _) if event_type.starts_with(b"codex.") => {
                (Effect::Preamble, Wanted::Nothing)
            }
            (Self::Responses, b"response.completed" | b"response.incomplete") => {
                (Effect::Completed, Wanted::All)
            }
            (Self::Responses, b"response.failed") => (Effect::Failed, Wanted::All),
            (Self::Messages, b"message_start") => (Effect::Preamble, Wanted::All),
            (Self::Messages, b"message_delta") => (Effect::Output, Wanted::All),
            (Self::Messages, b"message_stop") => (Effect::Completed, Wanted::Nothing),
            _ => (Effect::Output, Wanted::Nothing),
        };
        Meaning {
            effect,
            wanted,
            share: self.share(event_type),
        }
    }

    /// How many tokens an event of this type is taken for.
    fn share(self, event_type: &[u8]) -> Share {
        match (self, event_type) {
            // OpenAI sends the tokens one by one; of how many bytes an event is says less, because it is padded.
            (Self::Responses, _) if event_type.ends_with(b".delta") => Share::One,
            (Self::Messages, b"content_block_delta") => Share::OfText {
                besides_bytes: CONTENT_BLOCK_DELTA_BYTES,
            },
            _ => Share::None,
        }
    }

    /// How many tokens an output event without a type is taken for.
    pub(super) fn share_of_untyped(self) -> Share {
        match self {
            Self::ChatCompletions | Self::Opaque => Share::One,
            // Some of its events have a sentence, and all of them have counts behind it.
            Self::Gemini => Share::OfData { bytes_per_token: 8 },
            Self::Responses | Self::Messages => Share::None,
        }
    }
}

/// The type that the first bytes of an event's data name, if it is where all providers write it: in the first
/// member, without escapes.
pub(super) fn type_at_start(data: &[u8]) -> Option<&[u8]> {
    let after = |text: &'_ [u8], wanted: &[u8]| -> Option<usize> {
        let start = text.iter().position(|byte| !b" \t\r\n".contains(byte))?;
        text[start..]
            .starts_with(wanted)
            .then_some(start + wanted.len())
    };
    let mut rest = data;
    for wanted in [&b"{"[..], b"\"type\"", b":", b"\""] {
        rest = &rest[after(rest, wanted)?..];
    }
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    (rest[end] == b'"').then_some(&rest[..end])
}

/// Whether data may have an `error` or `usage` that is not null. Nearly all events of a Chat
/// stream have neither, and three searches cost a fraction of reading the JSON.
pub(super) fn may_have_error_or_usage(data: &[u8]) -> bool {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
    may_have_usage(data) || ERROR.find(data).is_some()
}

/// Whether data may have a `usage` that is not null. Keys could also be written with escapes, as `\u00XX`.
pub(super) fn may_have_usage(data: &[u8]) -> bool {
    static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
    static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));
    let is_not_null = |start: usize| !data[start..].starts_with(b":null");
    ESCAPE.find(data).is_some()
        || USAGE
            .find_iter(data)
            .any(|start| is_not_null(start + USAGE.needle().len()))
}

/// The effect of an event without a type, read to its end.
pub(super) fn effect_of_members(layout: &Layout, json: &JsonScan) -> Effect {
    let has = |member| layout.found(json, member).any(Found::is_not_null);
    if has(Member::Error) {
        Effect::Failed
    } else if has(Member::Completion) {
        Effect::Completed
    } else if has(Member::Finish) {
        Effect::Finished
    } else {
        Effect::Output
    }
}
