//! What the tree holds, and how it is known that it holds all of it: every value proves itself and its place, and a manifest
//! in every batch proves that none is missing, added or older than the others.

use super::Damage;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The name of a record.
pub(super) type Key = Vec<u8>;

/// What happens to a record: a new payload, or its end.
pub(super) type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// Where the manifest is. Other keys have a `/`.
const MANIFEST_KEY: &[u8] = b"manifest";

const MAGIC: [u8; 4] = *b"CRst";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 2 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;

/// The records of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    sequence: u64,
    digests_xor: u64,
    records: BTreeMap<Key, Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    payload: Vec<u8>,
    digest: u64,
}

/// What has to be written at once, the manifest included; `None`: to be removed.
pub(super) type Batch = Vec<(Key, Option<Vec<u8>>)>;

impl Image {
    /// Grows with every batch.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// All records.
    pub(super) fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.records
            .iter()
            .map(|(key, kept)| (key.as_slice(), kept.payload.as_slice()))
    }

    /// What is kept under this key.
    pub(super) fn payload(&self, key: &[u8]) -> Option<&[u8]> {
        self.records.get(key).map(|kept| kept.payload.as_slice())
    }

    /// Goes one batch on.
    pub(super) fn apply(&mut self, changes: Changes) -> Batch {
        self.sequence += 1;
        let mut batch = Batch::with_capacity(changes.len() + 1);
        for (key, payload) in changes {
            let value = payload.map(|payload| self.keep(&key, payload));
            if value.is_none() {
                self.forget(&key);
            }
            batch.push((key, value));
        }
        batch.push((MANIFEST_KEY.to_vec(), Some(self.manifest())));
        batch
    }

    /// Everything, for a tree that holds nothing yet.
    pub(super) fn whole(&mut self) -> Batch {
        let records = std::mem::take(&mut self.records);
        self.digests_xor = 0;
        let all = records
            .into_iter()
            .map(|(key, kept)| (key, Some(kept.payload)));
        self.apply(all.collect())
    }

    /// The image that these entries of a tree are.
    pub(super) fn verified(
        entries: impl IntoIterator<Item = (Key, Vec<u8>)>,
    ) -> Result<Self, Damage> {
        let mut image = Self::default();
        let mut manifest = None;
        let mut latest = 0;
        for (key, value) in entries {
            let (sequence, payload) = decode(&key, &value).ok_or(Damage::Record)?;
            latest = latest.max(sequence);
            if key == MANIFEST_KEY {
                image.sequence = sequence;
                manifest = Some(value);
                continue;
            }
            let payload = payload.to_vec();
            let digest = digest(&key, &value);
            image.digests_xor ^= digest;
            image.records.insert(key, Kept { payload, digest });
        }
        let is_whole = manifest.is_some_and(|manifest| manifest == image.manifest());
        if is_whole && latest == image.sequence {
            Ok(image)
        } else {
            Err(Damage::Manifest)
        }
    }

    fn keep(&mut self, key: &[u8], payload: Vec<u8>) -> Vec<u8> {
        let value = encode(key, self.sequence, &payload);
        let digest = digest(key, &value);
        self.forget(key);
        self.digests_xor ^= digest;
        self.records.insert(key.to_vec(), Kept { payload, digest });
        value
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(kept) = self.records.remove(key) {
            self.digests_xor ^= kept.digest;
        }
    }

    fn manifest(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(16);
        payload.extend((self.records.len() as u64).to_le_bytes());
        payload.extend(self.digests_xor.to_le_bytes());
        encode(MANIFEST_KEY, self.sequence, &payload)
    }
}

/// Magic, version, sequence, length, payload, and the CRC32C of the key and all of these.
fn encode(key: &[u8], sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    value.extend(MAGIC);
    value.extend(VERSION.to_le_bytes());
    value.extend(sequence.to_le_bytes());
    // A payload is an account's health or a page of owners; it never comes near 4 GiB.
    value.extend((payload.len() as u32).to_le_bytes());
    value.extend(payload);
    value.extend(checksum(key, &value).to_le_bytes());
    value
}

fn decode<'a>(key: &[u8], value: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (checked, stored) = value.split_last_chunk::<CHECKSUM_BYTES>()?;
    if u32::from_le_bytes(*stored) != checksum(key, checked) {
        return None;
    }
    let rest = checked.strip_prefix(&MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, payload) = rest.split_first_chunk::<4>()?;
    let is_ours = u16::from_le_bytes(*version) == VERSION;
    let is_whole = u32::from_le_bytes(*length) as usize == payload.len();
    (is_ours && is_whole).then_some((u64::from_le_bytes(*sequence), payload))
}

/// The key is part of it: two values that have changed places do not pass.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// One that is good enough for a sum by XOR, which that of a CRC is not.
fn digest(key: &[u8], value: &[u8]) -> u64 {
    let digest = Sha256::new()
        .chain_update((key.len() as u64).to_le_bytes())
        .chain_update(key)
        .chain_update(value)
        .finalize();
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(of: &[(&str, Option<&str>)]) -> Changes {
        let change = |(key, payload): &(&str, Option<&str>)| {
            let payload = payload.map(|payload| payload.as_bytes().to_vec());
            (key.as_bytes().to_vec(), payload)
        };
        of.iter().map(change).collect()
    }

    type Entries = BTreeMap<Key, Vec<u8>>;

    fn write(tree: &mut Entries, batch: Batch) {
        for (key, value) in batch {
            match value {
                Some(value) => drop(tree.insert(key, value)),
                None => drop(tree.remove(&key)),
            }
        }
    }

    /// A tree after three batches, and what it was after two.
    fn two_trees() -> (Entries, Entries, Image) {
        let (mut tree, mut image) = (BTreeMap::new(), Image::default());
        let first = [("a/1", Some("one")), ("a/2", Some("two"))];
        write(&mut tree, image.apply(changes(&first)));
        write(&mut tree, image.apply(changes(&[("o/1", Some(""))])));
        let before = tree.clone();
        let last = [("a/1", Some("three")), ("a/2", None)];
        write(&mut tree, image.apply(changes(&last)));
        (tree, before, image)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (tree, before, image) = two_trees();
        assert_eq!(Image::verified(tree.clone()), Ok(image.clone()));
        assert_eq!(image.sequence(), 3);
        let records: Vec<_> = image.records().collect();
        assert_eq!(records, [(&b"a/1"[..], &b"three"[..]), (b"o/1", b"")]);
        assert_eq!(Image::verified(before).map(|image| image.sequence()), Ok(2));

        let mut again = image.clone();
        let whole: BTreeMap<_, _> = again
            .whole()
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        assert_eq!(Image::verified(whole), Ok(again.clone()));
        assert!(again.records().eq(image.records()));
        assert_eq!(again.sequence(), 4);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (tree, _, _) = two_trees();
        for (key, value) in &tree {
            for bit in 0..value.len() * 8 {
                let mut tree = tree.clone();
                let value = tree.get_mut(key).unwrap();
                value[bit / 8] ^= 1 << (bit % 8);
                assert!(Image::verified(tree).is_err(), "{key:?} bit {bit}");
            }
            for length in 0..value.len() {
                let mut tree = tree.clone();
                tree.get_mut(key).unwrap().truncate(length);
                assert!(Image::verified(tree).is_err(), "{key:?} cut to {length}");
            }
        }
    }

    #[test]
    fn records_that_are_missing_added_old_or_in_another_place_are_noticed() {
        let (tree, before, _) = two_trees();
        for key in tree.keys() {
            let mut tree = tree.clone();
            tree.remove(key);
            assert_eq!(Image::verified(tree), Err(Damage::Manifest), "{key:?}");
        }
        for (key, old) in &before {
            let mut mixed = tree.clone();
            if mixed.insert(key.clone(), old.clone()).as_ref() != Some(old) {
                assert_eq!(Image::verified(mixed), Err(Damage::Manifest), "{key:?}");
            }
        }
        let mut exchanged = tree.clone();
        let value = exchanged[&b"a/1"[..]].clone();
        exchanged.insert(b"o/1".to_vec(), value);
        assert_eq!(Image::verified(exchanged), Err(Damage::Record));
        assert_eq!(Image::verified([]), Err(Damage::Manifest));
    }
}
