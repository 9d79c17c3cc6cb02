//! `[kernel]`, and whether what is to be enforced fits into the kernel's tables.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::policy::{Kernel, KernelMode};
use crate::config::raw::{File, knobs};
use relay_ebpf::abi::{ADDRESSES_MAX, NETWORKS_MAX};
use std::path::Path;

/// Where the root of the hierarchy is mounted wherever there is systemd.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

impl Meaning<'_> {
    pub(super) fn kernel(&mut self, file: &File) -> Kernel {
        let raw = &file.kernel;
        let mode = match raw.mode {
            knobs::KernelMode::Required => KernelMode::Required,
            knobs::KernelMode::Auto => KernelMode::Auto,
            knobs::KernelMode::Off => KernelMode::Off,
        };
        let cgroup = raw.cgroup.as_ref().map(|path| path.0.clone());
        if cgroup.as_deref() == Some(Path::new(CGROUP_ROOT)) {
            let message = "every process of this host is in there, and none could connect any more";
            let hint =
                format!("name a group of the gateway's own, as in `{CGROUP_ROOT}/codex-relay`");
            self.error(&KeyPath::of("kernel.cgroup"), message, Some(hint));
        }
        match mode {
            KernelMode::Off => self.without_effect(file),
            KernelMode::Auto | KernelMode::Required => self.tables(file),
        }
        Kernel {
            mode,
            cgroup,
            bpffs: raw.bpffs.0.clone(),
        }
    }

    fn without_effect(&mut self, file: &File) {
        for (index, tenant) in file.tenant.iter() {
            if !tenant.sources.0.is_empty() {
                let path = KeyPath::of("tenant").index(index).key("sources");
                let message = "only the kernel refuses connections before the handshake, and `kernel.mode` is \"off\"";
                self.warn(&path, message, None);
            }
        }
    }

    /// What the form of the file does not bound already: what is spread over several lists.
    fn tables(&mut self, file: &File) {
        let egress = file
            .account
            .iter()
            .map(|(at, one)| (at, one.egress.0.len()));
        self.table("account", "egress", egress, ADDRESSES_MAX);
        let sources = file
            .tenant
            .iter()
            .map(|(at, one)| (at, one.sources.0.len()));
        self.table("tenant", "sources", sources, NETWORKS_MAX);
    }

    fn table(
        &mut self,
        table: &str,
        key: &str,
        lengths: impl Iterator<Item = (usize, usize)>,
        entries_max: u32,
    ) {
        let mut entries = 0;
        for (index, length) in lengths {
            entries += length;
            if entries as u64 > u64::from(entries_max) {
                let path = KeyPath::of(table).index(index).key(key);
                let message = format!(
                    "with these there are more than {entries_max} in all, which is what the kernel's table holds"
                );
                let hint = "`kernel.mode = \"off\"` does without the table";
                self.error(&path, message, Some(hint.to_owned()));
                return;
            }
        }
    }
}
