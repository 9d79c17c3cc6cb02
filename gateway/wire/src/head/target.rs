//! Request targets (RFC 9112 section 3.2) and authorities (RFC 3986 section 3.2).

use super::{FramingError, Method};
use std::net::Ipv6Addr;
use std::ops::Range;

/// A request target taken apart; the ranges count from its first byte.
#[derive(Debug)]
pub(super) struct Target<'t> {
    /// Path and query, or `*`.
    pub(super) origin_form: Range<usize>,
    /// The path, or `*`.
    pub(super) path: Range<usize>,
    /// The authority of an absolute form.
    pub(super) authority: Option<&'t [u8]>,
}

/// Takes a complete target apart.
pub(super) fn check(
    method: Method,
    target: &[u8],
    bytes_max: usize,
) -> Result<Target<'_>, FramingError> {
    check_bytes(target, bytes_max)?;
    if target.iter().rev().take(2).any(|&byte| byte == b'%') {
        return Err(FramingError::InvalidTarget);
    }
    // RFC 9112 section 3.2.4: the asterisk form is for OPTIONS only.
    if target == b"*" && method == Method::Options {
        return Ok(Target {
            origin_form: 0..1,
            path: 0..1,
            authority: None,
        });
    }
    if target.first() == Some(&b'/') {
        let path = 0..check_path_and_query(target)?;
        return Ok(Target {
            origin_form: 0..target.len(),
            path,
            authority: None,
        });
    }
    absolute_form(method, target)
}

fn absolute_form(method: Method, target: &[u8]) -> Result<Target<'_>, FramingError> {
    let scheme_bytes = target.iter().position(|&byte| byte == b':');
    let scheme_bytes = scheme_bytes.ok_or(FramingError::InvalidTarget)?;
    let (scheme, rest) = target.split_at(scheme_bytes);
    if !rest.starts_with(b"://") || !scheme.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(FramingError::InvalidTarget);
    }
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(FramingError::AuthorityMismatch);
    }
    let start = scheme_bytes + "://".len();
    let rest = &target[start..];
    let authority_bytes = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, origin_form) = rest.split_at(authority_bytes.unwrap_or(rest.len()));
    if authority.contains(&b'@') {
        return Err(FramingError::AuthorityMismatch);
    }
    if !is_authority(authority) {
        return Err(FramingError::InvalidTarget);
    }
    let authority = Some(authority);
    if origin_form.is_empty() && method != Method::Options {
        // An empty path is sent on as "/" (RFC 9112 section 3.2.1): the scheme's last slash stands
        // for it. (For OPTIONS it would mean "*", which is not in the buffer, so that is refused.)
        return Ok(Target {
            origin_form: start - 1..start,
            path: start - 1..start,
            authority,
        });
    }
    let path_start = target.len() - origin_form.len();
    let path = path_start..path_start + check_path_and_query(origin_form)?;
    Ok(Target {
        origin_form: path_start..target.len(),
        path,
        authority,
    })
}

/// Where the path of an origin form ends. Paths that another server could take for a different one (dot segments, empty
/// segments, unreserved characters that are percent-encoded; RFC 3986 section 6.2.2) are refused rather than rewritten:
/// what a request is taken for here has to be what it is for the provider.
fn check_path_and_query(origin_form: &[u8]) -> Result<usize, FramingError> {
    let path_end = origin_form
        .iter()
        .position(|&byte| byte == b'?')
        .unwrap_or(origin_form.len());
    let path = &origin_form[..path_end];
    let segments = path.strip_prefix(b"/").ok_or(FramingError::InvalidTarget)?;
    let is_ambiguous = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    // Brackets pass `check_bytes` for the sake of IPv6 authorities.
    if origin_form.iter().any(|byte| matches!(byte, b'[' | b']'))
        || (path.contains(&b'%') && has_encoded_unreserved(path))
        || (!segments.is_empty() && segments.split(|&byte| byte == b'/').any(is_ambiguous))
    {
        return Err(FramingError::InvalidTarget);
    }
    Ok(path_end)
}

/// Is something percent-encoded that needs no encoding? Then it means the same without (RFC 3986 section 2.3).
fn has_encoded_unreserved(path: &[u8]) -> bool {
    path.windows(3).any(|window| {
        let &[b'%', high, low] = window else {
            return false;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
        is_unreserved(digit(high) << 4 | digit(low))
    })
}

/// Length and bytes of a target, which need not be complete: the first byte that is wrong decides.
pub(super) fn check_bytes(target: &[u8], bytes_max: usize) -> Result<(), FramingError> {
    let within = &target[..target.len().min(bytes_max)];
    for (at, &byte) in within.iter().enumerate() {
        let valid = match byte {
            b'%' => within[at + 1..].iter().take(2).all(u8::is_ascii_hexdigit),
            // Outside of an origin form these may belong to an IPv6 address.
            b'[' | b']' => target[0] != b'/',
            _ => IS_PATH_BYTE[usize::from(byte)],
        };
        if !valid {
            return Err(FramingError::InvalidTarget);
        }
    }
    if target.len() > bytes_max {
        return Err(FramingError::TargetTooLong);
    }
    Ok(())
}

/// `host [ ":" port ]` (RFC 3986 section 3.2.2), with a host that can be reached: an IPv6 address in
/// brackets, or a name of letters, digits, `-`, `.`, `_` and `~`. The percent-encoding and the delimiters that the
/// grammar also allows occur in no name there is, but in attempts to be read in two ways.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host_is_valid, rest) = if let [b'[', rest @ ..] = authority {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let address = std::str::from_utf8(&rest[..end]).ok();
        (
            address.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
            &rest[end + 1..],
        )
    } else {
        let end = authority
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(authority.len());
        (
            end > 0
                && authority[..end]
                    .iter()
                    .all(|&byte| IS_UNRESERVED[usize::from(byte)]),
            &authority[end..],
        )
    };
    host_is_valid
        && match rest {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        }
}

fn is_port(port: &[u8]) -> bool {
    let value = port.iter().try_fold(0_u16, |value, byte| {
        byte.is_ascii_digit().then_some(())?;
        value.checked_mul(10)?.checked_add(u16::from(byte - b'0'))
    });
    !port.is_empty() && value.is_some()
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

static IS_UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    table
};

/// `pchar` without percent-encoding, `/` and `?` (RFC 3986 section 3.3 and 3.4).
static IS_PATH_BYTE: [bool; 256] = {
    let delimiters = b"!$&'()*+,;=:@/?";
    let mut table = [false; 256];
    let mut at = 0;
    while at < delimiters.len() {
        table[delimiters[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < table.len() {
        table[byte] |= is_unreserved(byte as u8);
        byte += 1;
    }
    table
};
