//! A provider that plays a script: it speaks the dialects well enough for the official clients, and fails on request.
//!
//! The model name chooses what happens, so that every failure can be tried by hand (see [`Script`]). A prompt with a
//! line `run: COMMAND` is answered with a call of the client's shell tool, where it offers one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::{Extension, Router};
use futures_core::Stream;
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use self::ask::{Answer, Ask, Dialect};

mod ask;
mod chat;
mod messages;
mod responses;
mod socket;

/// Time between two events of a stream, about the pace of a real model.
const EVENT_PAUSE: Duration = Duration::from_millis(30);
/// `demo-long`: words and the time between them, together five minutes.
const LONG_WORDS: usize = 1_500;
const LONG_EVENT_PAUSE: Duration = Duration::from_millis(200);
/// `demo-slow`: silence before the answer.
const SLOW_START: Duration = Duration::from_secs(3);
/// `demo-break`: events before the connection is cut.
const BREAK_EVENTS: usize = 3;
/// Pieces of a body that may wait for a client that does not read.
const PIECES_WAITING_MAX: usize = 16;
/// More than the gateway lets through, so that its limit is the one that is met.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where the connection came from: the egress address.
    pub peer: SocketAddr,
    /// Index of the credential that it carried.
    pub account: usize,
    /// Method and target.
    pub line: String,
    /// All header fields.
    pub headers: HeaderMap,
}

/// What a model name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// An answer without incident.
    Answer,
    /// A rate limit, to be tried again after a second.
    RateLimited,
    /// An internal error.
    Failed,
    /// Overload, to be tried again after a second.
    Unavailable,
    /// Three seconds of silence: before the first event, or before the head of an answer in one piece.
    Slow,
    /// The connection is cut after three events, or in the middle of the JSON.
    Break,
    /// Five minutes of events.
    Long,
}

const MODELS: [(&str, Script); 7] = [
    ("demo", Script::Answer),
    ("demo-429", Script::RateLimited),
    ("demo-500", Script::Failed),
    ("demo-503", Script::Unavailable),
    ("demo-slow", Script::Slow),
    ("demo-break", Script::Break),
    ("demo-long", Script::Long),
];

struct Provider {
    /// The `Authorization` value of each account.
    authorizations: Vec<String>,
    seen: mpsc::UnboundedSender<Seen>,
}

/// Serves until the listener fails. Every request that carries one of the credentials is reported to `seen`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    credentials: &[String],
    seen: mpsc::UnboundedSender<Seen>,
) -> io::Result<()> {
    let authorizations = credentials
        .iter()
        .map(|credential| format!("Bearer {credential}"))
        .collect();
    let service = Router::new()
        .fallback(handle)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Provider {
            authorizations,
            seen,
        }))
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await
}

async fn handle(
    State(provider): State<Arc<Provider>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Option<Extension<OnUpgrade>>,
    body: Bytes,
) -> Response {
    let authorization = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let account = provider
        .authorizations
        .iter()
        .position(|known| known.as_bytes() == authorization);
    let Some(account) = account else {
        let fault = Fault::new(StatusCode::UNAUTHORIZED, "invalid_api_key");
        return fault.says("Incorrect API key provided.");
    };
    let encoded = headers.contains_key(header::CONTENT_ENCODING);
    // Nobody may be listening any more; requests are answered all the same.
    let _ = provider.seen.send(Seen {
        peer,
        account,
        line: format!("{method} {uri}"),
        headers: headers.clone(),
    });
    if let Some(Extension(upgrade)) = upgrade
        && (&method, uri.path()) == (&Method::GET, "/v1/responses")
        && headers.contains_key("sec-websocket-key")
    {
        return socket::open(&headers, upgrade);
    }
    let dialect = match (&method, uri.path()) {
        (&Method::GET, "/v1/models") => return models(),
        (&Method::POST, "/v1/responses") => Dialect::Responses,
        (&Method::POST, "/v1/chat/completions") => Dialect::Chat,
        (&Method::POST, "/v1/messages") => Dialect::Messages,
        _ => {
            let fault = Fault::new(StatusCode::NOT_FOUND, "unknown_url");
            return fault.says(&format!("Invalid URL ({method} {})", uri.path()));
        }
    };
    if encoded {
        let fault = Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding");
        return fault.says("The demo provider reads request bodies without content coding only.");
    }
    match Ask::read(dialect, &body) {
        Ok(ask) => play(&ask).await,
        Err(reason) => Fault::new(StatusCode::BAD_REQUEST, "invalid_request").says(&reason),
    }
}

fn models() -> Response {
    let data: Vec<Value> = MODELS
        .iter()
        .map(|(id, _)| json!({"id": id, "object": "model", "created": 0, "owned_by": "demo"}))
        .collect();
    complete(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// Does what the model name stands for.
async fn play(ask: &Ask) -> Response {
    let Some((_, script)) = MODELS.iter().find(|(name, _)| *name == ask.model) else {
        let known: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
        return Fault::new(StatusCode::NOT_FOUND, "model_not_found").says(&format!(
            "The model `{}` does not exist; there are {}.",
            ask.model,
            known.join(", ")
        ));
    };
    let script = *script;
    if let Some(refusal) = refusal(script) {
        return refusal;
    }
    let answer = Answer::to(ask, (script == Script::Long).then_some(LONG_WORDS));
    if ask.stream {
        stream(script, ask, &answer)
    } else {
        whole(script, ask, &answer).await
    }
}

/// The scripts that do not get as far as an answer.
fn refusal(script: Script) -> Option<Response> {
    Some(match script {
        Script::RateLimited => Fault::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded")
            .retry_after_1_s()
            .says("Rate limit reached for requests per minute."),
        Script::Failed => Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error")
            .says("The server had an error while processing your request."),
        Script::Unavailable => Fault::new(StatusCode::SERVICE_UNAVAILABLE, "server_error")
            .retry_after_1_s()
            .says("The server is temporarily unavailable."),
        Script::Answer | Script::Slow | Script::Break | Script::Long => return None,
    })
}

fn stream(script: Script, ask: &Ask, answer: &Answer) -> Response {
    let mut events = match ask.dialect {
        Dialect::Responses => responses::events(ask, answer),
        Dialect::Chat => chat::events(ask, answer),
        Dialect::Messages => messages::events(ask, answer),
    };
    if script == Script::Break {
        events.truncate(BREAK_EVENTS);
    }
    with_body("text/event-stream; charset=utf-8", paced(script, events))
}

async fn whole(script: Script, ask: &Ask, answer: &Answer) -> Response {
    if script == Script::Slow {
        tokio::time::sleep(SLOW_START).await;
    }
    let mut text = match ask.dialect {
        Dialect::Responses => responses::whole(ask, answer),
        Dialect::Chat => chat::whole(ask, answer),
        Dialect::Messages => messages::whole(ask, answer),
    }
    .to_string();
    if script != Script::Break {
        return with_body("application/json", Body::from(text));
    }
    let announced = HeaderValue::from(text.len());
    text.truncate(text.floor_char_boundary(text.len() / 2));
    let mut response = with_body("application/json", paced(script, vec![text]));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, announced);
    response
}

/// A body whose pieces come one by one; the connection is cut after the last where the script says so.
fn paced(script: Script, pieces: Vec<String>) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    tokio::spawn(async move {
        let pause = if script == Script::Long {
            LONG_EVENT_PAUSE
        } else {
            EVENT_PAUSE
        };
        if script == Script::Slow {
            tokio::time::sleep(SLOW_START).await;
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            if index > 0 {
                tokio::time::sleep(pause).await;
            }
            // The other side is gone: nobody is left to be told.
            let Ok(()) = sender.send(Bytes::from(piece)).await else {
                return;
            };
        }
    });
    Body::from_stream(Pieces {
        receiver,
        cut: script == Script::Break,
        flushed: false,
    })
}

/// The pieces of a body, and then its end or a failure: without its last chunk it is visibly not whole.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    cut: bool,
    flushed: bool,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.receiver.poll_recv(cx));
        if next.is_some() || !self.cut {
            return Poll::Ready(next.map(Ok));
        }
        if !self.flushed {
            // Hyper flushes when it finds nothing to read, and drops what it holds when the body fails.
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }
}

/// An error in the envelope that OpenAI's clients expect.
struct Fault {
    status: StatusCode,
    code: &'static str,
    retry_after: bool,
}

impl Fault {
    fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            code,
            retry_after: false,
        }
    }

    fn retry_after_1_s(mut self) -> Self {
        self.retry_after = true;
        self
    }

    fn says(&self, message: &str) -> Response {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "requests",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = json!({"message": message, "type": kind, "param": null, "code": self.code});
        let mut response = complete(self.status, &json!({"error": error}));
        if self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn complete(status: StatusCode, body: &Value) -> Response {
    let mut response = with_body("application/json", Body::from(body.to_string()));
    *response.status_mut() = status;
    response
}

fn with_body(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    add_provider_fields(headers);
    response
}

/// What a real provider adds: fields that pass the gateway, and two that must not.
fn add_provider_fields(headers: &mut HeaderMap) {
    let request_id = format!("req_demo_{:016x}", fastrand::u64(..));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-request-id", value);
    }
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    headers.insert("openai-processing-ms", HeaderValue::from_static("7"));
    headers.insert(
        "x-ratelimit-limit-requests",
        HeaderValue::from_static("10000"),
    );
    headers.insert(
        "x-ratelimit-remaining-requests",
        HeaderValue::from_static("9999"),
    );
    headers.insert(
        "openai-organization",
        HeaderValue::from_static("org-of-the-account"),
    );
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::from_static("provider=1; Path=/"),
    );
}

#[cfg(test)]
mod tests;
