//! Where the providers' JSON has what the gateway looks for, in streamed events and in plain answers.

use super::Dialect;
use crate::json::{EVERY_ITEM, Found, JsonScan, Path, Paths};

/// What a member tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The type of the event.
    Type,
    /// If it is not null: something failed.
    Error,
    /// If it is not null: the answer is complete.
    Completion,
    /// If it is not null: a part of the answer is complete, and others may follow.
    Finish,
    Count(Count),
    /// What kind of failure it is, in the provider's words; the most telling ones come first.
    ErrorCode,
    /// When a failure is over, in seconds since 1970 began.
    ResetsAt,
    /// In how many seconds a failure is over.
    ResetsAfter,
    /// Of an event: the identifier of the response.
    ResponseId,
    /// Of an event: the model that answers.
    ResponseModel,
    /// Of an answer that is one document: its identifier.
    DocumentId,
}

/// Longer identifiers of responses are not remembered.
pub(super) const RESPONSE_ID_BYTES_MAX: usize = 256;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Input,
    Cached,
    CacheWritten,
    Output,
    Reasoning,
    /// Of the results of Google's own tools, which the model reads besides the prompt.
    ToolInput,
    /// All of them together.
    Total,
    /// The same in the steps that Anthropic lists one by one; what counts is their sum.
    EachInput,
    EachCached,
    EachCacheWritten,
    EachOutput,
}

/// The members of one dialect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) members: &'static [(Path, Member)],
    /// Where they are, in the same order.
    pub(super) paths: &'static Paths,
}

impl Dialect {
    pub(super) fn layout(self) -> Layout {
        static RESPONSES_PATHS: Paths = paths(&RESPONSES);
        static CHAT_PATHS: Paths = paths(&CHAT);
        static MESSAGES_PATHS: Paths = paths(&MESSAGES);
        static GEMINI_PATHS: Paths = paths(&GEMINI);
        static OPAQUE_PATHS: Paths = paths(&OPAQUE);
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

impl Dialect {
    /// The layout of an answer that is one document.
    pub(super) fn document_layout(self) -> Layout {
        static GEMINI_PATHS: Paths = paths(&GEMINI_DOCUMENT);
        match self {
            Self::Gemini => Layout {
                members: &GEMINI_DOCUMENT,
                paths: &GEMINI_PATHS,
            },
            _ => self.layout(),
        }
    }
}

impl Layout {
    /// What was found of the members that tell this.
    pub(super) fn found<'j>(
        &self,
        json: &'j JsonScan,
        wanted: Member,
    ) -> impl Iterator<Item = &'j Found> {
        let found = json.found_paths();
        found
            .filter(move |&index| self.members[index].1 == wanted)
            .map(|index| json.found(index))
    }
}

const fn paths<const COUNT: usize>(members: &[(Path, Member); COUNT]) -> Paths {
    let mut paths: [Path; COUNT] = [&[]; COUNT];
    let mut index = 0;
    while index < COUNT {
        paths[index] = members[index].0;
        index += 1;
    }
    Paths::new(&paths)
}

/// Events have the answer in `response`.
const RESPONSES: [(Path, Member); 21] = [
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
    (&["response", "id"], Member::ResponseId),
    (&["response", "model"], Member::ResponseModel),
    (&["id"], Member::DocumentId),
    (&["response", "error", "code"], Member::ErrorCode),
    (&["error", "code"], Member::ErrorCode),
    (&["code"], Member::ErrorCode),
    (&["response", "error", "type"], Member::ErrorCode),
    (&["error", "type"], Member::ErrorCode),
    (&["response", "error", "resets_at"], Member::ResetsAt),
    (&["error", "resets_at"], Member::ResetsAt),
    (
        &["response", "error", "resets_in_seconds"],
        Member::ResetsAfter,
    ),
    (&["error", "resets_in_seconds"], Member::ResetsAfter),
];

const CHAT: [(Path, Member); 11] = [
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
    (&["usage", "total_tokens"], Member::Count(Count::Total)),
    (&["error", "code"], Member::ErrorCode),
    (&["code"], Member::ErrorCode),
    (&["error", "type"], Member::ErrorCode),
    (&["error", "resets_at"], Member::ResetsAt),
    (&["error", "resets_in_seconds"], Member::ResetsAfter),
];

/// The first event has the answer in `message`, later ones have what changes in it.
const MESSAGES: [(Path, Member); 15] = [
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
    (
        &["usage", "output_tokens_details", "thinking_tokens"],
        Member::Count(Count::Reasoning),
    ),
    // Where the provider has made the context compact on the way, the counts above are without the tokens of that.
    (
        &["usage", "iterations", EVERY_ITEM, "input_tokens"],
        Member::Count(Count::EachInput),
    ),
    (
        &["usage", "iterations", EVERY_ITEM, "cache_read_input_tokens"],
        Member::Count(Count::EachCached),
    ),
    (
        &[
            "usage",
            "iterations",
            EVERY_ITEM,
            "cache_creation_input_tokens",
        ],
        Member::Count(Count::EachCacheWritten),
    ),
    (
        &["usage", "iterations", EVERY_ITEM, "output_tokens"],
        Member::Count(Count::EachOutput),
    ),
    (&["error", "type"], Member::ErrorCode),
];

const GEMINI: [(Path, Member); 11] = [
    (&["error"], Member::Error),
    (&["candidates", EVERY_ITEM, "finishReason"], Member::Finish),
    // A refused prompt has no candidates, and nothing follows.
    (&["promptFeedback", "blockReason"], Member::Completion),
    (
        &["usageMetadata", "promptTokenCount"],
        Member::Count(Count::Input),
    ),
    (
        &["usageMetadata", "toolUsePromptTokenCount"],
        Member::Count(Count::ToolInput),
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
    (&["error", "code"], Member::ErrorCode),
    (&["error", "status"], Member::ErrorCode),
    (RETRY_DELAY, Member::ResetsAfter),
];

/// A stream that was not asked for as events (`alt=sse`) is an array of what would be their data.
const GEMINI_DOCUMENT: [(Path, Member); 10] = [
    GEMINI[3],
    GEMINI[4],
    GEMINI[5],
    GEMINI[6],
    GEMINI[7],
    (
        &[EVERY_ITEM, "usageMetadata", "promptTokenCount"],
        Member::Count(Count::Input),
    ),
    (
        &[EVERY_ITEM, "usageMetadata", "toolUsePromptTokenCount"],
        Member::Count(Count::ToolInput),
    ),
    (
        &[EVERY_ITEM, "usageMetadata", "cachedContentTokenCount"],
        Member::Count(Count::Cached),
    ),
    (
        &[EVERY_ITEM, "usageMetadata", "candidatesTokenCount"],
        Member::Count(Count::Output),
    ),
    (
        &[EVERY_ITEM, "usageMetadata", "thoughtsTokenCount"],
        Member::Count(Count::Reasoning),
    ),
];

/// Where Google has its `RetryInfo`.
const RETRY_DELAY: Path = &["error", "details", EVERY_ITEM, "retryDelay"];

/// Usage in either of OpenAI's forms.
const OPAQUE: [(Path, Member); 19] = [
    CHAT[0],
    CHAT[1],
    CHAT[2],
    CHAT[3],
    CHAT[4],
    CHAT[5],
    CHAT[6],
    CHAT[7],
    CHAT[8],
    CHAT[9],
    CHAT[10],
    RESPONSES[1],
    RESPONSES[2],
    RESPONSES[3],
    RESPONSES[4],
    RESPONSES[5],
    RESPONSES[6],
    RESPONSES[7],
    RESPONSES[8],
];

/// Error answers, whoever they are from.
pub(super) static ERROR_BODY: Layout = Layout {
    members: &ERROR_MEMBERS,
    paths: &ERROR_PATHS,
};
static ERROR_PATHS: Paths = paths(&ERROR_MEMBERS);
const ERROR_MEMBERS: [(Path, Member); 11] = [
    (&["error", "code"], Member::ErrorCode),
    // The backend of ChatGPT has some of its errors in `detail`.
    (&["detail", "code"], Member::ErrorCode),
    (&["code"], Member::ErrorCode),
    (&["error", "type"], Member::ErrorCode),
    (&["error", "status"], Member::ErrorCode),
    (&["type"], Member::ErrorCode),
    (&["error", "resets_at"], Member::ResetsAt),
    (&["resets_at"], Member::ResetsAt),
    (&["error", "resets_in_seconds"], Member::ResetsAfter),
    (&["resets_in_seconds"], Member::ResetsAfter),
    (RETRY_DELAY, Member::ResetsAfter),
];
