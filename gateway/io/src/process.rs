//! Limits of the process, set once at start.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Raises the soft limit of open files to the hard one, and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit to the valid pointer given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit reads one rlimit from the valid pointer given.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if raised { limit.rlim_cur } else { soft }
}

/// What the ring of one thread may take, in bytes.
static RING_BYTES_MAX: AtomicU64 = AtomicU64::new(u64::MAX);

/// Raises the limit on locked memory as far as it goes: to any amount where the process has the right to. The rings of a process
/// without `CAP_IPC_LOCK` count towards it, together with those of all other processes of its user: so many rings are to
/// find room in half of it.
pub fn share_locked_memory(rings: usize) {
    let any = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: setrlimit reads one rlimit from the valid pointer given.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const any) } == 0 {
        return;
    }
    let mut limit = any;
    // SAFETY: getrlimit writes one rlimit to the valid pointer given.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit reads one rlimit from the valid pointer given.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if limit.rlim_max != libc::RLIM_INFINITY {
        let share = limit.rlim_max / 2 / rings.max(1) as u64;
        RING_BYTES_MAX.store(share, Ordering::Relaxed);
    }
}

/// What the ring of one thread may take, in bytes.
pub(crate) fn ring_bytes_max() -> u64 {
    RING_BYTES_MAX.load(Ordering::Relaxed)
}

/// Keeps secrets out of core files, and other processes of the same user away from this one's memory.
pub fn forbid_core_dumps() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: setrlimit reads one rlimit from the valid pointer given.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    // SAFETY: PR_SET_DUMPABLE takes one integer and no pointer.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}

/// The cores that this process may run on, in ascending order.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sched_getaffinity writes at most the size given to the valid pointer given.
    let answer = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if answer != 0 {
        return Vec::new();
    }
    // SAFETY: the index is below CPU_SETSIZE, which is the size of the set.
    let is_allowed = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    (0..libc::CPU_SETSIZE as usize).filter(is_allowed).collect()
}

/// Pins this thread to one core.
///
/// # Errors
/// The core does not exist or is not allowed.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    monoio::utils::bind_to_cpu_set([core]).map_err(|error| io::Error::other(error.to_string()))
}
