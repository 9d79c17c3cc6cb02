//! Owners of stored responses as they are kept: a ring of pages, of which only those are written anew that have changed.

use super::image::Key;
use std::collections::{BTreeMap, BTreeSet};

/// Owners in one page.
const PAGE_OWNERS: u64 = 64;

const OWNER_BYTES: usize = 16;

const PREFIX: &[u8] = b"owners/";

/// A response, and the account that stores it, by their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) response: u64,
    pub(super) account: u64,
}

/// The latest owners, as many as are remembered.
pub(super) struct Ring {
    pages_max: u64,
    /// Owners that were ever added.
    added: u64,
    /// By their place in the ring; the oldest is the one behind the latest.
    pages: BTreeMap<u64, Page>,
    changed: BTreeSet<u64>,
}

#[derive(Default)]
struct Page {
    /// The number of its first owner among all that were ever added.
    first: u64,
    owners: Vec<Owner>,
}

impl Ring {
    /// With room for at least so many.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            // One more: that which is begun anew is not full.
            pages_max: (capacity as u64).div_ceil(PAGE_OWNERS) + 1,
            added: 0,
            pages: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Goes on with what was kept, as if what was added meanwhile came after it. The owners that were kept, oldest first, and
    /// what does not belong there and is to be removed.
    pub(super) fn restore<'a>(
        &mut self,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> (Vec<Owner>, Vec<Key>) {
        let mut foreign = Vec::new();
        let meanwhile = self.owners();
        (self.added, self.pages) = (0, BTreeMap::new());
        for (key, payload) in records.filter(|(key, _)| key.starts_with(PREFIX)) {
            let place = key[PREFIX.len()..].try_into().map(u64::from_be_bytes);
            match (place, Page::decode(payload)) {
                (Ok(place), Some(page)) if place == self.place(page.first) => {
                    self.added = self.added.max(page.first + page.owners.len() as u64);
                    self.pages.insert(place, page);
                }
                _ => foreign.push(key.to_vec()),
            }
        }
        let kept = self.owners();
        meanwhile.into_iter().for_each(|owner| self.add(owner));
        (kept, foreign)
    }

    /// All of them, oldest first.
    fn owners(&self) -> Vec<Owner> {
        let mut pages: Vec<&Page> = self.pages.values().collect();
        pages.sort_by_key(|page| page.first);
        let owners = pages.iter().flat_map(|page| &page.owners);
        owners.copied().collect()
    }

    /// One more, for which the oldest may have to go.
    pub(super) fn add(&mut self, owner: Owner) {
        let first = self.added - self.added % PAGE_OWNERS;
        let place = self.place(first);
        let page = self.pages.entry(place).or_default();
        if page.first != first || self.added == first {
            page.first = first;
            page.owners.clear();
        }
        page.owners.push(owner);
        self.added += 1;
        self.changed.insert(place);
    }

    /// What has to be written.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = (Key, Vec<u8>)> {
        std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|place| {
                let page = self.pages.get(&place)?;
                Some(([PREFIX, &place.to_be_bytes()].concat(), page.encode()))
            })
    }

    fn place(&self, number: u64) -> u64 {
        number / PAGE_OWNERS % self.pages_max
    }
}

impl Page {
    fn encode(&self) -> Vec<u8> {
        let mut payload = self.first.to_le_bytes().to_vec();
        for owner in &self.owners {
            payload.extend(owner.response.to_le_bytes());
            payload.extend(owner.account.to_le_bytes());
        }
        payload
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (first, rest) = payload.split_first_chunk::<8>()?;
        let (owners, rest) = rest.as_chunks::<OWNER_BYTES>();
        let owner = |bytes: &[u8; OWNER_BYTES]| Owner {
            response: u64::from_le_bytes(std::array::from_fn(|index| bytes[index])),
            account: u64::from_le_bytes(std::array::from_fn(|index| bytes[8 + index])),
        };
        let first = u64::from_le_bytes(*first);
        let is_page = first.is_multiple_of(PAGE_OWNERS) && owners.len() as u64 <= PAGE_OWNERS;
        (rest.is_empty() && is_page && first < u64::MAX - PAGE_OWNERS).then(|| Self {
            first,
            owners: owners.iter().map(owner).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u64) -> Owner {
        Owner {
            response: number,
            account: number % 3,
        }
    }

    type Disk = BTreeMap<Key, Vec<u8>>;

    fn restored(disk: &Disk, capacity: usize) -> (Ring, Vec<Owner>, Vec<Key>) {
        let mut ring = Ring::new(capacity);
        let records = disk.iter().map(|(key, payload)| (&key[..], &payload[..]));
        let (owners, foreign) = ring.restore(records);
        (ring, owners, foreign)
    }

    #[test]
    fn the_latest_are_kept_over_any_number_of_restarts() {
        let (capacity, mut disk) = (256, Disk::new());
        let mut next = 0;
        for added in [1, 63, 1, 64, 500, 3, 1_000, 129] {
            let (mut ring, owners, foreign) = restored(&disk, capacity);
            assert!(foreign.is_empty());
            let kept = owners.len() as u64;
            assert!(kept >= next.min(capacity as u64), "{kept} of {next}");
            assert!(kept <= capacity as u64 + PAGE_OWNERS);
            let expected: Vec<_> = (next - kept..next).map(owner).collect();
            assert_eq!(owners, expected, "the latest, in their order");
            for number in next..next + added {
                ring.add(owner(number));
            }
            next += added;
            disk.extend(ring.take_changed());
            assert_eq!(ring.take_changed().count(), 0);
        }
    }

    #[test]
    fn only_pages_that_have_changed_are_written() {
        let mut ring = Ring::new(1_024);
        (0..640).for_each(|number| ring.add(owner(number)));
        assert_eq!(ring.take_changed().count(), 10);
        ring.add(owner(640));
        assert_eq!(ring.take_changed().count(), 1);
    }

    #[test]
    fn pages_of_another_size_of_ring_and_foreign_ones_are_to_be_removed() {
        let mut ring = Ring::new(1_024);
        (0..2_000).for_each(|number| ring.add(owner(number)));
        let mut disk: Disk = ring.take_changed().collect();
        disk.insert(b"owners/x".to_vec(), Vec::new());
        disk.insert(b"account/first".to_vec(), Vec::new());
        let (mut ring, owners, foreign) = restored(&disk, 256);
        assert!(foreign.contains(&b"owners/x".to_vec()));
        assert!(!foreign.contains(&b"account/first".to_vec()));
        assert!(owners.len() <= 256 + PAGE_OWNERS as usize);
        for key in foreign {
            disk.remove(&key);
        }
        ring.add(owner(2_000));
        disk.extend(ring.take_changed());
        let (_, owners, foreign) = restored(&disk, 256);
        assert!(foreign.is_empty());
        assert!(owners.contains(&owner(2_000)));
    }
}
