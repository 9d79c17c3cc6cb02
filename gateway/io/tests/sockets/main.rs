//! The seam against the kernel: sockets of a worker, on each engine, and plain sockets at the other end.
//!
//! Nothing here waits for a fixed time: what must happen is waited for, until a limit that only a failing test reaches.
#![allow(clippy::unwrap_used, reason = "a test")]

mod certificates;
mod connect;
mod duplex;
mod listen;
mod pipe;
mod read;
mod rig;
mod send;
mod tls;
mod watch;
