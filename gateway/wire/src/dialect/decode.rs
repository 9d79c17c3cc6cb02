//! Undoing the content coding of a request body, piece by piece, into a JSON scan.

use super::ScanError;
use crate::json::JsonScan;
use flate2::write::MultiGzDecoder;
use std::fmt;
use std::io::{self, Write};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// RFC 8878 section 3.1.1.1.2 recommends that decoders support windows of 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const DECODED_PIECE_BYTES: usize = 16 * 1024;

/// A JSON scan behind the decoder of one content coding.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per request, nearly always of this variant; a box would cost an allocation"
)]
pub(super) enum Source {
    Identity(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Zstd(Box<Zstd>),
}

/// Takes what was decoded.
#[derive(Debug)]
pub(super) struct Sink {
    scan: JsonScan,
    decoded_bytes: u64,
    decoded_bytes_max: u64,
    error: Option<ScanError>,
}

pub(super) struct Zstd {
    sink: Sink,
    /// `None` if there was no memory for it.
    decoder: Option<Decoder<'static>>,
    decoded: Vec<u8>,
    /// Between two frames.
    frame_ended: bool,
}

impl Source {
    pub(super) fn identity(scan: JsonScan) -> Self {
        Self::Identity(Sink::new(scan, u64::MAX))
    }

    pub(super) fn gzip(scan: JsonScan, decoded_bytes_max: u64) -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Sink::new(
            scan,
            decoded_bytes_max,
        ))))
    }

    pub(super) fn zstd(scan: JsonScan, decoded_bytes_max: u64) -> Self {
        let decoder = Decoder::new().and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
            Ok(decoder)
        });
        Self::Zstd(Box::new(Zstd {
            sink: Sink::new(scan, decoded_bytes_max),
            decoder: decoder.ok(),
            decoded: Vec::with_capacity(DECODED_PIECE_BYTES),
            frame_ended: true,
        }))
    }

    /// What is on the wire is the text itself.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity(_))
    }

    pub(super) fn scan(&self) -> &JsonScan {
        &self.sink().scan
    }

    /// How many bytes were decoded so far.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.sink().decoded_bytes
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        let fed = match self {
            Self::Identity(sink) => return sink.take(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
            Self::Zstd(zstd) => zstd.feed(piece),
        };
        self.judge(&fed)
    }

    /// The input is over: it has to be complete.
    pub(super) fn finish(&mut self) -> Result<(), ScanError> {
        let finished = match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstd(zstd) if zstd.frame_ended => Ok(()),
            Self::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        self.judge(&finished)
    }

    /// Decoders report errors of the sink as their own.
    fn judge(&self, result: &io::Result<()>) -> Result<(), ScanError> {
        match (self.sink().error, result) {
            (Some(error), _) => Err(error),
            (None, Err(_)) => Err(ScanError::Compression),
            (None, Ok(())) => Ok(()),
        }
    }

    fn sink(&self) -> &Sink {
        match self {
            Self::Identity(sink) => sink,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(zstd) => &zstd.sink,
        }
    }
}

impl Sink {
    fn new(scan: JsonScan, decoded_bytes_max: u64) -> Self {
        Self {
            scan,
            decoded_bytes: 0,
            decoded_bytes_max,
            error: None,
        }
    }

    fn take(&mut self, decoded: &[u8]) -> Result<(), ScanError> {
        let decoded_bytes = self.decoded_bytes + decoded.len() as u64;
        let taken = if decoded_bytes <= self.decoded_bytes_max {
            self.decoded_bytes = decoded_bytes;
            self.scan.feed(decoded).map_err(ScanError::from)
        } else {
            Err(ScanError::DecodedTooLarge)
        };
        self.error = taken.err();
        taken
    }
}

impl Write for Sink {
    fn write(&mut self, decoded: &[u8]) -> io::Result<usize> {
        self.take(decoded).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(decoded.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Zstd {
    fn feed(&mut self, piece: &[u8]) -> io::Result<()> {
        let decoder = self.decoder.as_mut().ok_or(io::ErrorKind::OutOfMemory)?;
        let mut input = InBuffer::around(piece);
        let mut may_have_more = false;
        while input.pos() < piece.len() || may_have_more {
            self.decoded.clear();
            let mut output = OutBuffer::around(&mut self.decoded);
            let hint = decoder.run(&mut input, &mut output)?;
            self.frame_ended = hint == 0;
            may_have_more = !self.frame_ended && output.pos() == output.capacity();
            self.sink.write_all(&self.decoded)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Zstd")
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}
