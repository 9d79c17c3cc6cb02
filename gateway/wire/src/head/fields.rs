//! The fields that decide about framing, host, connection and expectation.

use super::target::is_authority;
use super::{Field, Framing, FramingError, KnownName, Span, Version};

/// What the fields of one head say, before the rules about it are applied.
#[derive(Debug, Default)]
pub(super) struct FramingFields {
    host: Option<Span>,
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
    expects_continue: bool,
    expects_other: bool,
}

impl FramingFields {
    /// Reads the fields that matter.
    pub(super) fn collect(buffer: &[u8], fields: &[Field]) -> Result<Self, FramingError> {
        let mut found = Self::default();
        let mut length = None;
        let (mut lengths, mut codings) = (0_u32, 0_u32);
        let mut coding = None;
        for field in fields {
            match field.known {
                Some(KnownName::Host) => {
                    found.hosts += 1;
                    found.host = Some(field.value);
                }
                Some(KnownName::Expect) => {
                    if field.value.of(buffer).eq_ignore_ascii_case(b"100-continue") {
                        found.expects_continue = true;
                    } else {
                        found.expects_other = true;
                    }
                }
                Some(KnownName::Connection) => {
                    found.read_connection(field.value.of(buffer));
                }
                Some(KnownName::ContentLength) => {
                    lengths += 1;
                    length = Some(field.value.of(buffer));
                }
                Some(KnownName::TransferEncoding) => {
                    codings += 1;
                    coding = Some(field.value.of(buffer));
                }
                _ => {}
            }
        }
        // RFC 9112 section 6.3 lets a recipient prefer one of the two; that is what smuggling lives on.
        if lengths > 0 && codings > 0 {
            return Err(FramingError::LengthAndChunked);
        }
        if lengths > 1 {
            return Err(FramingError::DuplicateLength);
        }
        found.length = length.map(parse_length).transpose()?;
        found.chunked = codings > 0;
        if codings > 1 || coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(FramingError::UnsupportedTransferEncoding);
        }
        Ok(found)
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 3.2 and 3.2.2: HTTP/1.1 needs exactly one Host, and an absolute form names the same.
    pub(super) fn check_host(
        &self,
        buffer: &[u8],
        version: Version,
        authority: Option<&[u8]>,
    ) -> Result<(), FramingError> {
        let host = match self.host {
            Some(host) if self.hosts == 1 => host.of(buffer),
            None if version == Version::Http10 => return Ok(()),
            _ => return Err(FramingError::InvalidHost),
        };
        if !is_authority(host) {
            return Err(FramingError::InvalidHost);
        }
        if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err(FramingError::AuthorityMismatch);
        }
        Ok(())
    }

    /// RFC 9112 section 9.3.
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (self.keep || version == Version::Http11)
    }

    /// Whether `100 Continue` is waited for. RFC 9110 section 10.1.1: the expectation of an HTTP/1.0
    /// client is ignored.
    pub(super) fn expects_continue(&self, version: Version) -> Result<bool, FramingError> {
        if self.expects_other {
            return Err(FramingError::UnsupportedExpectation);
        }
        Ok(self.expects_continue && version == Version::Http11)
    }

    fn check_coding(&self, version: Version) -> Result<(), FramingError> {
        // RFC 9112 section 6.1: HTTP/1.0 knows no transfer coding, whoever sends one is not to be trusted.
        if self.chunked && version == Version::Http10 {
            return Err(FramingError::UnsupportedTransferEncoding);
        }
        Ok(())
    }

    /// A request with neither field has no body (RFC 9112 section 6.3, rule 7).
    pub(super) fn request_framing(&self, version: Version) -> Result<Framing, FramingError> {
        self.check_coding(version)?;
        Ok(match self.length.unwrap_or(0) {
            _ if self.chunked => Framing::Chunked,
            0 => Framing::Empty,
            length => Framing::Length(length),
        })
    }

    /// RFC 9112 section 6.3, rules 1 to 8, for a response.
    pub(super) fn response_framing(
        &self,
        version: Version,
        status: u16,
        head_request: bool,
    ) -> Result<Framing, FramingError> {
        self.check_coding(version)?;
        // RFC 9110 section 8.6 and RFC 9112 section 6.1: these must not announce a body. (A 304 and an
        // answer to HEAD may carry the fields of the answer that a GET would have got.)
        let is_bodyless = matches!(status, 100..=199 | 204);
        if is_bodyless && (self.chunked || self.length.is_some_and(|length| length > 0)) {
            return Err(FramingError::ForbiddenBody);
        }
        if is_bodyless || head_request || status == 304 {
            return Ok(Framing::Empty);
        }
        Ok(match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }
}

/// `1*DIGIT` (RFC 9112 section 6.2) that fits 63 bits.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    if value.contains(&b',') {
        return Err(FramingError::DuplicateLength);
    }
    if value.is_empty() {
        return Err(FramingError::InvalidLength);
    }
    let length = value.iter().try_fold(0_i64, |length, byte| {
        byte.is_ascii_digit().then_some(())?;
        length.checked_mul(10)?.checked_add(i64::from(byte - b'0'))
    });
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or(FramingError::InvalidLength)
}
