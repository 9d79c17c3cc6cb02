//! What follows from an untagged connect that is not refused, and from one that is again.

use super::super::log::Log;
use super::{checks, members};
use crate::kernel::Features;
use relay_ebpf::{Feature, Missing};
use std::sync::Arc;

/// What is not in force when an untagged connect is not refused: what the programs in the cgroup do.
const HANG_ON_CGROUP: [Feature; 3] = [
    Feature::EgressPin,
    Feature::ConnectionCaps,
    Feature::Telemetry,
];

/// What the canary has brought down.
pub(super) struct Canary {
    features: Arc<Features>,
    lost: Vec<Feature>,
}

impl Canary {
    pub(super) fn new(features: Arc<Features>) -> Self {
        Self {
            features,
            lost: Vec::new(),
        }
    }

    /// It was tried.
    pub(super) fn note(&mut self, outcome: Result<(), Missing>, log: &mut Log) {
        let Err(missing) = outcome else {
            if !self.lost.is_empty() {
                log.event("kernel_canary_works_again", &[]);
            }
            for feature in self.lost.drain(..) {
                self.features.set(feature, None);
            }
            return;
        };
        checks::count_failure("canary");
        if self.lost.is_empty() {
            log.error("kernel_canary_failed", &members(&missing));
            let in_force = HANG_ON_CGROUP.into_iter();
            let in_force = in_force.filter(|feature| self.features.is_active(*feature));
            self.lost = in_force.collect();
        }
        for feature in &self.lost {
            self.features.set(*feature, Some(missing.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::KernelMode;

    #[test]
    fn what_hangs_on_the_cgroup_is_lost_and_found_again_and_nothing_else() {
        let features = Arc::new(Features::all(KernelMode::Required));
        features.set(Feature::Telemetry, Some("never had".to_owned()));
        let mut log = Log::nowhere();
        let mut canary = Canary::new(features.clone());
        let missing = Missing {
            piece: "canary",
            detail: "it was connected".to_owned(),
        };
        for _ in 0..2 {
            canary.note(Err(missing.clone()), &mut log);
            for feature in [Feature::EgressPin, Feature::ConnectionCaps] {
                let why = features.why_missing(feature).unwrap_or_default();
                assert_eq!(why, "canary: it was connected");
            }
            assert!(features.is_active(Feature::Steering));
            assert!(!features.may_serve());
        }
        canary.note(Ok(()), &mut log);
        assert!(features.is_active(Feature::EgressPin));
        assert!(features.is_active(Feature::ConnectionCaps));
        assert_eq!(
            features.why_missing(Feature::Telemetry).as_deref(),
            Some("never had")
        );
        let said = log.waiting();
        for event in ["kernel_canary_failed", "kernel_canary_works_again"] {
            assert_eq!(said.matches(event).count(), 1, "{said}");
        }
    }
}
