//! The providers' dialects: which paths speak them, how their streams begin, carry usage and end.

mod answer;
mod decode;
mod event;
mod layout;
mod messages;
mod report;
mod request;
mod start;
mod stream;
#[cfg(test)]
mod tests;
mod usage;
mod usage_chunk;

pub use answer::AnswerObserver;
pub use messages::{MessageObserver, Told};
pub use report::{ErrorKind, ErrorReport, ErrorScan};
pub use request::{ContentCoding, RequestScan, ScanError};
pub use stream::{Progress, Seen, StreamObserver, Terminal};
pub use usage::Usage;
pub use usage_chunk::{Edit, Passed, UsageChunkFilter};

use serde_json::json;

/// A family of request and answer forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Responses: `/v1/responses`…
    Responses,
    /// OpenAI Chat Completions: `/v1/chat/completions`.
    ChatCompletions,
    /// Anthropic Messages: `/v1/messages`.
    Messages,
    /// Google Gemini: `/v1beta/models/MODEL:METHOD`, and the same below `/v1alpha` and `/v1`.
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

    /// The dialect of a request path (without query). Paths of OpenAI's and Anthropic's count with and without
    /// their `/v1`, because base URLs are configured either way.
    pub fn of_path(path: &[u8]) -> Self {
        let unversioned = path.strip_prefix(b"/v1").unwrap_or(path);
        if is_at_or_below(unversioned, b"/responses") {
            Self::Responses
        } else if unversioned == b"/chat/completions" {
            Self::ChatCompletions
        } else if is_at_or_below(unversioned, b"/messages") {
            Self::Messages
        } else if gemini_model(path).is_some() {
            Self::Gemini
        } else {
            Self::Opaque
        }
    }

    /// A name for logs and metric labels: `responses`, `chat_completions`, `messages`, `gemini`, `opaque`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Responses => "responses",
            Self::ChatCompletions => "chat_completions",
            Self::Messages => "messages",
            Self::Gemini => "gemini",
            Self::Opaque => "opaque",
        }
    }

    /// The model named in the path (Gemini), percent-encoding not decoded: `None` if there is none or it has `%`.
    pub fn model_in_path(self, path: &[u8]) -> Option<&str> {
        if self != Self::Gemini {
            return None;
        }
        let model = gemini_model(path).filter(|model| !model.contains(&b'%'))?;
        std::str::from_utf8(model).ok()
    }

    /// An event that tells the client why the stream ends here, where the dialect has one: complete SSE bytes with the final
    /// empty line. `param`: the member of the request that it is about.
    pub fn error_event(
        self,
        code: &str,
        message: &str,
        param: Option<&str>,
        request_id: &str,
    ) -> Option<Vec<u8>> {
        let (event_line, data) = match self {
            Self::Responses => (
                "event: error\n",
                json!({
                    "type": "error", "code": code, "message": message, "param": param,
                    "request_id": request_id,
                }),
            ),
            Self::ChatCompletions => (
                "",
                json!({
                    "error": {
                        "message": message, "type": "server_error", "code": code, "param": param,
                        "request_id": request_id,
                    },
                }),
            ),
            Self::Messages => (
                "event: error\n",
                json!({
                    "type": "error",
                    "error": { "type": "api_error", "code": code, "message": message },
                    "request_id": request_id,
                }),
            ),
            Self::Gemini | Self::Opaque => return None,
        };
        // JSON written without indentation has no line break that could end the data line.
        Some(format!("{event_line}data: {data}\n\n").into_bytes())
    }

    /// A data event that clients of this dialect ignore, to be sent while the upstream is silent.
    pub fn heartbeat(self) -> Option<&'static [u8]> {
        match self {
            Self::Responses => Some(b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
            Self::Messages => Some(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Self::ChatCompletions | Self::Gemini | Self::Opaque => None,
        }
    }
}

fn is_at_or_below(path: &[u8], resource: &[u8]) -> bool {
    path.strip_prefix(resource)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// MODEL of `/v1beta/models/MODEL:METHOD`, or of `/v1alpha`. OpenAI too has models with a colon below `/v1/models`, so there the
/// method has to be one of Gemini's.
fn gemini_model(path: &[u8]) -> Option<&[u8]> {
    const METHODS: [&[u8]; 5] = [
        b"generateContent",
        b"streamGenerateContent",
        b"countTokens",
        b"embedContent",
        b"batchEmbedContents",
    ];
    let own = [&b"/v1beta/models/"[..], b"/v1alpha/models/"];
    let (rest, any_method) = match own.into_iter().find_map(|own| path.strip_prefix(own)) {
        Some(rest) => (rest, true),
        None => (path.strip_prefix(b"/v1/models/")?, false),
    };
    let colon = rest.iter().rposition(|&byte| byte == b':')?;
    let (model, method) = (&rest[..colon], &rest[colon + 1..]);
    let is_method = !method.is_empty() && (any_method || METHODS.contains(&method));
    (is_method && !model.is_empty() && !rest.contains(&b'/')).then_some(model)
}
