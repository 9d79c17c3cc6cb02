//! Heads of HTTP/1.1 messages: strict parsing into offsets.
//!
//! A parsed head holds no reference: it names places (`Span`) in the buffer that the head was read
//! into, so that buffer and head can travel together through the request path.
//! `httparse` does the tokenising; before and after it come the checks of RFC 9112 that it leaves
//! out (see `FramingError` for the whole list). Whatever either of them refuses is read once more by
//! `grammar`, byte by byte, which names the rule and decides about heads that are not complete.

mod error;
mod fields;
mod grammar;
mod names;
mod target;
#[cfg(test)]
mod tests;

pub use error::FramingError;
pub use names::KnownName;

use fields::FramingFields;
pub(crate) use fields::parse_length;
use grammar::StartLine;
pub(crate) use grammar::is_token_byte;
use memchr::memchr_iter;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A place in the buffer that holds the head. Heads are at most 32 KiB, so 16 bits are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// One past the last byte.
    pub end: u16,
}

impl Span {
    /// The place as a range of indices.
    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
    /// The bytes at this place.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.range()]
    }
}

/// One header field: name as received (any case), value without surrounding white space. Only the parser makes them, so in
/// the buffer of its head the one is a token and the other has no control characters.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: Span,
    /// The field's value.
    pub value: Span,
    /// Which name it is, if it is one of those.
    pub known: Option<KnownName>,
}

/// How the end of a message body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// Exactly this many bytes follow (never 0: that is `Empty` for a request; a response with
    /// `Content-Length: 0` is `Length(0)` so that the field is passed on).
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Responses only: the body ends where the connection does.
    UntilClose,
}

/// The protocol version of the message: only these two are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Request methods that are relayed. CONNECT and TRACE are refused (`FramingError::MethodRefused`),
/// unknown ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The method's token, upper case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Method names are case-sensitive (RFC 9110 section 9.1).
    pub(crate) fn of_token(token: &[u8]) -> Option<Self> {
        Some(match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            _ => return None,
        })
    }
}

/// How large a head may be. Larger numbers than those named here count as those.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, start line and final empty line included; at most 65,535.
    pub head_bytes_max: usize,
    /// Header fields; at most 256.
    pub fields_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
}

/// A request head that obeys RFC 9112 to the letter.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Path and query, in origin form: for an absolute-form target the part after the authority.
    /// `*` for `OPTIONS *`. This one value is what is authenticated, routed and dispatched.
    pub target: Span,
    /// The path alone (`target` up to `?`).
    pub path: Span,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// All fields in the order received.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// The client wants to keep the connection (HTTP/1.1 without `close`, or 1.0 with `keep-alive`).
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent.
    pub expects_continue: bool,
    /// Bytes of the head, final empty line included; what follows in the buffer is body.
    pub head_bytes: usize,
}

/// A response head of an upstream.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// All fields in the order received.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// The connection may serve another request after this body.
    pub keep_alive: bool,
    /// Bytes of the head, final empty line included.
    pub head_bytes: usize,
}

/// `Span` counts in 16 bits.
const HEAD_BYTES_CEILING: usize = u16::MAX as usize;
/// What the tokeniser has room for on its stack.
const FIELDS_CEILING: usize = 256;
/// RFC 9112 section 2.2 asks for leniency towards at least one empty line before a request.
const EMPTY_LINES_MAX: usize = 2;

impl RequestHead {
    /// Parses the head at the start of `buffer`. `Ok(None)`: not complete yet, read more.
    /// Empty lines (CRLF) before the start line are skipped, at most two (RFC 9112 section 2.2);
    /// `head_bytes` includes them.
    ///
    /// # Errors
    /// As soon as what is there cannot become a valid head within `limits`. Bytes that come later do
    /// not change the verdict.
    pub fn parse(buffer: &[u8], limits: &HeadLimits) -> Result<Option<Self>, FramingError> {
        let Some(start) = skip_empty_lines(buffer)? else {
            return Ok(None);
        };
        let fault = |whole| {
            let start_line = StartLine::Request {
                target_bytes_max: limits.target_bytes_max,
            };
            grammar::verdict(buffer, start, start_line, limits, whole)
        };
        let within = within(buffer, limits);
        let refused = || match find_head(within, start) {
            Some(_) => Err(fault(true).err().unwrap_or(FramingError::Malformed)),
            None => fault(false).map(|()| None),
        };
        // The tokeniser has read all that is there then: there is no need to look for the end of the head.
        let incomplete = || {
            debug_assert!(find_head(within, start).is_none());
            fault(false).map(|()| None)
        };

        let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
        let mut tokens = httparse::Request::new(&mut []);
        let slots = &mut slots[..limits.fields_max.min(FIELDS_CEILING)];
        let parsed =
            tokens.parse_with_uninit_headers(within.get(start..).unwrap_or_default(), slots);
        let (Ok(httparse::Status::Complete(parsed)), Some(method), Some(target), Some(version)) =
            (parsed, tokens.method, tokens.path, tokens.version)
        else {
            return match parsed {
                Ok(httparse::Status::Partial) => incomplete(),
                _ => refused(),
            };
        };
        let head = start..start + parsed;
        let fields = locate(buffer, tokens.headers);
        if !has_only_whole_line_ends(buffer, &head, &fields) {
            return refused();
        }
        let Some(method) = Method::of_token(method.as_bytes()) else {
            return Err(fault(true).err().unwrap_or(FramingError::MethodRefused));
        };
        let target_at = place(buffer, target.as_bytes());
        let target = target::check(method, target.as_bytes(), limits.target_bytes_max)?;

        let version = if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let framing_fields = FramingFields::collect(buffer, &fields)?;
        framing_fields.check_host(buffer, version, target.authority)?;
        Ok(Some(Self {
            method,
            target: span(
                target_at + target.origin_form.start,
                target_at + target.origin_form.end,
            ),
            path: span(target_at + target.path.start, target_at + target.path.end),
            version,
            framing: framing_fields.request_framing(version)?,
            keep_alive: framing_fields.keep_alive(version),
            expects_continue: framing_fields.expects_continue(version)?,
            fields,
            head_bytes: head.end,
        }))
    }

    /// The first field of that name (`name` in lower case).
    pub fn value<'b>(&self, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
        first_value(&self.fields, buffer, name)
    }
}

impl ResponseHead {
    /// Parses the head at the start of `buffer`. `head_request`: the request was HEAD, so there is no body
    /// whatever the fields say. 1xx heads are returned like others (`Framing::Empty`); the caller skips them.
    /// A 101 is returned as `Framing::Empty` too: the caller refuses it.
    ///
    /// # Errors
    /// As soon as what is there cannot become a valid head within `limits` (its `target_bytes_max` is not used).
    pub fn parse(
        buffer: &[u8],
        limits: &HeadLimits,
        head_request: bool,
    ) -> Result<Option<Self>, FramingError> {
        let fault = |whole| grammar::verdict(buffer, 0, StartLine::Response, limits, whole);
        let within = within(buffer, limits);
        let refused = || match find_head(within, 0) {
            Some(_) => Err(fault(true).err().unwrap_or(FramingError::Malformed)),
            None => fault(false).map(|()| None),
        };
        let incomplete = || {
            debug_assert!(find_head(within, 0).is_none());
            fault(false).map(|()| None)
        };
        // The tokeniser would skip empty lines, which may stand before a request only.
        if let Some(b'\r' | b'\n') = within.first() {
            return refused();
        }
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
        let mut tokens = httparse::Response::new(&mut []);
        let slots = &mut slots[..limits.fields_max.min(FIELDS_CEILING)];
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut tokens,
            within,
            slots,
        );
        let (Ok(httparse::Status::Complete(parsed)), Some(status), Some(version)) =
            (parsed, tokens.code, tokens.version)
        else {
            return match parsed {
                Ok(httparse::Status::Partial) => incomplete(),
                _ => refused(),
            };
        };
        let fields = locate(buffer, tokens.headers);
        if !has_only_whole_line_ends(buffer, &(0..parsed), &fields) {
            return refused();
        }
        if !(100..=599).contains(&status) {
            return Err(FramingError::Malformed);
        }

        let version = if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let framing_fields = FramingFields::collect(buffer, &fields)?;
        let framing = framing_fields.response_framing(version, status, head_request)?;
        Ok(Some(Self {
            status,
            version,
            framing,
            keep_alive: framing != Framing::UntilClose && framing_fields.keep_alive(version),
            fields,
            head_bytes: parsed,
        }))
    }

    /// The first field of that name (`name` in lower case).
    pub fn value<'b>(&self, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
        first_value(&self.fields, buffer, name)
    }
}

/// Where the start line begins; `None` if it has not begun.
fn skip_empty_lines(buffer: &[u8]) -> Result<Option<usize>, FramingError> {
    let mut at = 0;
    loop {
        match buffer[at..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if at == 2 * EMPTY_LINES_MAX => return Err(FramingError::Malformed),
            [b'\r', b'\n', ..] => at += 2,
            [b'\r' | b'\n', ..] => return Err(FramingError::BareLineBreak),
            _ => return Ok(Some(at)),
        }
    }
}

/// As much of the buffer as a head may take.
fn within<'b>(buffer: &'b [u8], limits: &HeadLimits) -> &'b [u8] {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    &buffer[..buffer.len().min(head_bytes_max)]
}

/// The tokeniser takes a bare line feed for the end of a line too: the one deviation that it lets pass. It lets none stand
/// anywhere else, so what is before each field and at the end tells of all of them.
fn has_only_whole_line_ends(buffer: &[u8], head: &Range<usize>, fields: &[Field]) -> bool {
    buffer[head.clone()].ends_with(b"\r\n\r\n")
        && fields.iter().all(|field| {
            let before = &buffer[head.start..usize::from(field.name.start)];
            before.ends_with(b"\r\n")
        })
}

/// The head from its start line to its final empty line, if that is there and no line end before it is a bare
/// line feed.
fn find_head(within: &[u8], start: usize) -> Option<Range<usize>> {
    let mut line_start = start;
    for line_feed in memchr_iter(b'\n', within.get(start..)?).map(|at| start + at) {
        if line_feed == line_start || within[line_feed - 1] != b'\r' {
            return None;
        }
        if line_feed == line_start + 1 {
            return Some(start..line_feed + 1);
        }
        line_start = line_feed + 1;
    }
    None
}

fn locate(buffer: &[u8], headers: &[httparse::Header<'_>]) -> Vec<Field> {
    let span_of = |part: &[u8]| {
        let start = place(buffer, part);
        span(start, start + part.len())
    };
    headers
        .iter()
        .map(|header| Field {
            name: span_of(header.name.as_bytes()),
            value: span_of(header.value),
            known: KnownName::of(header.name.as_bytes()),
        })
        .collect()
}

/// Where a part of the buffer stands in it.
fn place(buffer: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - buffer.as_ptr().addr()
}

/// Heads end within `HEAD_BYTES_CEILING`, so nothing is cut off here.
fn span(start: usize, end: usize) -> Span {
    debug_assert!(start <= end && end <= HEAD_BYTES_CEILING);
    Span {
        start: start as u16,
        end: end as u16,
    }
}

fn first_value<'b>(fields: &[Field], buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let known = KnownName::of(name.as_bytes());
    let is_it = |field: &&Field| match known {
        Some(_) => field.known == known,
        None => field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()),
    };
    let found = fields.iter().find(is_it)?;
    Some(found.value.of(buffer))
}
