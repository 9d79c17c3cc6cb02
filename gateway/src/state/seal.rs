//! The seal: what the files of the database must be at the next start.
//!
//! While they are at rest it names each of them with its length and CRC32C; while they are written to it names the least
//! sequence that they must hold. It is text, replaced as a whole, and checked strictly: a seal is what it would be written
//! as, or it is broken.

use super::Damage;
use super::files::{File, sync_directory};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

const NAME: &str = "seal";
const NEXT_NAME: &str = "seal.next";
const FIRST_LINE: &str = "codex-relay state 1";

/// A seal that is longer was not written here.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// The files may change; what they hold has this sequence, or a later one. 0: there may be no files at all.
    Open { sequence: u64 },
    /// The files hold this sequence, and are exactly these.
    Clean { sequence: u64, files: Vec<File> },
}

impl Seal {
    /// The sequence that must be there.
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Open { sequence } | Self::Clean { sequence, .. } => *sequence,
        }
    }

    /// The seal in this directory, if there is one.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Result<Self, Damage>>> {
        let path = directory.join(NAME);
        let length = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Ok(Some(Err(Damage::Seal))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > BYTES_MAX {
            return Ok(Some(Err(Damage::Seal)));
        }
        let bytes = fs::read(&path)?;
        let seal = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        let is_exact = |seal: &Self| seal.to_text().as_bytes() == bytes;
        Ok(Some(seal.filter(is_exact).ok_or(Damage::Seal)))
    }

    /// Replaces the seal. `durably`: it must be on the disk before anything that comes after it.
    pub(super) fn write(&self, directory: &Path, durably: bool) -> io::Result<()> {
        let next = directory.join(NEXT_NAME);
        let mut file = fs::File::create(&next)?;
        file.write_all(self.to_text().as_bytes())?;
        // Otherwise a loss of power may leave an empty one in place of the old one.
        file.sync_data()?;
        fs::rename(&next, directory.join(NAME))?;
        if durably {
            sync_directory(directory)?;
        }
        Ok(())
    }

    /// Whether a file of this name is part of it.
    pub(super) fn is_name(name: &str) -> bool {
        name == NAME || name == NEXT_NAME
    }

    fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let state = match self {
            Self::Open { .. } => "open",
            Self::Clean { .. } => "clean",
        };
        let _ = writeln!(text, "{state} {}", self.sequence());
        if let Self::Clean { files, .. } = self {
            for file in files {
                let File {
                    name,
                    length,
                    checksum,
                } = file;
                let _ = writeln!(text, "file {checksum:08x} {length} {name}");
            }
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "crc {checksum:08x}");
        text
    }

    /// As far as it can be understood; whether it is exactly right is not looked at.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (_, state) = (lines.next()?, lines.next()?);
        let (state, sequence) = state.split_once(' ')?;
        let sequence = sequence.parse().ok()?;
        let files = lines.filter_map(|line| line.strip_prefix("file "));
        match state {
            "open" => Some(Self::Open { sequence }),
            "clean" => Some(Self::Clean {
                sequence,
                files: files.map(parse_file).collect::<Option<_>>()?,
            }),
            _ => None,
        }
    }
}

fn parse_file(line: &str) -> Option<File> {
    let (checksum, rest) = line.split_once(' ')?;
    let (length, name) = rest.split_once(' ')?;
    Some(File {
        name: name.to_owned(),
        length: length.parse().ok()?,
        checksum: u32::from_str_radix(checksum, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals() -> [Seal; 3] {
        let file = |name: &str, length, checksum| File {
            name: name.to_owned(),
            length,
            checksum,
        };
        [
            Seal::Open { sequence: 0 },
            Seal::Open { sequence: 81 },
            Seal::Clean {
                sequence: u64::MAX,
                files: vec![
                    file("conf", 64, 0x0000_00ab),
                    file("db", 524_288, 0xdead_beef),
                ],
            },
        ]
    }

    #[test]
    fn a_seal_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Seal::read(directory.path()).unwrap().is_none());
        for (durably, seal) in [false, true, true].into_iter().zip(seals()) {
            seal.write(directory.path(), durably).unwrap();
            assert_eq!(Seal::read(directory.path()).unwrap(), Some(Ok(seal)));
        }
    }

    #[test]
    fn every_damage_to_a_seal_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let is_refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Seal::read(directory.path()).unwrap() == Some(Err(Damage::Seal))
        };
        for seal in seals() {
            let whole = seal.to_text().into_bytes();
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(is_refused(&damaged), "bit {bit} of {seal:?}");
            }
            for length in 0..whole.len() {
                assert!(is_refused(&whole[..length]), "{length} bytes of {seal:?}");
            }
            assert!(is_refused(&[&whole[..], b"\n"].concat()));
        }
        assert!(is_refused(&vec![b'x'; BYTES_MAX as usize + 1]));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let found = Seal::read(directory.path()).unwrap();
        assert_eq!(found, Some(Err(Damage::Seal)), "no file at all");
    }
}
