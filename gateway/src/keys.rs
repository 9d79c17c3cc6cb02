//! Tenant keys: how they are made and how they are known. A key itself is shown once, when it is
//! made; everywhere else there is only its SHA-256.
//!
//! A plain hash is enough: a key is random, so there is no dictionary to try.

use crate::config::Secret;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Begins every key, so that scanners for leaked secrets can find one.
const PREFIX: &str = "crk_";
/// 192 bits.
const RANDOM_BYTES: usize = 24;

/// A fresh key. Fails when the operating system has no randomness to give.
pub fn generate() -> Result<Secret, getrandom::Error> {
    let mut random = zeroize::Zeroizing::new([0; RANDOM_BYTES]);
    getrandom::fill(&mut *random)?;
    let mut key = Vec::with_capacity(PREFIX.len() + 2 * RANDOM_BYTES);
    key.extend_from_slice(PREFIX.as_bytes());
    for byte in random.iter() {
        key.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    Ok(Secret::new(key))
}

/// Something of each key, by the SHA-256 by which it is known.
pub type ByHash<T> = HashMap<[u8; 32], T, BuildHasherDefault<FirstBytes>>;

/// Takes a SHA-256 for a hash, as which its beginning is as good as any other. What is looked up are the callers' bytes, but
/// hashed: where that leads nobody can choose. Nor can anybody fill a table with keys that collide: what is in it are the
/// operator's.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// All are of the same length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The SHA-256 by which a key is known.
pub fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Identifier of a key in logs: the first 8 hexadecimal digits of its hash.
pub fn id(hash: &[u8; 32]) -> String {
    hexadecimal(&hash[..4])
}

/// The key's entry in the configuration.
pub fn entry(key: &[u8]) -> String {
    format!("{{ sha256 = \"{}\" }}", hexadecimal(&hash(key)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_printable_and_never_the_same() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one.expose(), other.expose());
        for key in [one, other] {
            let text = std::str::from_utf8(key.expose()).unwrap();
            let random = text.strip_prefix("crk_").unwrap();
            assert_eq!(random.len(), 48);
            assert!(
                random.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{random}"
            );
        }
    }

    #[test]
    fn each_key_has_its_place_by_its_hash() {
        let mut all = ByHash::default();
        let keys = (0..500u32).map(|number| hash(&number.to_le_bytes()));
        all.extend(keys.clone().zip(0..));
        // What begins alike is not alike.
        let mut other = hash(&0u32.to_le_bytes());
        other[31] ^= 1;
        assert_eq!(all.get(&other), None);
        all.insert(other, 500);
        for (number, key) in (0..).zip(keys.chain([other])) {
            assert_eq!(all.get(&key), Some(&number));
        }
    }

    #[test]
    fn hashes_are_sha256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(entry(b"abc"), format!("{{ sha256 = \"{expected}\" }}"));
        assert_eq!(id(&hash(b"abc")), "ba7816bf");
    }
}
