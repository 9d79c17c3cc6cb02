//! Fields that need care, in either direction.

use crate::head::{FramingError, parse_length};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// Fields of one HTTP/1.1 connection. In HTTP/2 a message that has one is malformed (RFC 9113 section 8.2.2).
pub(super) fn is_connection_specific(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Fields that carry a secret: not to be put into a table that later messages refer to (RFC 7541 section 7.1.3).
pub(super) fn is_credential(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"authorization",
        b"proxy-authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"cookie",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What `Content-Length` says, by the rules that go for HTTP/1.1.
pub(super) fn content_length(fields: &HeaderMap) -> Result<Option<u64>, FramingError> {
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(FramingError::DuplicateLength);
    }
    parse_length(value.as_bytes()).map(Some)
}
