//! The grammar of a head, read byte by byte from the left: names the first rule that is broken.
//!
//! This is not the hot path. It judges heads that are not complete yet, and finds out what is wrong
//! with one that the tokeniser refused. Because it stops at the first wrong byte, a head that comes
//! in pieces is refused for the same reason as one that comes at once.

use std::ops::RangeInclusive;

use super::{FIELDS_CEILING, FramingError, HEAD_BYTES_CEILING, HeadLimits, Method, target};

/// What the first line of the head has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartLine {
    /// `METHOD SP target SP HTTP/1.x`
    Request {
        /// The longest target allowed.
        target_bytes_max: usize,
    },
    /// `HTTP/1.x SP status [ SP reason ]`
    Response,
}

/// As many bytes as are tested at once.
const STRETCH_BYTES: usize = 16;

/// Why reading stopped before the end of the head.
enum Stop {
    /// So far nothing is wrong.
    Incomplete,
    Broken(FramingError),
}

impl From<FramingError> for Stop {
    fn from(error: FramingError) -> Self {
        Self::Broken(error)
    }
}

/// The head that begins at `start`: is there an error in it? `whole`: its end is known to be there.
pub(super) fn verdict(
    buffer: &[u8],
    start: usize,
    start_line: StartLine,
    limits: &HeadLimits,
    whole: bool,
) -> Result<(), FramingError> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    let within = &buffer[..buffer.len().min(head_bytes_max)];
    let mut reader = Reader {
        head: within,
        at: start.min(within.len()),
    };
    let read = match start_line {
        StartLine::Request { target_bytes_max } => reader.request_line(target_bytes_max),
        StartLine::Response => reader.status_line(),
    };
    let read = read.and_then(|()| reader.field_lines(limits.fields_max.min(FIELDS_CEILING)));
    match read {
        Err(Stop::Broken(error)) => Err(error),
        Err(Stop::Incomplete) if !whole && buffer.len() >= head_bytes_max => {
            Err(FramingError::HeadTooLarge)
        }
        Ok(()) | Err(Stop::Incomplete) => Ok(()),
    }
}

struct Reader<'h> {
    head: &'h [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.head.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.peek()? != wanted {
            return Err(self.misplaced());
        }
        self.at += 1;
        Ok(())
    }

    /// What is wrong with a byte that must not stand here: a line break may be a wrong one besides.
    fn misplaced(&mut self) -> Stop {
        if let Some(b'\r' | b'\n') = self.head.get(self.at)
            && let Err(stop) = self.line_break()
        {
            return stop;
        }
        FramingError::Malformed.into()
    }

    /// Bytes up to the first that is not one of these.
    fn skip(&mut self, is_one: impl Fn(u8) -> bool) {
        let rest = &self.head[self.at..];
        self.at += rest
            .iter()
            .position(|&byte| !is_one(byte))
            .unwrap_or(rest.len());
    }

    /// At a CR or LF: `Ok` behind a CRLF.
    fn line_break(&mut self) -> Result<(), Stop> {
        if self.peek()? == b'\r' {
            self.at += 1;
            if self.peek()? == b'\n' {
                self.at += 1;
                return Ok(());
            }
        }
        Err(FramingError::BareLineBreak.into())
    }

    fn request_line(&mut self, target_bytes_max: usize) -> Result<(), Stop> {
        let method = self.method()?;
        let target_start = self.at;
        self.skip(|byte| !matches!(byte, b' ' | b'\r' | b'\n'));
        let target = &self.head[target_start..self.at];
        if method.is_some() {
            target::check_bytes(target, target_bytes_max)?;
        }
        if self.peek()? != b' ' {
            self.line_break()?;
            // `METHOD target` alone is HTTP/0.9.
            return Err(FramingError::VersionNotSupported.into());
        }
        if let Some(method) = method {
            target::check(method, target, target_bytes_max)?;
        }
        self.at += 1;
        self.version()?;
        match (self.peek()?, method) {
            (b'\r' | b'\n', Some(_)) => self.line_break(),
            (_, Some(_)) => Err(self.misplaced()),
            (_, None) => Err(FramingError::MethodRefused.into()),
        }
    }

    /// Reads a method that is relayed and the space behind it. `PRI` passes for now, as `None`: it
    /// begins the preface of HTTP/2 (RFC 9113 section 3.4), which deserves the answer about versions.
    fn method(&mut self) -> Result<Option<Method>, Stop> {
        let start = self.at;
        self.skip(is_token_byte);
        if self.at - start > "OPTIONS".len() {
            return Err(FramingError::MethodRefused.into());
        }
        match self.peek()? {
            b' ' | b'\t' if self.at == start => return Err(FramingError::FoldedLine.into()),
            b' ' => {}
            _ => return Err(self.misplaced()),
        }
        let method = &self.head[start..self.at];
        self.at += 1;
        match Method::of_token(method) {
            None if method != b"PRI" => Err(FramingError::MethodRefused.into()),
            method => Ok(method),
        }
    }

    /// `HTTP/1.0` or `HTTP/1.1`.
    fn version(&mut self) -> Result<(), Stop> {
        for &byte in b"HTTP/" {
            self.expect(byte)?;
        }
        self.version_digit(b'1'..=b'1')?;
        self.expect(b'.')?;
        self.version_digit(b'0'..=b'1')
    }

    fn version_digit(&mut self, spoken: RangeInclusive<u8>) -> Result<(), Stop> {
        match self.peek()? {
            digit if spoken.contains(&digit) => self.at += 1,
            b'0'..=b'9' => return Err(FramingError::VersionNotSupported.into()),
            _ => return Err(self.misplaced()),
        }
        Ok(())
    }

    fn status_line(&mut self) -> Result<(), Stop> {
        self.version()?;
        self.expect(b' ')?;
        for valid in [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] {
            if !valid.contains(&self.peek()?) {
                return Err(self.misplaced());
            }
            self.at += 1;
        }
        match self.peek()? {
            b'\r' | b'\n' => self.line_break(),
            b' ' => self.rest_of_line(),
            _ => Err(FramingError::Malformed.into()),
        }
    }

    /// Field lines and the empty line that ends the head.
    fn field_lines(&mut self, fields_max: usize) -> Result<(), Stop> {
        let mut fields = 0;
        loop {
            match self.peek()? {
                b'\r' | b'\n' => return self.line_break(),
                b' ' | b'\t' => return Err(FramingError::FoldedLine.into()),
                _ => {}
            }
            fields += 1;
            if fields > fields_max {
                return Err(FramingError::TooManyFields.into());
            }
            self.field_name()?;
            self.rest_of_line()?;
        }
    }

    /// A name and its colon.
    fn field_name(&mut self) -> Result<(), Stop> {
        let start = self.at;
        self.skip(is_token_byte);
        match self.peek()? {
            b':' if self.at > start => self.at += 1,
            b':' | b' ' | b'\t' => return Err(FramingError::SpaceBeforeColon.into()),
            byte if byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n') => {
                return Err(FramingError::ControlCharacter.into());
            }
            _ => return Err(self.misplaced()),
        }
        Ok(())
    }

    /// A field value or a reason phrase (RFC 9110 section 5.5) and the line break behind it.
    fn rest_of_line(&mut self) -> Result<(), Stop> {
        // A head that comes in drips is read anew with each of them, and nearly all of it is this. Without an early exit the
        // test of a stretch takes vector instructions.
        let stretches = self.head[self.at..].chunks_exact(STRETCH_BYTES);
        let is_text = |stretch: &&[u8]| {
            let are_text = stretch.iter().map(|&byte| is_text_byte(byte));
            are_text.fold(true, |one, other| one & other)
        };
        self.at += STRETCH_BYTES * stretches.take_while(is_text).count();
        self.skip(is_text_byte);
        match self.peek()? {
            b'\r' | b'\n' => self.line_break(),
            _ => Err(FramingError::ControlCharacter.into()),
        }
    }
}

/// What stands in a field value or a reason phrase; `obs-text` too (RFC 9110 section 5.5).
fn is_text_byte(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}

/// `tchar` (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
