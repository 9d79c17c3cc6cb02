//! Who counts connections and keeps to egress addresses: the gateway itself, or the kernel.

use crate::{Config, Gateway};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Makes two tests of each scene, a function of a [`Mode`]: one for either mode.
#[macro_export]
macro_rules! in_each_mode {
    ($($scene:ident,)*) => {
        mod user_space {
            $(
                #[test]
                fn $scene() {
                    super::$scene(&$crate::Mode::UserSpace);
                }
            )*
        }
        mod kernel {
            $(
                #[test]
                fn $scene() {
                    if let Some(mode) = $crate::Mode::kernel() {
                        super::$scene(&mode);
                    }
                }
            )*
        }
    };
}

/// One of two ways to run a gateway, which behave the same but where a test says so.
#[derive(Debug)]
pub enum Mode {
    /// The kernel is left alone.
    UserSpace,
    /// The kernel's programs count.
    Kernel(Enforced),
}

/// A cgroup and a bpffs for one gateway; taken away when dropped, which must be after the gateway.
#[derive(Debug)]
pub struct Enforced {
    cgroup: PathBuf,
    bpffs: TempDir,
}

impl Mode {
    /// The kernel's way; `None`, with a line that says why, where this process may not or this kernel cannot.
    ///
    /// # Panics
    /// If a directory cannot be made that should be possible to make.
    pub fn kernel() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown: only root may load the kernel's programs");
            return None;
        }
        let Some(own) = own_cgroup() else {
            eprintln!("not shown: there is no cgroup2 file system");
            return None;
        };
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let cgroup = own.join(format!("relay-tests-{}-{number}", std::process::id()));
        fs::create_dir(&cgroup).expect("a cgroup below one's own");
        let bpffs = tempfile::tempdir().expect("a temporary directory");
        mount("bpf", bpffs.path(), "bpf", MountFlags::empty(), None).expect("a bpffs");
        Some(Self::Kernel(Enforced { cgroup, bpffs }))
    }

    /// Starts a gateway in this way, and waits until it serves.
    pub fn gateway(&self, config: &Config) -> Gateway {
        match self {
            Self::UserSpace => Gateway::start(config),
            Self::Kernel(enforced) => Gateway::start(&enforced.required(config.clone())),
        }
    }

    /// Moves a gateway out of its cgroup, to where the kernel's programs are not asked.
    ///
    /// # Panics
    /// If it has none, or cannot be moved.
    pub fn let_out(&self, gateway: &Gateway) {
        let outside = self.cgroup().parent().expect("a cgroup below another");
        move_to(outside, gateway);
    }

    /// Moves it back.
    ///
    /// # Panics
    /// If it has none, or cannot be moved.
    pub fn take_in(&self, gateway: &Gateway) {
        move_to(self.cgroup(), gateway);
    }

    fn cgroup(&self) -> &Path {
        match self {
            Self::UserSpace => panic!("a gateway without a cgroup of its own"),
            Self::Kernel(enforced) => &enforced.cgroup,
        }
    }

    /// Do the kernel's programs count?
    pub fn is_kernel(&self) -> bool {
        matches!(self, Self::Kernel(_))
    }
}

impl Enforced {
    fn required(&self, config: Config) -> Config {
        config
            .set("kernel", "mode", "\"required\"")
            .set("kernel", "cgroup", format!("{:?}", self.cgroup))
            .set("kernel", "bpffs", format!("{:?}", self.bpffs.path()))
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        // The links go with their pins.
        let _ = unmount(self.bpffs.path(), UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn move_to(cgroup: &Path, gateway: &Gateway) {
    let file = cgroup.join("cgroup.procs");
    fs::write(file, gateway.pid().to_string()).expect("a cgroup that may be entered");
}

/// The directory of the cgroup (version 2) that this process is in.
fn own_cgroup() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| Path::new(path))
    })?;
    Some(root.join(own))
}
