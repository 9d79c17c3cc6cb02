//! What a peer's bytes on an HTTP/2 connection say about its intentions, without being decoded.
//!
//! The connection itself is `h2`'s, which obeys RFC 9113 and so does whatever a peer asks of it, however often. What is cheap to
//! ask for and costs something to do is counted here, in front of it (RFC 9113 section 10.5).

mod budget;
mod frame;
#[cfg(test)]
mod tests;
mod watch;

pub use watch::{Flood, FrameWatch, HEADER_BLOCK_BYTES_MAX, Unfinished};
