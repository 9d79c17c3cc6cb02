//! The providers' dialects: which paths speak them, how their streams begin, carry usage and end.

use crate::json::JsonError;

/// A family of request and answer forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Responses: `/v1/responses`…
    Responses,
    /// OpenAI Chat Completions: `/v1/chat/completions`.
    ChatCompletions,
    /// Anthropic Messages: `/v1/messages`.
    Messages,
    /// Google Gemini: `/v1beta/models/MODEL:METHOD`.
    Gemini,
    /// Anything else: relayed, with usage read where it has OpenAI's form.
    Opaque,
}

impl Dialect {
    /// All of them, for tables (metrics labels come from this closed set).
    pub const ALL: [Dialect; 5] = [
        Dialect::Responses,
        Dialect::ChatCompletions,
        Dialect::Messages,
        Dialect::Gemini,
        Dialect::Opaque,
    ];

    /// The dialect of a request path (without query).
    pub fn of_path(path: &[u8]) -> Self {
        todo!("{path:?}")
    }

    /// A name for logs and metric labels: `responses`, `chat_completions`, `messages`, `gemini`, `opaque`.
    pub fn as_str(self) -> &'static str {
        todo!()
    }

    /// The model named in the path (Gemini), percent-encoding not decoded: `None` if there is none or it has `%`.
    pub fn model_in_path(self, path: &[u8]) -> Option<&str> {
        todo!("{path:?}")
    }

    /// An event that tells the client that the stream broke, where the dialect has one: complete SSE bytes with the final empty line.
    pub fn broken_stream_event(self, message: &str, request_id: &str) -> Option<Vec<u8>> {
        todo!("{message} {request_id}")
    }

    /// A data event that clients of this dialect ignore, to be sent while the upstream is silent.
    pub fn heartbeat(self) -> Option<&'static [u8]> {
        todo!()
    }
}

/// What the gateway wants to know of a request body.
#[derive(Debug)]
pub struct RequestScan {
    _todo: (),
}

/// Encodings of a request body that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ContentCoding {
    Identity,
    Gzip,
    Zstd,
}

/// Why nothing can be concluded from a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ScanError {
    Json(JsonError),
    /// The compressed data is damaged, or needs a window of more than 8 MiB.
    Compression,
    /// Decoded, the body exceeds the limit.
    DecodedTooLarge,
    /// `model` is there twice, or is not a string.
    AmbiguousModel,
}

impl RequestScan {
    /// A scan of a body in this coding, decoding at most `decoded_bytes_max` bytes.
    pub fn new(coding: ContentCoding, depth_max: usize, decoded_bytes_max: u64) -> Self {
        todo!("{coding:?} {depth_max} {decoded_bytes_max}")
    }
    /// Scans the next piece of the body as it is on the wire. The first error sticks.
    ///
    /// # Errors
    /// See `ScanError`.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        todo!("{piece:?}")
    }
    /// The body is over.
    ///
    /// # Errors
    /// It was not a complete JSON object, or one of the earlier errors.
    pub fn finish(&mut self) -> Result<(), ScanError> {
        todo!()
    }
    /// `model`, unescaped.
    pub fn model(&self) -> Option<&str> {
        todo!()
    }
    /// `stream`, false if it is not there.
    pub fn stream(&self) -> bool {
        todo!()
    }
    /// `prompt_cache_key`.
    pub fn prompt_cache_key(&self) -> Option<&str> {
        todo!()
    }
}

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

/// How a stream says that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The answer is complete (`response.completed`, `[DONE]`, `message_stop`, Gemini's `finishReason`), or ended as the
    /// provider meant it to (`response.incomplete`).
    Completed,
    /// The provider reported a failure in the stream (`response.failed`, `error`).
    Failed,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No event yet.
    Silent,
    /// Events that carry no output (`response.created`, `response.in_progress`, `message_start`, `ping`).
    Preamble,
    /// At least one output event was seen: from here on a retry could repeat output.
    Output,
}

/// Reads a streamed answer as it passes.
#[derive(Debug)]
pub struct StreamObserver {
    _todo: (),
}

impl StreamObserver {
    /// An observer. Events longer than `event_bytes_max` are counted but not read.
    pub fn new(dialect: Dialect, event_bytes_max: u64) -> Self {
        todo!("{dialect:?} {event_bytes_max}")
    }
    /// Observes the next payload bytes. Allocates nothing for events that carry no usage.
    pub fn observe(&mut self, payload: &[u8]) {
        todo!("{payload:?}")
    }
    /// Events with data so far.
    pub fn events(&self) -> u64 {
        todo!()
    }
    /// Between two events.
    pub fn at_boundary(&self) -> bool {
        todo!()
    }
    /// How far the stream has come.
    pub fn progress(&self) -> Progress {
        todo!()
    }
    /// How the stream said that it is over, if it did.
    pub fn terminal(&self) -> Option<Terminal> {
        todo!()
    }
    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        todo!()
    }
}

/// Reads a plain JSON answer as it passes.
#[derive(Debug)]
pub struct AnswerObserver {
    _todo: (),
}

impl AnswerObserver {
    /// An observer.
    pub fn new(dialect: Dialect, depth_max: usize) -> Self {
        todo!("{dialect:?} {depth_max}")
    }
    /// Observes the next payload bytes.
    pub fn observe(&mut self, payload: &[u8]) {
        todo!("{payload:?}")
    }
    /// The usage, once seen.
    pub fn usage(&self) -> Option<Usage> {
        todo!()
    }
}
