//! HTTP/1.1 as the two ends of the gateway see it: strict, because what the gateway writes has no excuse.

use std::fmt::Write as _;

/// The head of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Request line or status line.
    pub start_line: String,
    /// Names as they came, values without surrounding white space.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Bytes of the head with its empty line.
    pub bytes: usize,
}

impl Head {
    /// The head at the start of `buffer`, `None` while it is not complete.
    ///
    /// # Errors
    /// Says what is wrong with a head that breaks RFC 9112.
    pub fn parse(buffer: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = find(buffer, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = &buffer[..end];
        let mut lines = split_lines(text).into_iter();
        let start_line = lines.next().ok_or("no start line")?;
        let start_line = String::from_utf8(start_line.to_vec()).map_err(|e| e.to_string())?;
        let mut fields = Vec::new();
        for line in lines {
            if line.iter().any(|byte| *byte < 0x20 && *byte != b'\t') {
                return Err(format!("control character in {:?}", lossy(line)));
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or_else(|| format!("no colon in {:?}", lossy(line)))?;
            let name = String::from_utf8(line[..colon].to_vec()).map_err(|e| e.to_string())?;
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(format!("bad field name {name:?}"));
            }
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
        Ok(Some(Self {
            start_line,
            fields,
            bytes: end + 4,
        }))
    }

    /// All values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(same)
            .map(|field| field.1.as_slice())
            .collect()
    }

    /// The value of a field that may be there once.
    ///
    /// # Panics
    /// If the field is there twice or is not UTF-8.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} is there {} times", values.len());
        values
            .first()
            .map(|value| std::str::from_utf8(value).expect("a value in UTF-8"))
    }

    /// The status of a response head.
    ///
    /// # Panics
    /// If the start line is not a status line.
    pub fn status(&self) -> u16 {
        let line = &self.start_line;
        let rest = line
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| line.strip_prefix("HTTP/1.0 "))
            .or_else(|| line.strip_prefix("HTTP/2 "));
        let code = rest
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("not a status line: {line:?}"))
    }

    /// Framing of a request with this head.
    ///
    /// # Errors
    /// Says which rule of RFC 9112 section 6 it breaks.
    pub fn request_framing(&self) -> Result<Framing, String> {
        match self.declared_framing()? {
            Some(framing) => Ok(framing),
            None => Ok(Framing::Length(0)),
        }
    }

    /// Framing of a response with this head, to a HEAD request or another.
    ///
    /// # Errors
    /// Says which rule of RFC 9112 section 6 it breaks.
    pub fn response_framing(&self, to_head: bool) -> Result<Framing, String> {
        let status = self.status();
        let declared = self.declared_framing()?;
        if status < 200 || status == 204 {
            return match declared {
                None => Ok(Framing::Length(0)),
                Some(_) => Err(format!("a {status} declares a body")),
            };
        }
        if to_head || status == 304 {
            return Ok(Framing::Length(0));
        }
        Ok(declared.unwrap_or(Framing::UntilClose))
    }

    fn declared_framing(&self) -> Result<Option<Framing>, String> {
        let lengths = self.values("content-length");
        let codings = self.values("transfer-encoding");
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([length], []) => {
                let length = std::str::from_utf8(length).map_err(|e| e.to_string())?;
                if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(format!("Content-Length: {length:?}"));
                }
                Ok(Some(Framing::Length(
                    length.parse().map_err(|_| "too long".to_owned())?,
                )))
            }
            ([], [coding]) if *coding == b"chunked" => Ok(Some(Framing::Chunked)),
            _ => Err(format!(
                "{} Content-Length, {} codings",
                lengths.len(),
                codings.len()
            )),
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Takes the payload of one body out of what was read.
#[derive(Debug)]
pub struct BodyDecoder {
    framing: Framing,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data(u64),
    ChunkSize,
    AfterChunk,
    AfterLastChunk,
    Complete,
}

impl BodyDecoder {
    /// At the start of a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(length) => State::Data(length),
            Framing::UntilClose => State::Data(u64::MAX),
            Framing::Chunked => State::ChunkSize,
        };
        Self { framing, state }
    }

    /// Appends the payload in `input` to `payload`; returns how many bytes of input were used.
    ///
    /// # Errors
    /// Says what is wrong with the chunk framing.
    pub fn feed(&mut self, input: &[u8], payload: &mut Vec<u8>) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Complete => return Ok(used),
                State::Data(left) => {
                    let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    payload.extend_from_slice(&rest[..take]);
                    used += take;
                    let left = left - take as u64;
                    self.state = match (left, self.framing) {
                        (0, Framing::Chunked) => State::AfterChunk,
                        (0, _) => State::Complete,
                        _ => State::Data(left),
                    };
                    if left > 0 {
                        return Ok(used);
                    }
                }
                State::ChunkSize | State::AfterChunk | State::AfterLastChunk => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        return Ok(used);
                    };
                    let line = rest[..end]
                        .strip_suffix(b"\r")
                        .ok_or("bare LF in chunk framing")?;
                    self.state = self.line(line)?;
                    used += end + 1;
                }
            }
        }
    }

    fn line(&self, line: &[u8]) -> Result<State, String> {
        match (self.state, line) {
            (State::AfterChunk, b"") => Ok(State::ChunkSize),
            (State::AfterLastChunk, b"") => Ok(State::Complete),
            (State::ChunkSize, line) => {
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size).map_err(|e| e.to_string())?;
                if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(format!("chunk size {size:?}"));
                }
                let size = u64::from_str_radix(size, 16).map_err(|e| e.to_string())?;
                Ok(if size == 0 {
                    State::AfterLastChunk
                } else {
                    State::Data(size)
                })
            }
            (_, line) => Err(format!("{:?} where an empty line has to be", lossy(line))),
        }
    }

    /// All of the body has come.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The end of the connection is this body's end.
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }
}

/// One chunk.
pub fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A response with a body of known length.
pub fn response(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Where `needle` first stands in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// For messages.
pub fn lossy(bytes: &[u8]) -> String {
    let mut shown: String = bytes[..bytes.len().min(2000)]
        .escape_ascii()
        .map(char::from)
        .collect();
    if bytes.len() > 2000 {
        let _ = write!(shown, "… ({} bytes)", bytes.len());
    }
    shown
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}
