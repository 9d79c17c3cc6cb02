//! What a provider that speaks the Responses API would say.

use crate::http::{LAST_CHUNK, chunk, response};

/// The head of a streamed answer.
pub const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\nopenai-version: 2020-10-01\r\n\r\n";

/// A plain answer, with usage.
pub const PLAIN_BODY: &[u8] = br#"{"id":"resp_1","object":"response","status":"completed","output":[],"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":3},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":18}}"#;

/// A plain answer as it stands on the wire.
pub fn plain() -> Vec<u8> {
    response(200, &[("content-type", "application/json")], PLAIN_BODY)
}

/// An error as the provider words it.
pub fn error(status: u16, code: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let body = format!(
        r#"{{"error":{{"message":"from the provider","type":"provider","code":"{code}","param":null}}}}"#
    );
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(fields);
    response(status, &all, body.as_bytes())
}

/// `response.created`: the first event, which is no output yet.
pub fn created() -> Vec<u8> {
    event(
        "response.created",
        r#""response":{"id":"resp_1","status":"in_progress"}"#,
    )
}

/// An output event.
pub fn delta(text: &str) -> Vec<u8> {
    event(
        "response.output_text.delta",
        &format!(r#""delta":"{text}""#),
    )
}

/// `response.completed`, with usage.
pub fn completed() -> Vec<u8> {
    event(
        "response.completed",
        r#""response":{"id":"resp_1","status":"completed","usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":3},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":18}}"#,
    )
}

fn event(name: &str, members: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {{\"type\":\"{name}\",{members}}}\n\n").into_bytes()
}

/// A whole streamed answer: created, one delta for each text, completed; one chunk for each event.
pub fn stream(texts: &[&str]) -> Vec<u8> {
    let mut bytes = STREAM_HEAD.to_vec();
    bytes.extend(chunk(&created()));
    for text in texts {
        bytes.extend(chunk(&delta(text)));
    }
    bytes.extend(chunk(&completed()));
    bytes.extend_from_slice(LAST_CHUNK);
    bytes
}
