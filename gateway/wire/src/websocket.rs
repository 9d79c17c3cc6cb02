//! WebSocket (RFC 6455) as somebody sees it through whose hands it passes: the handshake's two values, where frames begin and
//! end, and the few frames of one's own.

mod frame;
mod handshake;
mod own;
#[cfg(test)]
mod tests;

pub use frame::{Ended, FrameReader, HEADER_BYTES_MAX, Mask, Piece, Sender, Violation};
pub use handshake::{ACCEPT_BYTES, accept_value, is_key};
pub use own::{CLOSE_FRAME_BYTES_MAX, close_frame, text_frame};

/// The version of the protocol (RFC 6455 section 4.1).
pub const VERSION: &str = "13";

/// Codes with which a connection is closed (RFC 6455 section 7.4.1).
pub mod code {
    /// All has been said.
    pub const NORMAL: u16 = 1000;
    /// The endpoint goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The other side has broken the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Never sent: stands for a close without a code.
    pub const NO_STATUS: u16 = 1005;
    /// A message is against the endpoint's rules.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message is too large.
    pub const TOO_BIG: u16 = 1009;
    /// Something unexpected has happened.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// Another attempt later on may do better (registered with IANA).
    pub const TRY_AGAIN_LATER: u16 = 1013;
}
