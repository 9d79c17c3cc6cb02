//! What clients speak, in figures of one worker that the control thread reads at any time.

use super::{Worker, add};
use relay_wire::http2::Flood;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is spoken on a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// How a stream of HTTP/2 ended that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// It was refused before anything was done for it: the client may try again elsewhere.
    Refused,
    /// The client reset it, or left.
    ResetByClient,
    /// The gateway reset it: the answer was cut.
    Cut,
    /// The gateway reset it: the request was malformed.
    Malformed,
}

impl StreamEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Refused,
        Self::ResetByClient,
        Self::Cut,
        Self::Malformed,
    ];

    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ResetByClient => "client",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
        }
    }
}

/// Why a connection of HTTP/2 was ended because of how much came, or was asked for, on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// The frames that came.
    Frames(Flood),
    /// Streams that had to be reset, or data that had to be kept: the protocol's own bounds.
    Protocol,
}

impl FloodKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Frames(Flood::Control),
        Self::Frames(Flood::WindowUpdate),
        Self::Frames(Flood::Reset),
        Self::Frames(Flood::SmallData),
        Self::Frames(Flood::HeaderBlock),
        Self::Protocol,
    ];

    /// A name for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frames(flood) => flood.as_str(),
            Self::Protocol => "protocol",
        }
    }
}

/// The figures.
#[derive(Default)]
pub struct Protocols {
    /// Connections, by protocol; without and with TLS.
    connections: [[AtomicU64; 2]; Protocol::ALL.len()],
    streams: AtomicU64,
    ends: [AtomicU64; StreamEnd::ALL.len()],
    floods: [AtomicU64; FloodKind::ALL.len()],
}

impl Protocols {
    /// Connections on which this was spoken.
    pub fn connections(&self, protocol: Protocol, is_secured: bool) -> u64 {
        self.connections[protocol as usize][usize::from(is_secured)].load(Ordering::Relaxed)
    }

    /// Streams of HTTP/2 that were begun.
    pub fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Streams of HTTP/2 that ended so.
    pub fn ended(&self, end: StreamEnd) -> u64 {
        self.ends[end as usize].load(Ordering::Relaxed)
    }

    /// Connections of HTTP/2 that were ended for this.
    pub fn floods(&self, kind: FloodKind) -> u64 {
        let of_kind = FloodKind::ALL.iter().zip(&self.floods);
        of_kind
            .filter(|(known, _)| **known == kind)
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl Worker {
    /// A client's connection turned out to speak this.
    pub fn note_protocol(&self, protocol: Protocol, is_secured: bool) {
        let by_protocol = &self.figures.protocols.connections[protocol as usize];
        add(&by_protocol[usize::from(is_secured)], 1);
    }

    /// A stream of HTTP/2 was begun.
    pub fn note_stream(&self) {
        add(&self.figures.protocols.streams, 1);
    }

    /// A stream of HTTP/2 ended before its end.
    pub fn note_stream_end(&self, end: StreamEnd) {
        add(&self.figures.protocols.ends[end as usize], 1);
    }

    /// A connection of HTTP/2 is ended because of a flood.
    pub fn note_flood(&self, kind: FloodKind) {
        let of_kind = FloodKind::ALL.iter().zip(&self.figures.protocols.floods);
        for (_, count) in of_kind.filter(|(known, _)| **known == kind) {
            add(count, 1);
        }
    }
}
