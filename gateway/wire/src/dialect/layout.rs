//! Where the providers' JSON has what the gateway looks for, in streamed events and in plain answers.

use super::Dialect;
use crate::json::{EVERY_ITEM, Path};

/// What a member tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The type of the event.
    Type,
    /// If it is not null: something failed.
    Error,
    /// If it is not null: the answer is complete.
    Completion,
    Count(Count),
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Input,
    Cached,
    CacheWritten,
    Output,
    Reasoning,
}

/// The members of one dialect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) members: &'static [(Path, Member)],
    /// The paths alone, in the same order.
    pub(super) paths: &'static [Path],
}

impl Dialect {
    pub(super) fn layout(self) -> Layout {
        static RESPONSES_PATHS: [Path; RESPONSES.len()] = paths(&RESPONSES);
        static CHAT_PATHS: [Path; CHAT.len()] = paths(&CHAT);
        static MESSAGES_PATHS: [Path; MESSAGES.len()] = paths(&MESSAGES);
        static GEMINI_PATHS: [Path; GEMINI.len()] = paths(&GEMINI);
        static OPAQUE_PATHS: [Path; OPAQUE.len()] = paths(&OPAQUE);
        match self {
            Self::Responses => Layout {
                members: &RESPONSES,
                paths: &RESPONSES_PATHS,
            },
            Self::ChatCompletions => Layout {
                members: &CHAT,
                paths: &CHAT_PATHS,
            },
            Self::Messages => Layout {
                members: &MESSAGES,
                paths: &MESSAGES_PATHS,
            },
            Self::Gemini => Layout {
                members: &GEMINI,
                paths: &GEMINI_PATHS,
            },
            Self::Opaque => Layout {
                members: &OPAQUE,
                paths: &OPAQUE_PATHS,
            },
        }
    }
}

impl Layout {
    /// The indices of the members that tell this.
    pub(super) fn indices_of(&self, wanted: Member) -> impl Iterator<Item = usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(move |(_, (_, member))| *member == wanted)
            .map(|(index, _)| index)
    }
}

const fn paths<const COUNT: usize>(members: &[(Path, Member); COUNT]) -> [Path; COUNT] {
    let mut paths: [Path; COUNT] = [&[]; COUNT];
    let mut index = 0;
    while index < COUNT {
        paths[index] = members[index].0;
        index += 1;
    }
    paths
}

/// Events have the answer in `response`.
const RESPONSES: [(Path, Member); 9] = [
    (&["type"], Member::Type),
    (
        &["response", "usage", "input_tokens"],
        Member::Count(Count::Input),
    ),
    (
        &["response", "usage", "input_tokens_details", "cached_tokens"],
        Member::Count(Count::Cached),
    ),
    (
        &["response", "usage", "output_tokens"],
        Member::Count(Count::Output),
    ),
    (
        &[
            "response",
            "usage",
            "output_tokens_details",
            "reasoning_tokens",
        ],
        Member::Count(Count::Reasoning),
    ),
    (&["usage", "input_tokens"], Member::Count(Count::Input)),
    (
        &["usage", "input_tokens_details", "cached_tokens"],
        Member::Count(Count::Cached),
    ),
    (&["usage", "output_tokens"], Member::Count(Count::Output)),
    (
        &["usage", "output_tokens_details", "reasoning_tokens"],
        Member::Count(Count::Reasoning),
    ),
];

const CHAT: [(Path, Member); 5] = [
    (&["error"], Member::Error),
    (&["usage", "prompt_tokens"], Member::Count(Count::Input)),
    (
        &["usage", "prompt_tokens_details", "cached_tokens"],
        Member::Count(Count::Cached),
    ),
    (
        &["usage", "completion_tokens"],
        Member::Count(Count::Output),
    ),
    (
        &["usage", "completion_tokens_details", "reasoning_tokens"],
        Member::Count(Count::Reasoning),
    ),
];

/// The first event has the answer in `message`, later ones have what changes in it.
const MESSAGES: [(Path, Member); 9] = [
    (&["type"], Member::Type),
    (
        &["message", "usage", "input_tokens"],
        Member::Count(Count::Input),
    ),
    (
        &["message", "usage", "cache_read_input_tokens"],
        Member::Count(Count::Cached),
    ),
    (
        &["message", "usage", "cache_creation_input_tokens"],
        Member::Count(Count::CacheWritten),
    ),
    (
        &["message", "usage", "output_tokens"],
        Member::Count(Count::Output),
    ),
    (&["usage", "input_tokens"], Member::Count(Count::Input)),
    (
        &["usage", "cache_read_input_tokens"],
        Member::Count(Count::Cached),
    ),
    (
        &["usage", "cache_creation_input_tokens"],
        Member::Count(Count::CacheWritten),
    ),
    (&["usage", "output_tokens"], Member::Count(Count::Output)),
];

const GEMINI: [(Path, Member); 7] = [
    (&["error"], Member::Error),
    (
        &["candidates", EVERY_ITEM, "finishReason"],
        Member::Completion,
    ),
    // A refused prompt has no candidates, and nothing follows.
    (&["promptFeedback", "blockReason"], Member::Completion),
    (
        &["usageMetadata", "promptTokenCount"],
        Member::Count(Count::Input),
    ),
    (
        &["usageMetadata", "cachedContentTokenCount"],
        Member::Count(Count::Cached),
    ),
    (
        &["usageMetadata", "candidatesTokenCount"],
        Member::Count(Count::Output),
    ),
    (
        &["usageMetadata", "thoughtsTokenCount"],
        Member::Count(Count::Reasoning),
    ),
];

/// Usage in either of OpenAI's forms.
const OPAQUE: [(Path, Member); 13] = [
    CHAT[0],
    CHAT[1],
    CHAT[2],
    CHAT[3],
    CHAT[4],
    RESPONSES[1],
    RESPONSES[2],
    RESPONSES[3],
    RESPONSES[4],
    RESPONSES[5],
    RESPONSES[6],
    RESPONSES[7],
    RESPONSES[8],
];
