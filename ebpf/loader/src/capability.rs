//! Capabilities: those that are needed, and giving all of them up.

use crate::Missing;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

/// Says which capabilities are missing to load and attach programs.
pub(crate) fn check() -> Result<(), Missing> {
    let sets = rustix::thread::capabilities(None).map_err(|error| Missing {
        piece: "capability",
        detail: format!("cannot read the capabilities of this thread: {error}"),
    })?;
    let lacking = lacking(sets.effective);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Missing {
        piece: "capability",
        detail: format!(
            "this process lacks {}; run as root or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            lacking.join(" and ")
        ),
    })
}

fn lacking(effective: CapabilitySet) -> Vec<&'static str> {
    // CAP_SYS_ADMIN stands in for the two that were split off from it in 5.8.
    let is_admin = effective.contains(CapabilitySet::SYS_ADMIN);
    [
        (
            "CAP_BPF",
            effective.contains(CapabilitySet::BPF) || is_admin,
        ),
        (
            "CAP_NET_ADMIN",
            effective.contains(CapabilitySet::NET_ADMIN),
        ),
        (
            "CAP_PERFMON",
            effective.contains(CapabilitySet::PERFMON) || is_admin,
        ),
    ]
    .into_iter()
    .filter(|(_, is_there)| !is_there)
    .map(|(name, _)| name)
    .collect()
}

/// Gives up all capabilities of this thread and of the threads it starts from now on, for good. One that has none to give up
/// succeeds.
///
/// # Errors
/// The kernel's.
pub fn drop_capabilities() -> io::Result<()> {
    // First the sets from which a program could get some back: nothing that is executed from here on gains any.
    rustix::thread::set_no_new_privs(true)?;
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Not permitted without CAP_SETPCAP: then no_new_privs alone has to do. Or the first that this kernel does not
            // know.
            Err(Errno::PERM | Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let set = CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
        assert_eq!(lacking(set), ["CAP_PERFMON"]);
        assert_eq!(lacking(set | CapabilitySet::PERFMON), [""; 0]);
        let admin = CapabilitySet::SYS_ADMIN;
        assert_eq!(lacking(admin), ["CAP_NET_ADMIN"]);
        assert_eq!(lacking(admin | CapabilitySet::NET_ADMIN), [""; 0]);
    }

    #[test]
    fn a_thread_that_gave_up_its_capabilities_has_none_and_can_do_it_again() {
        // Of a thread, so that the other tests keep theirs.
        let thread = std::thread::spawn(|| {
            drop_capabilities().expect("they are given up");
            drop_capabilities().expect("nothing is left to give up");
            let child = std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/status"));
            let status = child.join().expect("a thread").expect("its status");
            let set = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name));
                line.map(|line| line[name.len()..].trim().to_owned())
            };
            for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert_eq!(set(name).as_deref(), Some("0000000000000000"), "{name}");
            }
            assert_eq!(set("NoNewPrivs:").as_deref(), Some("1"));
            set("CapBnd:")
        });
        let bounding = thread.join().expect("a thread");
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            assert_eq!(bounding.as_deref(), Some("0000000000000000"));
        }
    }
}
