//! `cargo xtask bench`: CPU per unit of work of the gateway and its peers.

use crate::Outcome;

/// Runs the scenarios.
pub(crate) fn run(_args: &[String]) -> Outcome {
    Err("the scenarios are not part of this checkout".into())
}
