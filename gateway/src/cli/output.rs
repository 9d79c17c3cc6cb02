//! Where a listing goes, and in which form.

use super::EX_IOERR;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One object per line
    Json,
    /// As RFC 4180 has it, with a head
    Csv,
}

/// Standard output, in large pieces.
pub(super) fn stdout() -> impl Write {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// Says why not all of it was written, unless that is the wish of whoever reads it (`| head`).
pub(super) fn exit_code(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the output cannot be written: {error}");
            EX_IOERR.into()
        }
    }
}
