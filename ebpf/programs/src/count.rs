//! Live counts and totals: words that all processors and user space share.

use crate::maps::{COUNTERS, LEASE, SETTINGS};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::cell::UnsafeCell;
use core::intrinsics::{
    self,
    AtomicOrdering::{Relaxed, SeqCst},
};
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::record::Settings;

/// How often a count is tried that others change at the same time. Every failure is somebody else's success.
pub(crate) const TRIES: u32 = 64;

/// A word in a map. 64 bits, since the instruction set has atomic operations on no less that Rust could name.
#[repr(transparent)]
pub(crate) struct Word(UnsafeCell<u64>);

// SAFETY: it is read and written by atomic operations alone.
unsafe impl Sync for Word {}

impl Word {
    /// Its value.
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: the cell is valid and aligned; a load of eight aligned bytes is one instruction, which volatile keeps.
        unsafe { self.0.get().read_volatile() }
    }

    /// Makes it `new` if it is still `old`.
    #[inline(always)]
    pub(crate) fn exchange(&self, old: u64, new: u64) -> bool {
        // SAFETY: the cell is valid, aligned, and accessed by atomic operations alone.
        let (_, done) = unsafe {
            intrinsics::atomic_cxchg::<u64, { Relaxed }, { Relaxed }>(self.0.get(), old, new)
        };
        done
    }

    /// Adds.
    #[inline(always)]
    pub(crate) fn add(&self, more: u64) {
        // SAFETY: as above.
        unsafe { intrinsics::atomic_xadd::<u64, u64, { Relaxed }>(self.0.get(), more) };
    }

    /// Adds one; the value before. The order matters to nobody, but LLVM makes a relaxed addition one that fetches nothing,
    /// and takes the summand for the value before.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        // SAFETY: as above.
        unsafe { intrinsics::atomic_xadd::<u64, u64, { SeqCst }>(self.0.get(), 1) }
    }

    /// Sets bits.
    #[inline(always)]
    pub(crate) fn set(&self, bits: u64) {
        // SAFETY: as above.
        unsafe { intrinsics::atomic_or::<u64, u64, { Relaxed }>(self.0.get(), bits) };
    }

    /// Clears bits; the value before, as for `next`.
    #[inline(always)]
    pub(crate) fn clear(&self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { intrinsics::atomic_and::<u64, u64, { SeqCst }>(self.0.get(), !bits) }
    }

    /// Takes a place, of at most `places` (0: of any number). Never more are taken than there are, not even for a moment.
    #[inline(always)]
    pub(crate) fn take(&self, places: u32) -> bool {
        if places == 0 {
            self.add(1);
            return true;
        }
        for _ in 0..TRIES {
            let live = self.load();
            if live >= u64::from(places) && !is_suspended() {
                return false;
            }
            if self.exchange(live, live + 1) {
                return true;
            }
        }
        false
    }

    /// Gives a place back. Stays at zero, should user space have corrected the count meanwhile.
    #[inline(always)]
    pub(crate) fn give_back(&self) {
        for _ in 0..TRIES {
            let live = self.load();
            if live == 0 || self.exchange(live, live - 1) {
                return;
            }
        }
        self.add(u64::MAX);
    }
}

/// Over a cap: are caps out of force, since nobody would notice a count that is wrong? Counted.
#[inline(always)]
pub(crate) fn is_suspended() -> bool {
    let held = is_lease_held();
    if !held {
        note(Counter::CapSuspended);
    }
    !held
}

/// Does somebody reconcile the counts?
#[inline(always)]
pub(crate) fn is_lease_held() -> bool {
    LEASE.get(0).is_some_and(|until| until.load() > now_ns())
}

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// Adds one to a total.
#[inline(always)]
pub(crate) fn note(counter: Counter) {
    if let Some(total) = COUNTERS.get(counter as u32) {
        total.add(1);
    }
}

/// What the loader has set, or nothing of it.
#[inline(always)]
pub(crate) fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or_default()
}
