//! The kernel's side of the promises: loads the programs, attaches them to the gateway's cgroup, pins them, keeps their maps.
//!
//! An account's connections leave from its own addresses, and nobody holds more connections than its cap: the programs see to
//! it at `connect(2)`, at `setsockopt(2)` and at the handshake, whatever user space does wrong. Maps and links are pinned
//! together, so that both stay true while no gateway runs.

#![allow(unsafe_code)] // mapped maps and the system calls that aya does not make; every block says why it is sound

mod bpf;
mod bytes;
mod canary;
mod capability;
mod cgroup;
mod events;
mod kernel;
mod link;
mod list;
mod live;
mod map;
mod object;
mod option;
mod pins;
mod plan;
mod ports;
mod publish;
mod reconcile;
mod sock_diag;
mod status;

pub use capability::drop_capabilities;
pub use kernel::{Kernel, LEASE_PERIOD};
pub use live::Live;
pub use plan::{AccountPlan, ControlDestination, Network, NumberedAddress, Plan, TenantPlan};
pub use ports::{PathPorts, Surveyor};
pub use reconcile::{Drift, Reconciler};
pub use relay_ebpf_abi as abi;
pub use status::{AttachedTo, LinkStatus, LiveCount, Status, detach, status};

use std::fmt;
use std::path::PathBuf;

/// Where the programs are attached and pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The gateway's own cgroup (v2). `None`: the group `codex-relay` below the one that this process is in.
    pub cgroup: Option<PathBuf>,
    /// A directory on a bpffs; made if it is missing. Everything is pinned below it, in a directory for the ABI version.
    pub pins: PathBuf,
}

/// What the kernel side does, each part of which can be missing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Connections leave from their account's addresses only.
    EgressPin,
    /// Caps on connections are counted by the kernel.
    ConnectionCaps,
    /// New connections go to the worker with the fewest.
    Steering,
    /// Upstream connections are reported with their figures.
    Telemetry,
    /// Counts are compared with the sockets that exist.
    Reconciliation,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::EgressPin,
        Self::ConnectionCaps,
        Self::Steering,
        Self::Telemetry,
        Self::Reconciliation,
    ];

    /// Its name in log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EgressPin => "egress_pin",
            Self::ConnectionCaps => "connection_caps",
            Self::Steering => "steering",
            Self::Telemetry => "telemetry",
            Self::Reconciliation => "reconciliation",
        }
    }
}

/// The first thing that was missing, and what to do about it; in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which piece, from a closed set: for the whole, in the order in which they are tried, `plan`, `cgroup2`, `cgroup`,
    /// `bpffs`, `in_use`, `cgroup` again if others are in it, `capability`, `link` if programs of another gateway are attached
    /// to it, `map`, `program`, `link`, `canary`; later also `steering`, `reconciliation` and `sock_diag`.
    pub piece: &'static str,
    /// What was tried, what the kernel said, and what helps.
    pub detail: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.piece, self.detail)
    }
}

impl std::error::Error for Missing {}
