//! As much of HTTP/1.1 framing as the two ends need, and no more lenient than that: what a proxy under measurement
//! sends must be right to the letter, or the run fails.

/// Sixteen hexadecimal digits.
#[must_use]
pub fn hex16(value: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|place| DIGITS[(value >> (60 - 4 * place)) as usize & 15])
}

/// Reads what [`hex16`] wrote.
#[must_use]
pub fn parse_hex16(digits: &[u8]) -> Option<u64> {
    if digits.len() != 16 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |value, digit| Some(value << 4 | hex_digit(*digit)?))
}

fn hex_digit(digit: u8) -> Option<u64> {
    char::from(digit).to_digit(16).map(u64::from)
}

/// How long a message's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// By Content-Length; 0 where there is neither field.
    Known(usize),
    /// By the chunked coding.
    Chunked,
}

/// What the fields of a head say that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Length of the body.
    pub length: BodyLength,
    /// The connection ends with this message.
    pub closes: bool,
    /// The body is a stream of events.
    pub event_stream: bool,
}

impl Fields {
    /// Reads the fields of a head.
    ///
    /// # Errors
    /// The framing is ambiguous or unknown.
    pub fn read(headers: &[httparse::Header<'_>]) -> Result<Self, String> {
        let mut length = None;
        let mut closes = false;
        let mut event_stream = false;
        for header in headers {
            let name = header.name;
            let value = header.value;
            let framing = if name.eq_ignore_ascii_case("content-length") {
                let digits = std::str::from_utf8(value).ok();
                let bytes = digits
                    .and_then(|digits| digits.parse().ok())
                    .ok_or("the Content-Length is not a number")?;
                BodyLength::Known(bytes)
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("the Transfer-Encoding is not chunked".into());
                }
                BodyLength::Chunked
            } else {
                closes |=
                    name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case(b"close");
                event_stream |= name.eq_ignore_ascii_case("content-type")
                    && value.starts_with(b"text/event-stream");
                continue;
            };
            if length.replace(framing).is_some() {
                return Err("the body's length is given twice".into());
            }
        }
        Ok(Self {
            length: length.unwrap_or(BodyLength::Known(0)),
            closes,
            event_stream,
        })
    }
}

/// Takes the chunked coding (RFC 9112, 7.1) off, piece by piece. Extensions and trailers are not expected and refused.
#[derive(Clone, Debug, Default)]
pub struct ChunkDecoder {
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    SizeStart,
    Size(usize),
    SizeLf(usize),
    Data(usize),
    DataCr,
    DataLf,
    EndCr,
    EndLf,
    Done,
}

/// Longer chunks are taken for a mistake.
const CHUNK_BYTES_MAX: usize = 1 << 30;

impl ChunkDecoder {
    /// Decodes `input`, gives the data to `data` and returns how many bytes were used: all, unless the body has ended.
    ///
    /// # Errors
    /// The coding is broken, or `data` says that the data is wrong.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut at = 0;
        while at < input.len() && self.state != ChunkState::Done {
            if let ChunkState::Data(left) = self.state {
                let here = left.min(input.len() - at);
                data(&input[at..at + here])?;
                at += here;
                self.state = match left - here {
                    0 => ChunkState::DataCr,
                    left => ChunkState::Data(left),
                };
            } else {
                self.state = self.state.after(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// Has the last chunk been seen whole?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }
}

impl ChunkState {
    fn after(self, byte: u8) -> Result<Self, String> {
        let digit = hex_digit(byte).map(|digit| digit as usize);
        match (self, byte, digit) {
            (Self::SizeStart, _, Some(digit)) => Ok(Self::Size(digit)),
            (Self::Size(size), _, Some(digit)) if size <= CHUNK_BYTES_MAX >> 4 => {
                Ok(Self::Size(size << 4 | digit))
            }
            (Self::Size(size), b'\r', _) => Ok(Self::SizeLf(size)),
            (Self::SizeLf(0), b'\n', _) => Ok(Self::EndCr),
            (Self::SizeLf(size), b'\n', _) => Ok(Self::Data(size)),
            (Self::DataCr, b'\r', _) => Ok(Self::DataLf),
            (Self::DataLf, b'\n', _) => Ok(Self::SizeStart),
            (Self::EndCr, b'\r', _) => Ok(Self::EndLf),
            (Self::EndLf, b'\n', _) => Ok(Self::Done),
            _ => Err(format!(
                "chunked coding: {self:?} cannot be followed by {:?}",
                char::from(byte)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], piece_bytes: usize) -> Result<(Vec<u8>, usize, bool), String> {
        let mut decoder = ChunkDecoder::default();
        let mut data = Vec::new();
        let mut used = 0;
        for piece in input.chunks(piece_bytes) {
            used += decoder.decode(piece, |bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok((data, used, decoder.is_done()))
    }

    #[test]
    fn chunks_are_decoded_however_they_are_cut() {
        let input = b"5\r\nhello\r\n0f\r\n, chunked world\r\n0\r\n\r\n";
        for piece_bytes in 1..=input.len() {
            let decoded = decode(input, piece_bytes).unwrap();
            assert_eq!(
                decoded,
                (b"hello, chunked world".to_vec(), input.len(), true)
            );
        }
    }

    #[test]
    fn bytes_after_the_end_are_left() {
        let (_, used, done) = decode(b"1\r\nx\r\n0\r\n\r\nHTTP/1.1", 64).unwrap();
        assert_eq!((used, done), (11, true));
    }

    #[test]
    fn unfinished_is_not_done() {
        let input = b"5\r\nhello\r\n0\r\n\r\n";
        for end in 0..input.len() {
            assert!(!decode(&input[..end], 64).unwrap().2, "after {end} bytes");
        }
    }

    #[test]
    fn broken_coding_is_refused() {
        for input in [
            &b"\r\n"[..],
            b"5\nhello",
            b"5;x=1\r\nhello",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"fffffffff\r\n",
            b"g\r\n",
        ] {
            assert!(decode(input, 64).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn hex_comes_back() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(parse_hex16(&hex16(value)), Some(value));
        }
        assert_eq!(&hex16(0xab), b"00000000000000ab");
        assert_eq!(parse_hex16(b"00000000000000ag"), None);
    }

    #[test]
    fn length_must_be_given_once() {
        let header = |name, value: &'static str| httparse::Header {
            name,
            value: value.as_bytes(),
        };
        let fields = Fields::read(&[
            header("Content-Type", "text/event-stream; charset=utf-8"),
            header("Transfer-Encoding", "chunked"),
            header("Connection", "close"),
        ]);
        let expected = Fields {
            length: BodyLength::Chunked,
            closes: true,
            event_stream: true,
        };
        assert_eq!(fields, Ok(expected));
        let twice = [
            header("content-length", "1"),
            header("transfer-encoding", "chunked"),
        ];
        assert!(Fields::read(&twice).is_err());
        assert!(Fields::read(&[header("content-length", "x")]).is_err());
    }
}
