//! The kernel's side of the promises: loads the programs, attaches them to the gateway's cgroup, pins them, keeps their maps.
//!
//! An account's connections leave from its own addresses, and nobody holds more connections than its cap: the programs see to
//! it at `connect(2)`, at `setsockopt(2)` and at the handshake, whatever user space does wrong. Maps and links are pinned
//! together, so that both stay true while no gateway runs.

#![allow(unsafe_code)] // mapped maps and the system calls that aya does not make; every block says why it is sound

mod plan;
mod status;

pub use plan::{AccountPlan, ControlDestination, Network, Plan, TenantPlan};
pub use relay_ebpf_abi as abi;
pub use status::{AttachedTo, LinkStatus, LiveCount, Status, detach, status};

use relay_ebpf_abi::record::Event;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
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
    /// Which piece, from a closed set: `cgroup2`, `cgroup`, `bpffs`, `in_use`, `map`, `program`, `link`, `canary` …
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

/// The programs, attached. Dropping it closes descriptors and nothing else: what is pinned stays in force.
pub struct Kernel {}

/// Live counts, read from memory shared with the programs: a load each. Copies refer to the same counts; they stay mapped as
/// long as the process lives.
#[derive(Clone, Copy)]
pub struct Live {}

/// Compares counts with the sockets that exist. May be sent to a thread of its own.
pub struct Reconciler {}

/// Counts ports. May be sent to a thread of its own: the list of sockets can be long, and events do not wait for it.
pub struct Surveyor {}

/// What one comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Sockets that have a state.
    pub sockets: u64,
    /// Counts that did not match in this comparison and the one before, by the same amount, and were corrected.
    pub corrected: u64,
    /// By how much in all.
    pub connections: u64,
}

impl Kernel {
    /// Enters the cgroup with the whole process, loads, attaches (or replaces what is pinned), writes the plan into the maps,
    /// corrects the counts, and proves with a canary that an untagged connect is refused.
    ///
    /// Must be called before any socket that it should govern is made. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and the
    /// right to write to the cgroup and the pins.
    ///
    /// # Errors
    /// The first piece without which neither the egress pin nor the caps can be had. Parts that are missing beyond that are
    /// told by `missing`.
    pub fn establish(_places: &Places, _plan: &Plan) -> Result<Self, Missing> {
        Err(Missing {
            piece: "program",
            detail: "there are none in this build".to_owned(),
        })
    }

    /// Parts that could not be had, and why.
    pub fn missing(&self) -> &[(Feature, Missing)] {
        &[]
    }

    /// Steers connections between the workers' sockets of one listening address (`sockets[worker]`).
    ///
    /// # Errors
    /// The kernel's; connections are then spread by its own hash.
    pub fn steer(
        &mut self,
        _listener: usize,
        _address: SocketAddr,
        _sockets: &[BorrowedFd<'_>],
    ) -> Result<(), Missing> {
        Err(Missing {
            piece: "program",
            detail: "there are none in this build".to_owned(),
        })
    }

    /// The live counts.
    pub fn live(&self) -> Live {
        Live {}
    }

    /// A reconciler, unless `Feature::Reconciliation` is missing.
    pub fn reconciler(&self) -> Option<Reconciler> {
        None
    }

    /// Hands over the events that have come since the last call.
    pub fn take_events(&mut self, _each: impl FnMut(&Event)) {}

    /// Proves again that an untagged connect is refused.
    ///
    /// # Errors
    /// It was not.
    pub fn check_canary(&self) -> Result<(), Missing> {
        Ok(())
    }

    /// A surveyor of ports, unless the caps are missing.
    pub fn surveyor(&self) -> Option<Surveyor> {
        None
    }
}

/// Ports of one egress address to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPorts {
    /// The egress address.
    pub source: IpAddr,
    /// The account that it belongs to.
    pub account: u32,
    /// The destination.
    pub destination: SocketAddr,
    /// Ports of open connections.
    pub open: u32,
    /// Ports of connections that were closed, in TIME_WAIT or on the way there.
    pub waiting: u32,
    /// Ports that the kernel may use for it, less a reserve.
    pub ports_max: u32,
}

impl Live {
    /// Client connections that this tenant has claimed.
    pub fn tenant_inbound(&self, _tenant: u32) -> u64 {
        0
    }

    /// Connections to providers opened for this tenant.
    pub fn tenant_upstream(&self, _tenant: u32) -> u64 {
        0
    }

    /// Connections of this account.
    pub fn account(&self, _account: u32) -> u64 {
        0
    }

    /// Connections from this address, by its index in the plan.
    pub fn address(&self, _address: u32) -> u64 {
        0
    }

    /// Client connections of this worker.
    pub fn worker(&self, _worker: u32) -> u64 {
        0
    }

    /// A total.
    pub fn counter(&self, _counter: relay_ebpf_abi::counter::Counter) -> u64 {
        0
    }

    /// Tells the programs that the counts are being reconciled for another `period`. Without it caps let everybody through
    /// after a while, since nobody would notice a count that is wrong.
    pub fn renew_lease(&self, _period: std::time::Duration) {}
}

impl Reconciler {
    /// Compares once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn compare(&mut self) -> Result<Drift, Missing> {
        Ok(Drift::default())
    }
}

impl Surveyor {
    /// Ports in use of every path (egress address and destination), from the kernel's own list of sockets; publishes to the
    /// programs, which count only what is open, those that are not free yet after a connection has ended.
    ///
    /// # Errors
    /// The list could not be read.
    pub fn survey(&mut self) -> Result<Vec<PathPorts>, Missing> {
        Ok(Vec::new())
    }

    /// Addresses of the plan that belong to another account by `IP_OWNER`, or that carry an open connection of another
    /// account. Must stay zero.
    ///
    /// # Errors
    /// The kernel's.
    pub fn accounts_sharing_address(&self) -> Result<u64, Missing> {
        Ok(0)
    }
}

/// Gives up all capabilities of this thread and of the threads it starts from now on, for good. One that has none to give up
/// succeeds.
///
/// # Errors
/// The kernel's.
pub fn drop_capabilities() -> std::io::Result<()> {
    Ok(())
}
