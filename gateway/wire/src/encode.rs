//! Writing heads and chunk framing. Whatever comes from outside is checked again here, by the writer.

/// Builds a head in a reused buffer.
#[derive(Debug)]
pub struct HeadWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// A field that must not be written: a control character, or a name that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwritableField;

impl<'a> HeadWriter<'a> {
    /// `METHOD target HTTP/1.1`. The buffer is cleared first.
    pub fn request(out: &'a mut Vec<u8>, method: &str, target_parts: &[&[u8]]) -> Self {
        todo!("{out:?} {method} {target_parts:?}")
    }

    /// `HTTP/1.1 status reason`. The buffer is cleared first.
    pub fn response(out: &'a mut Vec<u8>, status: u16) -> Self {
        todo!("{out:?} {status}")
    }

    /// One field.
    ///
    /// # Errors
    /// The value has a byte below 0x20 other than HTAB, or 0x7f; or the name is not a token. Nothing was written then.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), UnwritableField> {
        todo!("{name:?} {value:?} {:?}", self.out)
    }

    /// One field whose name and value are known to be clean (constants, digits).
    pub fn known(&mut self, name: &str, value: &str) {
        todo!("{name} {value}")
    }

    /// One field with a decimal value.
    pub fn number(&mut self, name: &str, value: u64) {
        todo!("{name} {value}")
    }

    /// The empty line that ends the head.
    pub fn finish(self) {
        todo!()
    }
}

/// The most bytes that `chunk_size_line` writes: 16 hexadecimal digits and CRLF.
pub const CHUNK_SIZE_LINE_MAX: usize = 18;

/// Writes `HEX CRLF` at the END of `out` and returns how many bytes it took, so that it can stand right before
/// the payload in a buffer with headroom.
pub fn chunk_size_line(payload_bytes: usize, out: &mut [u8; CHUNK_SIZE_LINE_MAX]) -> usize {
    todo!("{payload_bytes} {out:?}")
}

/// The reason phrase of a status (RFC 9110), empty for an unknown one.
pub fn reason(status: u16) -> &'static str {
    todo!("{status}")
}
