//! A provider's answer, from HTTP/2 to the text of an HTTP/1.1 head.

use super::fields::{content_length, is_connection_specific};
use crate::encode::{HeadWriter, UnwritableField};
use crate::head::{Framing, FramingError};
use http::response::Parts;

/// What the provider sent is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// It is malformed in HTTP/2: a stream error PROTOCOL_ERROR (RFC 9113 section 8.1.1).
    Malformed,
    /// It breaks a rule that is the same for all protocols.
    Refused(FramingError),
}

impl From<FramingError> for ResponseError {
    fn from(error: FramingError) -> Self {
        Self::Refused(error)
    }
}

impl From<UnwritableField> for ResponseError {
    fn from(_: UnwritableField) -> Self {
        Self::Malformed
    }
}

/// Writes the head of a provider's answer, an informational one (1xx) too, as `ResponseHead::parse` takes it, and says how its
/// body has to be framed. `end_stream`: nothing follows the head. `head_request`: the request was HEAD. `out` is cleared first, and
/// is worth nothing after an error. The parser may still refuse what was written.
///
/// A final answer says `Connection: close`: whoever reads it must not send another request to where it came from.
///
/// # Errors
/// See `ResponseError`.
pub fn response_head(
    parts: &Parts,
    end_stream: bool,
    head_request: bool,
    out: &mut Vec<u8>,
) -> Result<Framing, ResponseError> {
    let status = parts.status.as_u16();
    let is_informational = parts.status.is_informational();
    // HTTP/2 knows no 101 (RFC 9113 section 8.6), and nothing ends with an informational answer.
    if status == 101 || status > 599 || (is_informational && end_stream) {
        return Err(ResponseError::Malformed);
    }
    let length = content_length(&parts.headers)?;
    let is_bodyless = is_informational || head_request || matches!(status, 204 | 304);
    if !is_bodyless && end_stream && length.is_some_and(|length| length > 0) {
        return Err(ResponseError::Malformed);
    }

    let mut head = HeadWriter::response(out, status);
    for (name, value) in &parts.headers {
        let name = name.as_str().as_bytes();
        if is_connection_specific(name) {
            return Err(ResponseError::Malformed);
        }
        // White space around a value is malformed too (RFC 9113 section 8.2.1), but there are servers that send it, and it
        // means nothing in HTTP/1.1.
        head.field(name, value.as_bytes().trim_ascii())?;
    }
    let framing = match length {
        _ if is_bodyless => Framing::Empty,
        Some(length) => Framing::Length(length),
        None if end_stream => {
            head.number("content-length", 0);
            Framing::Length(0)
        }
        None => {
            head.known("transfer-encoding", "chunked");
            Framing::Chunked
        }
    };
    if !is_informational {
        head.known("connection", "close");
    }
    head.finish();
    Ok(framing)
}
