//! The request's head on its way to the provider.

use crate::config::policy::{Account, CredentialStyle, Upstream};
use crate::request::Request;
use crate::request::route::Candidate;
use crate::worker::Worker;
use relay_wire::dialect::Edit;
use relay_wire::encode::HeadWriter;
use relay_wire::head::{Field, Framing, KnownName, Method};
use std::borrow::Cow;

/// The request's head as the provider sees it, but for its last field. Framing is made anew; nothing hop-by-hop and nothing
/// of the tenant's credential passes.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    worker: &Worker,
    request: &Request<'_>,
    candidate: &Candidate,
    upstream: &Upstream,
    edit: Option<&Edit>,
) {
    let bytes = request.head_bytes();
    let target = without_key(request.head.target.of(bytes));
    // `OPTIONS *` asks about the server, not about a path.
    let prefix = if &*target == b"*" {
        ""
    } else {
        &upstream.path_prefix
    };
    let rules = worker.policy.headers.request(candidate.upstream);
    let mut head = HeadWriter::request(
        out,
        request.head.method.as_str(),
        &[prefix.as_bytes(), &target],
    );
    head.known("host", &upstream.authority);
    let connection = connection_values(&request.head.fields, bytes);
    for field in &request.head.fields {
        let name = field.name.of(bytes);
        if !rules.pass(bytes, field)
            || names_field(&connection, name)
            || edit.is_some() && is_about_unchanged(name)
        {
            continue;
        }
        head.received(bytes, field);
    }
    for (name, value) in rules.set() {
        head.known(name, value);
    }
    if let Some(handshake) = &request.websocket {
        handshake.write_request(&mut head, request);
    }
    match request.body.onward_framing(edit) {
        Framing::Length(count) => head.number("content-length", count),
        Framing::Chunked => head.known("transfer-encoding", "chunked"),
        Framing::Empty | Framing::UntilClose => {
            if matches!(
                request.head.method,
                Method::Post | Method::Put | Method::Patch
            ) {
                head.number("content-length", 0);
            }
        }
    }
}

/// Does a field of this name stop being true, or what the client wants, where the body is changed? Digests are those of the body as
/// it was (RFC 9530), and what is to be found in the answer must not be compressed (RFC 9110 section 12.5.3).
fn is_about_unchanged(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"accept-encoding",
        b"content-digest",
        b"content-md5",
        b"digest",
        b"repr-digest",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The one place where an account's credential is used: the head's last field, handed to the kernel from where the secret
/// is kept and never copied. `write_head` has put the upstream's own authority above it, and `connect` goes to that
/// authority's addresses only.
pub(crate) fn with_credential<'h>(
    head: &'h [u8],
    upstream: &Upstream,
    account: &'h Account,
) -> [&'h [u8]; 4] {
    let name: &[u8] = match upstream.credential_style {
        CredentialStyle::Bearer => b"authorization: Bearer ",
        CredentialStyle::XApiKey => b"x-api-key: ",
        CredentialStyle::XGoogApiKey => b"x-goog-api-key: ",
        CredentialStyle::ApiKey => b"api-key: ",
    };
    [head, name, account.credential.expose(), b"\r\n\r\n"]
}

/// The values of all `Connection` fields of a head. Usually there are none.
pub fn connection_values<'b>(fields: &[Field], bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let is_connection = |field: &&Field| field.known == Some(KnownName::Connection);
    fields
        .iter()
        .filter(is_connection)
        .map(|field| field.value.of(bytes))
        .collect()
}

/// Is the field named by `Connection`, and so meant for this hop alone (RFC 9110 section 7.6.1)?
pub fn names_field(connection: &[&[u8]], name: &[u8]) -> bool {
    !connection.is_empty()
        && connection
            .iter()
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
}

/// The target without a `key` in its query: some clients of Gemini put the tenant's credential there.
fn without_key(target: &[u8]) -> Cow<'_, [u8]> {
    let is_key = |parameter: &[u8]| {
        let name = parameter
            .split(|&byte| byte == b'=')
            .next()
            .unwrap_or_default();
        percent_decoded(name).eq(b"key".iter().copied())
    };
    let Some(at) = target.iter().position(|&byte| byte == b'?') else {
        return target.into();
    };
    let (path, query) = (&target[..at], &target[at + 1..]);
    if !query.split(|&byte| byte == b'&').any(is_key) {
        return target.into();
    }
    let kept: Vec<_> = query
        .split(|&byte| byte == b'&')
        .filter(|part| !is_key(part))
        .collect();
    let query = kept.join(&b'&');
    if query.is_empty() {
        path.into()
    } else {
        [path, b"?", &query].concat().into()
    }
}

/// What a provider may take the bytes for (RFC 3986 section 2.1).
fn percent_decoded(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            return u8::try_from(high * 16 + low).ok();
        }
        let (&first, after) = rest.split_first()?;
        rest = after;
        Some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::{names_field, without_key};

    #[test]
    fn fields_named_by_connection() {
        assert!(names_field(&[b"close, X-Secret"], b"x-secret"));
        assert!(names_field(&[b"close", b"x-secret"], b"X-SECRET"));
        assert!(!names_field(&[], b"x-secret"));
        assert!(!names_field(&[b"x-secret-too,,"], b"x-secret"));
    }

    #[test]
    fn a_key_in_the_query_stays_here() {
        for (target, passed) in [
            ("/a", "/a"),
            ("/a?alt=sse", "/a?alt=sse"),
            ("/a?key=secret", "/a"),
            ("/a?key=secret&alt=sse", "/a?alt=sse"),
            ("/a?alt=sse&key=secret&x=1", "/a?alt=sse&x=1"),
            ("/a?monkey=1&keys=2", "/a?monkey=1&keys=2"),
            ("/a?%6bey=secret", "/a"),
            ("/a?k%65%79=secret&alt=sse", "/a?alt=sse"),
            ("/a?%6b=1&%=2", "/a?%6b=1&%=2"),
        ] {
            assert_eq!(&*without_key(target.as_bytes()), passed.as_bytes());
        }
    }
}
