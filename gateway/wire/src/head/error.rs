//! Which rule a head breaks.

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
        match self {
            Self::VersionNotSupported => 505,
            Self::MethodRefused => 405,
            Self::UnsupportedExpectation => 417,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Malformed
            | Self::BareLineBreak
            | Self::FoldedLine
            | Self::ControlCharacter
            | Self::SpaceBeforeColon
            | Self::LengthAndChunked
            | Self::DuplicateLength
            | Self::InvalidLength
            | Self::UnsupportedTransferEncoding
            | Self::InvalidHost
            | Self::AuthorityMismatch
            | Self::InvalidTarget
            | Self::ForbiddenBody => 400,
        }
    }

    /// One sentence for the client, naming the rule that was broken.
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed => "The request line or a header field is not valid HTTP/1.1.",
            Self::VersionNotSupported => "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            Self::MethodRefused => "This request method is not relayed.",
            Self::BareLineBreak => "Every line of the head must end in CR LF.",
            Self::FoldedLine => "A line of the head must not begin with white space.",
            Self::ControlCharacter => "A header field has a control character.",
            Self::SpaceBeforeColon => {
                "A header field must have a name, with the colon right after it."
            }
            Self::LengthAndChunked => {
                "Content-Length and Transfer-Encoding must not be sent together."
            }
            Self::DuplicateLength => "Content-Length must be sent once, with one value.",
            Self::InvalidLength => "Content-Length must be a decimal number.",
            Self::UnsupportedTransferEncoding => {
                "Transfer-Encoding must be exactly \"chunked\", sent once, with HTTP/1.1."
            }
            Self::InvalidHost => "Exactly one Host field with a valid host and port is needed.",
            Self::AuthorityMismatch => {
                "An absolute request target must be http(s) with the authority that Host names."
            }
            Self::InvalidTarget => "The request target is not a valid path and query.",
            Self::UnsupportedExpectation => "Expect knows no value but 100-continue.",
            Self::TargetTooLong => "The request target is too long.",
            Self::HeadTooLarge => "The request head is too long.",
            Self::TooManyFields => "The request has too many header fields.",
            Self::ForbiddenBody => "This status must not have a body.",
        }
    }

    /// A short name for logs and metrics, from a closed set (snake case).
    pub fn kind(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::VersionNotSupported => "version_not_supported",
            Self::MethodRefused => "method_refused",
            Self::BareLineBreak => "bare_line_break",
            Self::FoldedLine => "folded_line",
            Self::ControlCharacter => "control_character",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::LengthAndChunked => "length_and_chunked",
            Self::DuplicateLength => "duplicate_length",
            Self::InvalidLength => "invalid_length",
            Self::UnsupportedTransferEncoding => "unsupported_transfer_encoding",
            Self::InvalidHost => "invalid_host",
            Self::AuthorityMismatch => "authority_mismatch",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedExpectation => "unsupported_expectation",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::ForbiddenBody => "forbidden_body",
        }
    }
}
