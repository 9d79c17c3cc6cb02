//! What travels on the wire, as pure functions and small state machines: HTTP/1.1 heads and bodies,
//! server-sent events, the few JSON members the gateway looks at, and the dialects of the providers.
//!
//! No socket, no clock, no `unsafe`. Everything here can be driven byte by byte, and gives the same
//! answer for every way of splitting its input.
#![forbid(unsafe_code)]

pub mod body;
pub mod dialect;
pub mod encode;
pub mod head;
pub mod http2;
pub mod json;
pub mod sse;
pub mod translate;
pub mod websocket;
