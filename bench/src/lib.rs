//! Lean programs that measure a proxy: a paced upstream, a load generator that verifies every byte, and the floor.
//!
//! - `bench-upstream` answers as a provider would: JSON of a given size, or an SSE stream at a given pace.
//! - `bench-load` sends requests through a proxy, checks what comes back and measures how long it took.
//! - `bench-floor` relays bytes blindly: no proxy that looks at what it forwards can be cheaper.
//! - `bench-flood` does what others must not suffer from: handshakes without end, streams begun and reset.
//!
//! Each is one thread over epoll, so that on a small machine the core beside the proxy's can hold both the
//! upstream and the load. The programs parse and check HTTP with code of their own: had they the gateway's,
//! a mistake in it would be made on both sides and go unseen.
//!
//! `cargo xtask bench` runs them; each explains its options under `--help`.

pub mod answer;
pub mod channel;
pub mod clock;
pub mod event;
pub mod flood;
pub mod floor;
pub mod framing;
pub mod histogram;
pub mod load;
pub mod net;
pub mod pacing;
pub mod plan;
pub mod poller;
pub mod tls;
pub mod upstream;
