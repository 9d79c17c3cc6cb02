//! Connections by source address. Touched when a connection comes and when it goes, so a lock for a moment does.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts with a lock each, so that workers seldom wait for each other. A power of two.
const SHARDS: usize = 64;

/// Live connections by source address; one that has none is not kept.
pub(super) struct Sources {
    shards: Box<[Mutex<HashMap<IpAddr, u32>>]>,
    /// Which shard an address is in must not be known to those who choose their addresses.
    hasher: RandomState,
    cap: u32,
}

/// A place among the connections of its source address: given back when dropped.
pub(super) struct SourcePlace {
    sources: &'static Sources,
    source: IpAddr,
}

impl Sources {
    pub(super) fn new(cap: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            cap,
        }
    }

    /// A place for one more connection from this address, unless as many as may be are taken.
    pub(super) fn enter(&'static self, source: IpAddr) -> Option<SourcePlace> {
        let source = source.to_canonical();
        let mut shard = self.shard(source);
        let live = shard.entry(source).or_default();
        // The cap is at least 1, so an entry that was just made is never left at zero.
        if *live >= self.cap {
            return None;
        }
        *live += 1;
        Some(SourcePlace {
            sources: self,
            source,
        })
    }

    fn shard(&self, source: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let index = self.hasher.hash_one(source) as usize % SHARDS;
        // Nothing that runs under the lock panics half-way through a change.
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut shard = self.sources.shard(self.source);
        if let Some(live) = shard.get_mut(&self.source) {
            *live -= 1;
            if *live == 0 {
                shard.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn sources(cap: u32) -> &'static Sources {
        Box::leak(Box::new(Sources::new(cap)))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_places_and_leaves_nothing_behind() {
        let sources = sources(2);
        let places: Vec<_> = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"]
            .map(|source| sources.enter(address(source)))
            .into_iter()
            .collect();
        assert!(places.iter().all(Option::is_some));
        assert!(sources.enter(address("192.0.2.1")).is_none());
        // The same address as an IPv6 socket shows it.
        assert!(sources.enter(address("::ffff:192.0.2.1")).is_none());
        drop(places);
        assert!(
            sources
                .shards
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
        assert!(sources.enter(address("192.0.2.1")).is_some());
    }

    #[test]
    fn of_many_threads_at_once_as_many_pass_as_may() {
        let sources = sources(5);
        let begin = Barrier::new(16);
        let end = Barrier::new(16);
        let passed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        let place = sources.enter(address("192.0.2.1"));
                        end.wait();
                        place.is_some()
                    })
                })
                .collect();
            let passed = threads.into_iter().map(|thread| thread.join().unwrap());
            passed.filter(|passed| *passed).count()
        });
        assert_eq!(passed, 5);
    }
}
