//! codex-relay.
