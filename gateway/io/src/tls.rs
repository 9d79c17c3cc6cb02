//! TLS on connected sockets: a [`Stream`](crate::Stream) that was secured reads and sends plaintext as before.
//!
//! rustls does the protocol (its unbuffered API), so that no connection owns buffers. It decrypts a record in the lease that the
//! kernel filled, and hands the plaintext out for as long as it takes to copy it: into the lease of the caller, together with that
//! of the records around it. Messages are encrypted into a lease that is given back once it was sent. What a connection keeps
//! between two operations is rustls' own state (about 4 KiB) and, for as long as there is one, the beginning of a record.
//!
//! Measured for events of 200 bytes and AES-256-GCM: 0.3 µs to decrypt one, 0.3 µs to encrypt one.

mod gate;
mod handshake;
mod secured;
mod session;

pub use gate::HandshakeGate;
pub(crate) use secured::Tls;

use crate::socket::{Interrupt, IoError};
use std::io;

/// The protocol that both sides have agreed to speak (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// They did not talk about it.
    None,
}

/// The version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

/// What a handshake has brought.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The protocol above.
    pub alpn: Alpn,
    /// The version.
    pub version: TlsVersion,
    /// An earlier session went on.
    pub resumed: bool,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum TlsError {
    /// It was interrupted, by the deadline for example.
    Interrupted(Interrupt),
    /// The connection broke, or its peer ended it in between (`UnexpectedEof`).
    Socket(io::Error),
    /// One side has refused the other.
    Rejected(rustls::Error),
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interrupted(reason) => write!(out, "interrupted: {reason:?}"),
            Self::Socket(error) => error.fmt(out),
            Self::Rejected(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<IoError> for TlsError {
    fn from(error: IoError) -> Self {
        match error {
            IoError::Interrupted(reason) => Self::Interrupted(reason),
            IoError::Socket(error) => Self::Socket(error),
        }
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Rejected(error)
    }
}
