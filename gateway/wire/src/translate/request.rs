//! A client's request, from HTTP/2 to the text of an HTTP/1.1 head.

use super::fields::{content_length, is_connection_specific};
use crate::encode::{HeadWriter, UnwritableField};
use crate::head::{Framing, FramingError, HeadLimits, Method};
use http::header::{COOKIE, HOST, HeaderName, TE};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};

/// Why a request is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// It is malformed in HTTP/2: a stream error PROTOCOL_ERROR (RFC 9113 section 8.1.1).
    Malformed,
    /// It breaks a rule that is the same for all protocols, and is refused with the same answer.
    Refused(FramingError),
}

impl From<FramingError> for RequestError {
    fn from(error: FramingError) -> Self {
        Self::Refused(error)
    }
}

impl From<UnwritableField> for RequestError {
    fn from(_: UnwritableField) -> Self {
        Self::Malformed
    }
}

/// Writes the head of a client's request as `RequestHead::parse` takes it, and says how its body has to be framed. `end_stream`:
/// nothing follows the head. `out` is cleared first, and is worth nothing after an error.
///
/// Not every rule is checked here: the parser may still refuse what was written, and does so for a reason that is the client's
/// fault. What it accepts has the same method, target, authority and fields.
///
/// # Errors
/// See `RequestError`.
pub fn request_head(
    parts: &Parts,
    end_stream: bool,
    limits: &HeadLimits,
    out: &mut Vec<u8>,
) -> Result<Framing, RequestError> {
    let method = Method::of_token(parts.method.as_str().as_bytes());
    let method = method.ok_or(FramingError::MethodRefused)?;
    let target = target(parts)?;
    if target.len() > limits.target_bytes_max {
        return Err(FramingError::TargetTooLong.into());
    }
    let host = host(parts)?;
    let length = content_length(&parts.headers)?;
    if end_stream && length.is_some_and(|length| length > 0) {
        return Err(RequestError::Malformed);
    }

    let mut head = HeadWriter::request(out, method.as_str(), &[target]);
    // Crumbs of a cookie are counted one by one: that they become one field is no way around the limit.
    let mut fields = 1;
    head.field(HOST.as_str().as_bytes(), host)?;
    for (name, value) in &parts.headers {
        fields += 1;
        check_field(name, value)?;
        // That trailers are welcome (the only thing TE can say here) is of no interest: none are passed on.
        if !(name == HOST || name == COOKIE || name == TE) {
            head.field(name.as_str().as_bytes(), value.as_bytes())?;
        }
    }
    if parts.headers.contains_key(COOKIE) {
        head.field(COOKIE.as_str().as_bytes(), &cookie(&parts.headers))?;
    }
    let framing = match length {
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None if end_stream => Framing::Empty,
        None => {
            fields += 1;
            head.known("transfer-encoding", "chunked");
            Framing::Chunked
        }
    };
    head.finish();
    if fields > limits.fields_max {
        return Err(FramingError::TooManyFields.into());
    }
    if out.len() > limits.head_bytes_max {
        return Err(FramingError::HeadTooLarge.into());
    }
    Ok(framing)
}

/// `:path`, which is an origin form or an asterisk (RFC 9113 section 8.3.1). An absolute form, which HTTP/1.1 has too, would
/// name a second authority.
///
/// A `#` and what follows it, which no target may have, is refused in HTTP/1.1; here it has been cut off by `http::Uri` before
/// anybody could see it.
fn target(parts: &Parts) -> Result<&[u8], FramingError> {
    // RFC 9113 section 8.3.1 leaves other schemes to gateways that translate them.
    if let Some(scheme) = parts.uri.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return Err(FramingError::AuthorityMismatch);
    }
    let target = parts.uri.path_and_query();
    let target = target.map_or(&b""[..], |target| target.as_str().as_bytes());
    let is_clean = target.iter().all(u8::is_ascii_graphic);
    if !is_clean || !(target == b"*" || target.first() == Some(&b'/')) {
        return Err(FramingError::InvalidTarget);
    }
    Ok(target)
}

/// The one authority that the request names, in `:authority`, in Host, or in both.
fn host(parts: &Parts) -> Result<&[u8], FramingError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(FramingError::InvalidHost);
    }
    let authority = parts.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(FramingError::AuthorityMismatch)
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(FramingError::InvalidHost),
    }
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), RequestError> {
    let value = value.as_bytes();
    // RFC 9113 section 8.2.1; in HTTP/1.1 they would not belong to the value.
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_space(value.first())
        || is_space(value.last())
        || is_connection_specific(name.as_str().as_bytes())
        || (name == TE && !value.eq_ignore_ascii_case(b"trailers"))
    {
        return Err(RequestError::Malformed);
    }
    Ok(())
}

/// All crumbs in one (RFC 9113 section 8.2.3). Empty ones would leave nothing but white space behind.
fn cookie(fields: &HeaderMap) -> Vec<u8> {
    let crumbs = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<_> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
    crumbs.join(&b"; "[..])
}
