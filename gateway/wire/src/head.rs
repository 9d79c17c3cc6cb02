//! Heads of HTTP/1.1 messages: strict parsing into offsets.
//!
//! A parsed head holds no reference: it names places (`Span`) in the buffer that the head was read
//! into, so that buffer and head can travel together through the request path.
//! `httparse` does the tokenising; before and after it come the checks of RFC 9112 that it leaves
//! out (see `FramingError` for the whole list).

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

/// One header field: name as received (any case), value without surrounding white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: Span,
    /// The field's value.
    pub value: Span,
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
        todo!()
    }
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, start line and final empty line included; at most 65,535.
    pub head_bytes_max: usize,
    /// Header fields.
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

/// Why a head cannot be accepted. Each is a 4xx for a client (see `status`) or a broken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FramingError {
    /// Not HTTP at all, or a token in a wrong place.
    Malformed,
    /// HTTP/0.9, HTTP/2 preface, HTTP/1.2 … → 505.
    VersionNotSupported,
    /// CONNECT, TRACE or a method that is not relayed → 405.
    MethodRefused,
    /// A line feed without a carriage return before it, or a carriage return alone.
    BareLineBreak,
    /// A line that begins with white space (obs-fold, or white space after the start line).
    FoldedLine,
    /// NUL or another control character in a field.
    ControlCharacter,
    /// White space between a field's name and its colon, or a field without a name.
    SpaceBeforeColon,
    /// Content-Length beside Transfer-Encoding.
    LengthAndChunked,
    /// More than one Content-Length, even if equal; or a list in one.
    DuplicateLength,
    /// A Content-Length that is not `1*DIGIT`, or too large for 63 bits.
    InvalidLength,
    /// Transfer-Encoding other than exactly `chunked`, sent twice, or with HTTP/1.0.
    UnsupportedTransferEncoding,
    /// No Host (HTTP/1.1), two of them, or one that is not a valid authority.
    InvalidHost,
    /// An absolute-form target whose authority differs from Host, has user info, or a scheme other than http(s).
    AuthorityMismatch,
    /// A target that is neither origin form, absolute form nor `*` for OPTIONS; or with bytes outside RFC 3986 or a fragment.
    InvalidTarget,
    /// `Expect` with another value than `100-continue` → 417.
    UnsupportedExpectation,
    /// The target is too long → 414.
    TargetTooLong,
    /// The head is too long → 431.
    HeadTooLarge,
    /// Too many fields → 431.
    TooManyFields,
    /// A body where none may be (response 204 or 1xx with Content-Length > 0 or Transfer-Encoding).
    ForbiddenBody,
}

impl FramingError {
    /// The status with which a client is refused.
    pub fn status(self) -> u16 {
        todo!()
    }
    /// One sentence for the client, naming the rule that was broken.
    pub fn message(self) -> &'static str {
        todo!()
    }
    /// A short name for logs and metrics, from a closed set (snake case).
    pub fn kind(self) -> &'static str {
        todo!()
    }
}

impl RequestHead {
    /// Parses the head at the start of `buffer`. `Ok(None)`: not complete yet, read more.
    /// Empty lines (CRLF) before the start line are skipped, at most two (RFC 9112 section 2.2);
    /// `head_bytes` includes them.
    ///
    /// # Errors
    /// As soon as what is there cannot become a valid head within `limits`.
    pub fn parse(buffer: &[u8], limits: &HeadLimits) -> Result<Option<Self>, FramingError> {
        todo!("{buffer:?} {limits:?}")
    }

    /// The first field of that name (`name` in lower case).
    pub fn value<'b>(&self, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
        todo!("{buffer:?} {name}")
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
        todo!("{buffer:?} {limits:?} {head_request}")
    }

    /// The first field of that name (`name` in lower case).
    pub fn value<'b>(&self, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
        todo!("{buffer:?} {name}")
    }
}
