//! HTTP/2 as the two ends of the gateway speak it: [`Peer`] sends any frame, also those that break RFC 9113, and takes nothing
//! that does.

pub mod frame;
pub mod hpack;
mod huffman;
mod peer;
mod provider;
mod received;

pub use frame::{Frame, code, flag, kind, setting};
pub use hpack::Fields;
pub use peer::Peer;
pub use provider::{Http2Upstream, Options, ReceivedStream};
pub use received::Incoming;

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The windows before anybody has changed them (RFC 9113, section 6.9.2).
pub const WINDOW_BYTES: u32 = 65_535;

/// The longest payload before anybody has changed it (RFC 9113, section 4.2).
pub const FRAME_BYTES: usize = 16_384;
