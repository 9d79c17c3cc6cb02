//! Writing heads and chunk framing. Whatever comes from outside is checked here, by the writer, unless the parser of heads has
//! let it pass.

use crate::head::{Field, is_token_byte};
use std::io::Write as _;

/// Builds a head in a reused buffer.
#[derive(Debug)]
pub struct HeadWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// A field that must not be written: a control character, or a name that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwritableField;

impl<'a> HeadWriter<'a> {
    /// `METHOD target HTTP/1.1`. The buffer is cleared first. Bytes that cannot stand in a target
    /// (RFC 9112 section 3.2: white space, control characters, beyond ASCII) are percent-encoded, so that
    /// none of them can end the line.
    pub fn request(out: &'a mut Vec<u8>, method: &str, target_parts: &[&[u8]]) -> Self {
        debug_assert!(!method.is_empty() && method.bytes().all(is_token_byte));
        out.clear();
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        for part in target_parts {
            if part
                .iter()
                .fold(true, |clean, byte| clean & byte.is_ascii_graphic())
            {
                out.extend_from_slice(part);
            } else {
                percent_encode(out, part);
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        Self { out }
    }

    /// `HTTP/1.1 status reason`. The buffer is cleared first.
    pub fn response(out: &'a mut Vec<u8>, status: u16) -> Self {
        debug_assert!((100..=999).contains(&status));
        out.clear();
        if status == 200 {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            return Self { out };
        }
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, status.into());
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// One field.
    ///
    /// # Errors
    /// The value has a byte below 0x20 other than HTAB, or 0x7f; or the name is not a token. Nothing was written then.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), UnwritableField> {
        let name_is_token = name.iter().all(|&byte| IS_TOKEN_BYTE[usize::from(byte)]);
        // Without an early exit this loop becomes vector instructions.
        let value_is_clean = value
            .iter()
            .fold(true, |clean, &byte| clean & is_value_byte(byte));
        if name.is_empty() || !name_is_token || !value_is_clean {
            return Err(UnwritableField);
        }
        self.push_field(name, value);
        Ok(())
    }

    /// One field of a head that was parsed from this buffer: the parser has refused whatever `field` would.
    pub fn received(&mut self, buffer: &[u8], field: &Field) {
        let (name, value) = (field.name.range(), field.value.range());
        debug_assert!(
            !name.is_empty() && buffer[name.clone()].iter().all(|&byte| is_token_byte(byte))
        );
        debug_assert!(
            buffer[value.clone()]
                .iter()
                .all(|&byte| is_value_byte(byte))
        );
        // Nearly every field comes in the form in which it is sent on.
        let line = &buffer[name.start..];
        let (value_at, end) = (value.start - name.start, value.end - name.start);
        match line.get(..end + 2) {
            Some(line)
                if value_at == name.len() + 2
                    && line[name.len()..].starts_with(b": ")
                    && line[end..] == *b"\r\n" =>
            {
                self.out.extend_from_slice(line);
            }
            _ => self.push_field(&buffer[name], &buffer[value]),
        }
    }

    /// One field whose name and value are known to be clean (constants, digits).
    #[inline]
    pub fn known(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        debug_assert!(!name.is_empty() && name.bytes().all(is_token_byte));
        debug_assert!(!value.iter().any(u8::is_ascii_control));
        self.push_field(name.as_bytes(), value);
    }

    /// One field with a decimal value.
    #[inline]
    pub fn number(&mut self, name: &str, value: u64) {
        self.composed(name, |mut text| text.decimal(value));
    }

    /// One field whose value is put together of pieces that are known to be clean.
    #[inline]
    pub fn composed(&mut self, name: &str, compose: impl FnOnce(Value<'_>)) {
        debug_assert!(!name.is_empty() && name.bytes().all(is_token_byte));
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        compose(Value { out: self.out });
        self.out.extend_from_slice(b"\r\n");
    }

    /// The empty line that ends the head.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    // Inlined, the pieces that are constants cost no call.
    #[inline]
    fn push_field(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The value of a field, as far as it has been written.
#[derive(Debug)]
pub struct Value<'a> {
    out: &'a mut Vec<u8>,
}

impl Value<'_> {
    /// Digits.
    #[inline]
    pub fn decimal(&mut self, number: u64) {
        push_decimal(self.out, number);
    }

    /// Something known to be clean.
    #[inline]
    pub fn text(&mut self, text: &str) {
        debug_assert!(!text.bytes().any(|byte| byte.is_ascii_control()));
        self.out.extend_from_slice(text.as_bytes());
    }
}

/// What a field's value is made of (RFC 9110 section 5.5).
const fn is_value_byte(byte: u8) -> bool {
    ((byte >= 0x20) & (byte != 0x7f)) | (byte == b'\t')
}

static IS_TOKEN_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

fn push_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn percent_encode(out: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            // Writing to a vector cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The most bytes that `chunk_size_line` writes: 16 hexadecimal digits and CRLF.
pub const CHUNK_SIZE_LINE_MAX: usize = 18;

/// Writes `HEX CRLF` at the END of `out` and returns how many bytes it took, so that it can stand right before
/// the payload in a buffer with headroom.
pub fn chunk_size_line(payload_bytes: usize, out: &mut [u8; CHUNK_SIZE_LINE_MAX]) -> usize {
    let mut at = CHUNK_SIZE_LINE_MAX - 2;
    out[at..].copy_from_slice(b"\r\n");
    let mut rest = payload_bytes;
    loop {
        at -= 1;
        out[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return CHUNK_SIZE_LINE_MAX - at;
        }
    }
}

/// The reason phrase of a status (RFC 9110), empty for an unknown one.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_head_is_written_as_given() {
        let mut out = b"left over".to_vec();
        let mut writer = HeadWriter::request(&mut out, "POST", &[b"/base", b"/v1/x?y=%20"]);
        writer.known("host", "example.com");
        writer.field(b"X-Any", "grüße\tja".as_bytes()).unwrap();
        writer.number("content-length", u64::MAX);
        writer.finish();
        let wanted = "POST /base/v1/x?y=%20 HTTP/1.1\r\nhost: example.com\r\nX-Any: grüße\tja\r\n\
                      content-length: 18446744073709551615\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn a_target_cannot_end_its_line() {
        let mut out = Vec::new();
        HeadWriter::request(&mut out, "GET", &[b"/a", b"b HTTP/1.1\r\nx: \x7f\xff"]).finish();
        assert_eq!(out, b"GET /ab%20HTTP/1.1%0D%0Ax:%20%7F%FF HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_response_head_has_a_reason_even_if_it_is_empty() {
        for (status, line) in [(200, "HTTP/1.1 200 OK\r\n"), (599, "HTTP/1.1 599 \r\n")] {
            let mut out = Vec::new();
            HeadWriter::response(&mut out, status);
            assert_eq!(out, line.as_bytes());
        }
    }

    #[test]
    fn unclean_fields_are_refused_and_leave_nothing_behind() {
        let mut out = Vec::new();
        let mut writer = HeadWriter::response(&mut out, 200);
        for name in ["", "a b", "a:", "a\r\n", "ä", "a\0", "(a)"] {
            assert_eq!(
                writer.field(name.as_bytes(), b"v"),
                Err(UnwritableField),
                "{name:?}"
            );
        }
        for byte in (0..0x20_u8).chain([0x7f]).filter(|&byte| byte != b'\t') {
            assert_eq!(
                writer.field(b"a", &[b'v', byte, b'w']),
                Err(UnwritableField),
                "{byte}"
            );
        }
        assert_eq!(writer.field(b"a", b""), Ok(()));
        writer.finish();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\na: \r\n\r\n");
    }

    #[test]
    fn chunk_sizes_stand_at_the_end() {
        for (size, line) in [
            (0, "0\r\n"),
            (9, "9\r\n"),
            (10, "a\r\n"),
            (0x1234, "1234\r\n"),
            (usize::MAX, "ffffffffffffffff\r\n"),
        ] {
            let mut out = [0; CHUNK_SIZE_LINE_MAX];
            let bytes = chunk_size_line(size, &mut out);
            assert_eq!(&out[CHUNK_SIZE_LINE_MAX - bytes..], line.as_bytes());
        }
    }
}
