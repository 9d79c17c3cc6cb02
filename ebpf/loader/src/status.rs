//! What is in force, seen from outside of a running gateway.

use crate::{Missing, Places};
use relay_ebpf_abi::counter::Counter;
use std::path::PathBuf;
use std::time::Duration;

/// What is pinned, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version of maps and programs that this build speaks; only its pins are looked at.
    pub abi_version: u32,
    /// The directory of the pins.
    pub pins: PathBuf,
    /// The gateway's cgroup, if it exists.
    pub cgroup: Option<PathBuf>,
    /// The process that uses the pins.
    pub held_by: Option<u32>,
    /// Links, by name of their program. Empty: nothing is attached.
    pub links: Vec<LinkStatus>,
    /// Time for which counts are still believed; caps are enforced as long.
    pub lease: Option<Duration>,
    /// Live counts that are not zero.
    pub live: Vec<LiveCount>,
    /// All totals.
    pub counters: Vec<(Counter, u64)>,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Name of its program.
    pub name: String,
    /// The kernel's number of the program.
    pub program_id: u32,
    /// Where it is attached.
    pub attached_to: AttachedTo,
}

/// Where a link is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedTo {
    /// The gateway's cgroup.
    Cgroup,
    /// Another one, by its number.
    OtherCgroup(u64),
    /// One that was removed since: it does nothing any more.
    Nothing,
}

/// A live count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCount {
    /// The map.
    pub map: &'static str,
    /// Which one: a number, an address, or an address with the destination.
    pub of: String,
    /// Connections.
    pub connections: u64,
}

/// What is in force. Needs the right to read the pins.
///
/// # Errors
/// No pins can be read.
pub fn status(_places: &Places) -> Result<Status, Missing> {
    Err(Missing {
        piece: "program",
        detail: "there are none in this build".to_owned(),
    })
}

/// Takes the programs away: removes all pins of this version. Returns what was removed.
///
/// # Errors
/// A gateway uses them, or the kernel's.
pub fn detach(_places: &Places) -> Result<Vec<PathBuf>, Missing> {
    Err(Missing {
        piece: "program",
        detail: "there are none in this build".to_owned(),
    })
}
