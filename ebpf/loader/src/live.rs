//! Live counts and totals, in memory that the programs change and this process sees.

use crate::Missing;
use crate::map::Map;
use crate::pins::Pins;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::map;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::ClockId;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Words of a map.
pub(crate) type Words = &'static [AtomicU64];

/// Live counts, read from memory shared with the programs: a load each. Copies refer to the same counts; they stay mapped as
/// long as the process lives.
#[derive(Clone, Copy)]
pub struct Live {
    pub(crate) tenants_inbound: Words,
    pub(crate) tenants_upstream: Words,
    pub(crate) accounts_upstream: Words,
    pub(crate) addresses_upstream: Words,
    pub(crate) workers_inbound: Words,
    counters: Words,
    lease: Words,
}

impl Live {
    /// Maps the pinned maps.
    pub(crate) fn map(pins: &Pins) -> Result<Self, Missing> {
        let words = |name| {
            words(pins, name).map_err(|error| Missing {
                piece: "map",
                detail: format!("cannot map {}: {error}", pins.map(name).display()),
            })
        };
        Ok(Self {
            tenants_inbound: words(map::TENANTS_INBOUND)?,
            tenants_upstream: words(map::TENANTS_UPSTREAM)?,
            accounts_upstream: words(map::ACCOUNTS_UPSTREAM)?,
            addresses_upstream: words(map::ADDRESSES_UPSTREAM)?,
            workers_inbound: words(map::WORKERS_INBOUND)?,
            counters: words(map::COUNTERS)?,
            lease: words(map::LEASE)?,
        })
    }

    /// Client connections that this tenant has claimed.
    pub fn tenant_inbound(&self, tenant: u32) -> u64 {
        load(self.tenants_inbound, tenant)
    }

    /// Connections to providers opened for this tenant.
    pub fn tenant_upstream(&self, tenant: u32) -> u64 {
        load(self.tenants_upstream, tenant)
    }

    /// Connections of this account.
    pub fn account(&self, account: u32) -> u64 {
        load(self.accounts_upstream, account)
    }

    /// Connections from this address, by its index in the plan.
    pub fn address(&self, address: u32) -> u64 {
        load(self.addresses_upstream, address)
    }

    /// Client connections of this worker.
    pub fn worker(&self, worker: u32) -> u64 {
        load(self.workers_inbound, worker)
    }

    /// A total.
    pub fn counter(&self, counter: Counter) -> u64 {
        load(self.counters, counter as u32)
    }

    /// Takes back what was counted for a test of the programs.
    pub(crate) fn uncount(&self, counter: Counter) {
        if let Some(total) = self.counters.get(counter as usize) {
            total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells the programs that the counts are being reconciled for another `period`. Without it caps let everybody through
    /// after a while, since nobody would notice a count that is wrong.
    pub fn renew_lease(&self, period: Duration) {
        let until = now().saturating_add(period).as_nanos();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        for word in self.lease {
            word.store(until, Ordering::Relaxed);
        }
    }

    /// What is left of the lease.
    pub(crate) fn lease(&self) -> Option<Duration> {
        let until = Duration::from_nanos(load(self.lease, 0));
        until.checked_sub(now()).filter(|left| !left.is_zero())
    }

    /// Sets all live counts to zero.
    pub(crate) fn reset(&self) {
        let maps = [
            self.tenants_inbound,
            self.tenants_upstream,
            self.accounts_upstream,
            self.addresses_upstream,
            self.workers_inbound,
        ];
        for word in maps.into_iter().flatten() {
            word.store(0, Ordering::Relaxed);
        }
    }
}

fn load(words: Words, index: u32) -> u64 {
    let word = words.get(index as usize);
    word.map_or(0, |word| word.load(Ordering::Relaxed))
}

/// `CLOCK_MONOTONIC`, by which the programs go.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// Maps an array of words for good: what refers to it may be copied to any thread.
fn words(pins: &Pins, name: &str) -> io::Result<Words> {
    let map: Map<u32, u64> = Map::open(&pins.map(name))?;
    let count = map.entries_max() as usize;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    let bytes = count * size_of::<u64>();
    // SAFETY: no address is asked for, so that nothing that is mapped is replaced.
    let start = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            bytes,
            protection,
            flags,
            map.descriptor(),
            0,
        )
    }?;
    // SAFETY: the mapping begins at a page, has as many words, and is never removed. The kernel's programs change them by
    // atomic operations, as is done here.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), count) })
}
