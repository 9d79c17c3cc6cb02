//! codex-relay.
pub mod config;
pub mod headers;
pub mod keys;
