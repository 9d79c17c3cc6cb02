//! `[kernel]`

use crate::config::policy::{Kernel, KernelMode};
use crate::config::raw::knobs;

pub(super) fn kernel(raw: &knobs::Kernel) -> Kernel {
    Kernel {
        mode: match raw.mode {
            knobs::KernelMode::Required => KernelMode::Required,
            knobs::KernelMode::Auto => KernelMode::Auto,
            knobs::KernelMode::Off => KernelMode::Off,
        },
        cgroup: raw.cgroup.as_ref().map(|path| path.0.clone()),
        bpffs: raw.bpffs.0.clone(),
    }
}
