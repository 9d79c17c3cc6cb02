//! A map of the kernel's, with keys and values of known types.

use crate::Missing;
use crate::bpf::{self, MapInfo, Update};
use crate::bytes::Bytes;
use crate::pins::Pins;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Entries that are read or written by one call.
const BATCH: u32 = 4096;

/// A map. Copies of the descriptor refer to the same one.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    descriptor: OwnedFd,
    entries_max: u32,
    of: PhantomData<fn(K) -> V>,
}

impl<K: Bytes, V: Bytes> Map<K, V> {
    /// Opens a pinned map, if its keys and values are as long as these.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let descriptor = bpf::open_pinned(path)?;
        let MapInfo {
            key_bytes,
            value_bytes,
            entries_max,
            ..
        } = bpf::map_info(descriptor.as_fd())?;
        if (key_bytes as usize, value_bytes as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::Error::other(format!(
                "its keys have {key_bytes} bytes and its values {value_bytes}"
            )));
        }
        Ok(Self {
            descriptor,
            entries_max,
            of: PhantomData,
        })
    }

    /// Opens one of the pinned maps.
    pub(crate) fn open_pinned(pins: &Pins, name: &str) -> Result<Self, Missing> {
        let path = pins.map(name);
        Self::open(&path).map_err(|error| Missing {
            piece: "map",
            detail: format!("cannot open {}: {error}", path.display()),
        })
    }

    /// Another descriptor of it.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            descriptor: self.descriptor.try_clone()?,
            entries_max: self.entries_max,
            of: PhantomData,
        })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn entries_max(&self) -> u32 {
        self.entries_max
    }

    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = vec![0; size_of::<V>()];
        let is_there = bpf::lookup(self.descriptor(), key.bytes(), &mut value)?;
        Ok(V::read(&value).filter(|_| is_there))
    }

    pub(crate) fn set(&self, key: &K, value: &V, how: Update) -> io::Result<()> {
        bpf::update(self.descriptor(), key.bytes(), value.bytes(), how)
    }

    /// Removes an entry; nothing happens if there is none.
    pub(crate) fn remove(&self, key: &K) -> io::Result<()> {
        bpf::delete(self.descriptor(), key.bytes()).map(drop)
    }

    /// Removes an entry of a hash and returns what it was.
    pub(crate) fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = vec![0; size_of::<V>()];
        let was_there = bpf::lookup_and_delete(self.descriptor(), key.bytes(), &mut value)?;
        Ok(V::read(&value).filter(|_| was_there))
    }

    /// All keys. While others insert and remove, some may be missing.
    pub(crate) fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys = Vec::new();
        let mut bytes: Option<Vec<u8>> = None;
        let mut next = vec![0; size_of::<K>()];
        // A key that is removed meanwhile makes the kernel begin anew: the bound keeps that from going on for ever.
        for _ in 0..self.entries_max {
            if !bpf::next_key(self.descriptor(), bytes.as_deref(), &mut next)? {
                break;
            }
            keys.extend(K::read(&next));
            bytes.get_or_insert_default().clone_from(&next);
        }
        Ok(keys)
    }

    /// All entries of a hash, a bucket at a time: each bucket is read as it was at one moment.
    pub(crate) fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut count = BATCH.min(self.entries_max);
        let mut position = None;
        loop {
            let mut keys = vec![0; size_of::<K>() * count as usize];
            let mut values = vec![0; size_of::<V>() * count as usize];
            let before = position;
            let read = bpf::lookup_batch(
                self.descriptor(),
                &mut position,
                &mut keys,
                &mut values,
                count,
            );
            let (found, is_last) = match read {
                // A bucket holds more entries than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    position = before;
                    count = count.saturating_mul(2);
                    continue;
                }
                read => read?,
            };
            let keys = keys.chunks_exact(size_of::<K>()).map(K::read);
            let values = values.chunks_exact(size_of::<V>()).map(V::read);
            let both = keys.zip(values).map(|(key, value)| key.zip(value));
            entries.extend(both.take(found as usize).flatten());
            if is_last {
                return Ok(entries);
            }
        }
    }

    /// Makes the map hold these entries and no others.
    pub(crate) fn hold_only(&self, wanted: &[(K, V)]) -> io::Result<()>
    where
        K: Eq + std::hash::Hash,
    {
        let keys: std::collections::HashSet<K> = wanted.iter().map(|(key, _)| *key).collect();
        for key in self.keys()?.iter().filter(|key| !keys.contains(key)) {
            self.remove(key)?;
        }
        wanted
            .iter()
            .try_for_each(|(key, value)| self.set(key, value, Update::Any))
    }
}

impl<V: Bytes + Default> Map<u32, V> {
    /// Writes a whole array: `values`, and zeros behind them.
    pub(crate) fn fill(&self, values: &[V]) -> io::Result<()> {
        let all: Vec<u32> = (0..self.entries_max).collect();
        for keys in all.chunks(BATCH as usize) {
            let value = |key: &u32| values.get(*key as usize).copied().unwrap_or_default();
            let key_bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_ne_bytes()).collect();
            let mut value_bytes = Vec::with_capacity(keys.len() * size_of::<V>());
            for one in keys.iter().map(value) {
                value_bytes.extend_from_slice(one.bytes());
            }
            let count = keys.len() as u32;
            bpf::update_batch(self.descriptor(), &key_bytes, &value_bytes, count)?;
        }
        Ok(())
    }
}
