//! Exact counts of what has no number of its own: source addresses, and pairs of egress address and destination.
//!
//! An entry of a hash may be removed, and its memory given to another key, while a program still holds a pointer to it.
//! Whoever brings a count to zero therefore marks it dead before it is removed, and who finds a value looks its key up once
//! more: if the entry is still there, then the value read is its own or, by the mark in the high half, one that no
//! compare-and-swap will meet again.

use crate::count::{TRIES, Word, is_suspended};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use core::ptr;
use relay_ebpf_abi::record::count;

const EEXIST: i32 = 17;

/// What became of an attempt to take a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Counted.
    Taken,
    /// There were as many as there may be.
    Full,
    /// Let through without being counted: the map is full, or the entry's removal takes its time.
    Uncounted,
}

/// Takes a place, if with `elsewhere` there are fewer than `places` (0: any number).
#[inline(always)]
pub(crate) fn take<K, const N: usize, const F: usize>(
    map: &HashMap<K, u64, N, F>,
    key: &K,
    places: u32,
    elsewhere: u64,
) -> Place {
    for _ in 0..TRIES {
        let word = find(map, key);
        let seen = word.map_or(0, Word::load);
        let is_stale = word.is_some_and(|word| !is_still(map, key, word));
        if is_stale || count::is_dead(seen) {
            continue;
        }
        let live = u64::from(count::live(seen));
        if places != 0 && live + elsewhere >= u64::from(places) && !is_suspended() {
            return Place::Full;
        }
        let Some(word) = word else {
            match insert(map, key) {
                Ok(()) => return Place::Taken,
                Err(error) if error == -EEXIST => continue,
                Err(_) => return Place::Uncounted,
            }
        };
        if word.exchange(seen, seen + 1) {
            return Place::Taken;
        }
    }
    // Refused for contention alone, but not while who removes the entry is kept from doing so.
    if find(map, key).is_some_and(|word| count::is_dead(word.load())) {
        Place::Uncounted
    } else {
        Place::Full
    }
}

/// A new entry, with one place taken.
#[inline(always)]
fn insert<K, const N: usize, const F: usize>(
    map: &HashMap<K, u64, N, F>,
    key: &K,
) -> Result<(), i32> {
    // SAFETY: the helper takes nothing.
    let mark = unsafe { bpf_get_prandom_u32() };
    map.insert(key, count::first(mark), BPF_NOEXIST.into())
}

/// Gives a place back; with the last one the entry goes.
#[inline(always)]
pub(crate) fn give_back<K, const N: usize, const F: usize>(map: &HashMap<K, u64, N, F>, key: &K) {
    for _ in 0..TRIES {
        let Some(word) = find(map, key) else {
            return;
        };
        let seen = word.load();
        let Some(less) = count::given_back(seen) else {
            return;
        };
        if is_still(map, key, word) && word.exchange(seen, less) {
            if count::is_dead(less) {
                // Nobody else removes it, and nobody can insert the key before that is done.
                let _ = map.remove(key);
            }
            return;
        }
    }
}

/// The number of places taken, as of a moment ago.
#[inline(always)]
pub(crate) fn live<K, const N: usize, const F: usize>(map: &HashMap<K, u64, N, F>, key: &K) -> u32 {
    count::live(find(map, key).map_or(0, Word::load))
}

#[inline(always)]
fn find<'a, K, const N: usize, const F: usize>(
    map: &HashMap<K, u64, N, F>,
    key: &K,
) -> Option<&'a Word> {
    let value = map.get_ptr_mut(key)?;
    // SAFETY: the memory of an entry stays memory of this map's entries as long as a program runs (RCU), and what is in it
    // is accessed by atomic operations alone.
    Some(unsafe { &*value.cast::<Word>() })
}

#[inline(always)]
fn is_still<K, const N: usize, const F: usize>(
    map: &HashMap<K, u64, N, F>,
    key: &K,
    word: &Word,
) -> bool {
    find(map, key).is_some_and(|now| ptr::eq(now, word))
}
