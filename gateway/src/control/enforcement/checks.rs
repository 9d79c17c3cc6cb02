//! What takes long, and is done on a thread for such things: comparing counts with sockets, counting ports.

use crate::config::Policy;
use metrics::{counter, gauge};
use relay_ebpf::{Drift, Missing, PathPorts, Reconciler, Surveyor};

/// Who does it.
pub(super) struct Checks {
    pub(super) reconciler: Option<Reconciler>,
    surveyor: Option<Surveyor>,
}

/// What was found; `None`: nobody has looked.
pub(super) struct Findings {
    pub(super) drift: Option<Result<Drift, Missing>>,
    /// Ports of every path, and addresses that carry connections of more than one account.
    pub(super) survey: Option<Result<(Vec<PathPorts>, u64), Missing>>,
}

impl Checks {
    /// Those that this kernel has.
    pub(super) fn of(programs: &relay_ebpf::Kernel) -> Self {
        Self {
            reconciler: programs.reconciler(),
            surveyor: programs.surveyor(),
        }
    }

    /// Looks once.
    pub(super) fn run(mut self) -> (Self, Findings) {
        let findings = Findings {
            drift: self.reconciler.as_mut().map(Reconciler::compare),
            survey: self.surveyor.as_mut().map(|surveyor| {
                let ports = surveyor.survey()?;
                Ok((ports, surveyor.accounts_sharing_address()?))
            }),
        };
        (self, findings)
    }
}

/// Counts a check that could not be done, or that has failed.
pub(super) fn count_failure(check: &'static str) {
    counter!("relay_kernel_check_failures_total", "check" => check).increment(1);
}

/// Into the metrics. Paths of the survey `before` that are no longer used have no port in use.
pub(super) fn publish(policy: &Policy, ports: &[PathPorts], before: &[PathPorts], sharing: u64) {
    gauge!("relay_accounts_sharing_address").set(sharing as f64);
    let is_gone = |path: &&PathPorts| {
        let same =
            |one: &PathPorts| one.source == path.source && one.destination == path.destination;
        !ports.iter().any(same)
    };
    let unused = |path: &PathPorts| PathPorts {
        open: 0,
        waiting: 0,
        ..*path
    };
    let gone = before.iter().filter(is_gone).map(unused);
    for path in gone.chain(ports.iter().copied()) {
        let Some(account) = policy.accounts.get(path.account as usize) else {
            continue;
        };
        let labels = [
            ("account", account.name.clone()),
            ("address", path.source.to_string()),
            ("destination", path.destination.to_string()),
        ];
        gauge!("relay_egress_ports_open", &labels).set(path.open);
        gauge!("relay_egress_ports_waiting", &labels).set(path.waiting);
        gauge!("relay_egress_ports_max", &labels).set(path.ports_max);
    }
}
