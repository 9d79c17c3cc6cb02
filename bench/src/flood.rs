//! What a proxy must bear from some clients without others feeling it.
//!
//! Floods are paced and lean: they run on the core of the load that measures what the others feel, and a flood that took all
//! of it would be felt there and not in the proxy.

use crate::clock::SECOND_NS;

mod handshakes;
mod resets;

pub use handshakes::Handshakes;
pub use resets::{Done, Resets};

/// Asked at least this often whether to go on.
const TURN_NS: u64 = SECOND_NS / 100;
