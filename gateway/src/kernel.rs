//! The kernel's side of the promises, as this gateway asks for it: whether it can be had, what is missing, and how the
//! operator's choice of `[kernel] mode` turns that into a start, a warning or a refusal.

mod plan;

pub use plan::{places, plan};

use crate::config::Policy;
use crate::config::policy::KernelMode;
use crate::control::log::Log;
use relay_ebpf::{Feature, Live, Missing};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is said of every feature where the operator wants none.
const SWITCHED_OFF: &str = "switched off";

/// The kernel's side, or that there is none.
pub struct Kernel {
    programs: Option<relay_ebpf::Kernel>,
    features: Arc<Features>,
}

/// Which features are in force. Shared by the control thread, which finds out, and the admin API, which tells.
pub struct Features {
    mode: KernelMode,
    /// The workers rely on the kernel for the address that a connection leaves from.
    chooses_egress: bool,
    missing: Mutex<[Option<String>; Feature::ALL.len()]>,
}

impl Kernel {
    /// Enters the cgroup and puts the programs in force, as far as the operator wants them and the kernel has them.
    ///
    /// Must come before the first socket that they should govern, and before the first thread.
    ///
    /// # Errors
    /// What is missing although it is required.
    pub fn establish(policy: &Policy, log: &mut Log) -> Result<Self, Missing> {
        let mode = policy.kernel.mode;
        if mode == KernelMode::Off {
            return Ok(Self::without(Features::none(mode, SWITCHED_OFF)));
        }
        let nameservers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let established =
            relay_ebpf::Kernel::establish(&places(policy), &plan(policy, &nameservers));
        let programs = match established {
            Ok(programs) => programs,
            Err(missing) if mode == KernelMode::Required => return Err(missing),
            Err(missing) => {
                let members = [
                    ("piece", missing.piece.to_owned()),
                    ("detail", missing.detail.clone()),
                    ("instead", "user space alone".to_owned()),
                ];
                log.warning("kernel_missing", &members);
                return Ok(Self::without(Features::none(mode, &missing.to_string())));
            }
        };
        let kernel = Self {
            features: Arc::new(Features::all(mode)),
            programs: Some(programs),
        };
        for (feature, missing) in kernel.programs.iter().flat_map(relay_ebpf::Kernel::missing) {
            kernel.give_up(*feature, missing, log)?;
        }
        let in_force = Feature::ALL.into_iter();
        let in_force = in_force.filter(|feature| kernel.features.is_active(*feature));
        let names: Vec<&str> = in_force.map(Feature::as_str).collect();
        log.event("kernel_in_force", &[("features", names.join(" "))]);
        Ok(kernel)
    }

    fn without(features: Features) -> Self {
        Self {
            programs: None,
            features: Arc::new(features),
        }
    }

    /// Goes on without a feature, unless the operator requires all of them.
    fn give_up(&self, feature: Feature, missing: &Missing, log: &mut Log) -> Result<(), Missing> {
        if self.features.mode == KernelMode::Required {
            return Err(missing.clone());
        }
        self.features.set(feature, Some(missing.to_string()));
        let members = [
            ("feature", feature.as_str().to_owned()),
            ("piece", missing.piece.to_owned()),
            ("detail", missing.detail.clone()),
        ];
        log.warning("kernel_feature_missing", &members);
        Ok(())
    }

    /// Has new connections go to the worker with the fewest. `sockets[worker][listener]`.
    ///
    /// # Errors
    /// What is missing although it is required.
    pub fn steer(
        &mut self,
        addresses: &[SocketAddr],
        sockets: &[Vec<TcpListener>],
        log: &mut Log,
    ) -> Result<(), Missing> {
        let Some(programs) = &mut self.programs else {
            return Ok(());
        };
        let mut outcome = Ok(());
        for (listener, address) in addresses.iter().enumerate() {
            let of_listener: Vec<_> = sockets.iter().map(|of| of[listener].as_fd()).collect();
            outcome = outcome.and(programs.steer(listener, *address, &of_listener));
        }
        match outcome {
            Ok(()) => Ok(()),
            // Why it is missing was said when the programs were put in force.
            Err(_) if !self.features.is_active(Feature::Steering) => Ok(()),
            Err(missing) => self.give_up(Feature::Steering, &missing, log),
        }
    }

    /// The live counts, where the kernel keeps them.
    pub fn live(&self) -> Option<Live> {
        self.programs.as_ref().map(relay_ebpf::Kernel::live)
    }

    /// Which features are in force.
    pub fn features(&self) -> &Arc<Features> {
        &self.features
    }

    /// The programs, for whoever watches them from now on.
    pub fn into_programs(self) -> Option<relay_ebpf::Kernel> {
        self.programs
    }
}

impl Features {
    /// All of them.
    pub(crate) fn all(mode: KernelMode) -> Self {
        Self {
            mode,
            chooses_egress: true,
            missing: Mutex::default(),
        }
    }

    /// No feature at all, for this reason.
    fn none(mode: KernelMode, why: &str) -> Self {
        Self {
            mode,
            chooses_egress: false,
            missing: Mutex::new(Feature::ALL.map(|_| Some(why.to_owned()))),
        }
    }

    /// What the operator wants.
    pub fn mode(&self) -> KernelMode {
        self.mode
    }

    /// Is it in force?
    pub fn is_active(&self, feature: Feature) -> bool {
        self.why_missing(feature).is_none()
    }

    /// Why it is not in force, if it is not.
    pub fn why_missing(&self, feature: Feature) -> Option<String> {
        self.locked()[place(feature)].clone()
    }

    /// Notes that it is in force (`None`), or why it is not.
    pub fn set(&self, feature: Feature, missing: Option<String>) {
        self.locked()[place(feature)] = missing;
    }

    /// Everything that the operator requires is in force, and so is what the workers rely on, required or not.
    pub fn may_serve(&self) -> bool {
        let is_lost = self.chooses_egress && !self.is_active(Feature::EgressPin);
        let is_required = self.mode == KernelMode::Required;
        !is_lost && (!is_required || self.locked().iter().all(Option::is_none))
    }

    fn locked(&self) -> MutexGuard<'_, [Option<String>; Feature::ALL.len()]> {
        // Each entry is whole at any moment.
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a feature stands among all of them.
fn place(feature: Feature) -> usize {
    Feature::ALL
        .iter()
        .position(|&known| known == feature)
        .unwrap_or_default()
}

/// The mode as the configuration file writes it.
pub fn mode_name(mode: KernelMode) -> &'static str {
    match mode {
        KernelMode::Required => "required",
        KernelMode::Auto => "auto",
        KernelMode::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_lost_and_found_again() {
        let features = Features::all(KernelMode::Required);
        assert!(features.may_serve());
        features.set(Feature::Telemetry, Some("gone".to_owned()));
        assert_eq!(
            features.why_missing(Feature::Telemetry).as_deref(),
            Some("gone")
        );
        assert!(features.is_active(Feature::Reconciliation));
        assert!(!features.may_serve());
        features.set(Feature::Telemetry, None);
        assert!(features.may_serve());
    }

    #[test]
    fn what_is_not_required_may_be_missing_but_not_be_lost_where_egress_depends_on_it() {
        for mode in [KernelMode::Auto, KernelMode::Off] {
            assert!(Features::none(mode, SWITCHED_OFF).may_serve());
        }
        let features = Features::all(KernelMode::Auto);
        features.set(Feature::Steering, Some("gone".to_owned()));
        assert!(features.may_serve());
        features.set(Feature::EgressPin, Some("gone".to_owned()));
        assert!(!features.may_serve());
    }
}
