//! Harness of the whole-program tests: the real binary, started on free ports of loopback, stands between a
//! [`RawClient`] that controls every byte it sends and a scripted [`Upstream`] that records every byte it
//! receives.
//!
//! Nothing here waits for a fixed time. Order between the three sides comes from [`Signal`]s and from
//! conditions that are waited for (until [`DEADLINE`], which is only reached by a failing test).

mod admin;
mod binary;
pub mod client;
pub mod config;
pub mod dead_end;
pub mod gateway;
pub mod http;
pub mod http2;
pub mod log;
pub mod mode;
pub mod openai;
pub mod pki;
mod process;
pub mod request;
pub mod signal;
pub mod tls;
pub mod transcripts;
pub mod upstream;
pub mod websocket;
pub mod wire;

pub use client::{Ending, RawClient, Response};
pub use config::{Account, Config, ListenerTls, Tenant};
pub use gateway::Gateway;
pub use mode::Mode;
pub use pki::{Authority, Identity, Leaf};
pub use process::raise_open_files_limit;
pub use request::Request;
pub use signal::{DEADLINE, Signal, eventually};
pub use tls::{TlsClient, TlsServer};
pub use upstream::{Exchange, Upstream};
pub use wire::Wire;
