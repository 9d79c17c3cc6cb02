//! codex-relay.
pub mod config;
pub mod headers;
pub mod keys;

use config::{Policy, Problem};
use std::process::ExitCode;

/// Serves until told to stop.
pub fn run(_policy: Policy, warnings: Vec<Problem>) -> ExitCode {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    ExitCode::SUCCESS
}

/// The demo.
pub mod demo {
    use std::net::SocketAddr;
    use std::process::ExitCode;

    /// Serves until told to stop.
    pub fn run(_listen: Option<SocketAddr>) -> ExitCode {
        ExitCode::SUCCESS
    }
}
