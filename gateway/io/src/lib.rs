//! The seam between the gateway and the kernel.
//!
//! The rest of the gateway sees [`Listener`], [`Stream`], [`Lease`] (a filled piece of a per-worker buffer
//! pool) and [`Wheel`] (deadlines), never the runtime behind them. All of it belongs to one thread.
//!
//! How bytes move: waiting goes through the ring (one poll entry, batched with all others of the thread into a
//! single `io_uring_enter`), moving is a direct `recv` or `send` that does not block. A wait therefore owns no
//! buffer: an idle stream costs none, dropping a wait is harmless, and the buffer that the kernel filled is the
//! one that is handed to `send`.
//!
//! Nothing here is cancelled in the sense of io_uring. A wait that must end early (a deadline, a client that is
//! gone) is ended by `shutdown(2)` on its socket, which completes it; the reason is kept beside the socket and
//! returned by every later operation on it.

#![allow(unsafe_code)] // the only crate on the data path with any; every block says why it is sound

mod either;
mod engine;
mod lease;
mod listener;
mod process;
mod socket;
mod sys;
mod wheel;

pub use either::{Either, either};
pub use engine::{Engine, Refused, pause, run, spawn};
pub use lease::{LARGE_LEASE_BYTES, Lease, Pool, SMALL_LEASE_BYTES};
pub use listener::{Listener, bind};
pub use process::{allowed_cores, forbid_core_dumps, pin_to_core, raise_descriptor_limit};
pub use socket::{Bulk, ConnectError, Interrupt, Interrupter, IoError, Received, Stream};
pub use wheel::Wheel;
