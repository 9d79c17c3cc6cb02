//! The directory of pins: on a bpffs, one for each ABI version, used by one process at a time.

use crate::Missing;
use relay_ebpf_abi::ABI_VERSION;
use rustix::fs::FlockOperation;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `statfs(2)`'s magic of a bpffs.
const BPFFS_MAGIC: u64 = 0xcafe_4a11;

/// What is pinned, each kind in a directory of its own.
const KINDS: [&str; 2] = ["links", "maps"];

/// The directory of this version's pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    version: PathBuf,
}

/// The right to change pins: lasts as long as this does, and ends with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: File,
}

impl Pins {
    /// The pins below `directory`, whether they exist or not.
    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            version: directory.join(format!("v{ABI_VERSION}")),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.version
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.version.join("maps").join(name)
    }

    pub(crate) fn link(&self, program: &str) -> PathBuf {
        self.version.join("links").join(program)
    }

    /// Names of the links.
    pub(crate) fn links(&self) -> Result<Vec<String>, Missing> {
        self.names_of("links")
    }

    /// Names of the maps.
    pub(crate) fn maps(&self) -> Result<Vec<String>, Missing> {
        self.names_of("maps")
    }

    fn names_of(&self, kind: &str) -> Result<Vec<String>, Missing> {
        let directory = self.version.join(kind);
        names_in(&directory).map_err(|error| cannot("read", &directory, &error))
    }

    /// Whether there are any.
    pub(crate) fn exist(&self) -> Result<bool, Missing> {
        let exist = self.version.try_exists();
        exist.map_err(|error| cannot("look at", &self.version, &error))
    }

    /// Makes the directories that are missing, for nobody but this user.
    pub(crate) fn make(&self) -> Result<(), Missing> {
        check_bpffs(&self.version)?;
        KINDS.iter().try_for_each(|kind| {
            let directory = self.version.join(kind);
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory);
            made.map_err(|error| cannot("make", &directory, &error))
        })
    }

    /// Locks the pins.
    pub(crate) fn lock(&self) -> Result<Lock, Missing> {
        let open = File::open(&self.version);
        let directory = open.map_err(|error| cannot("open", &self.version, &error))?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(self.in_use()),
            Err(error) => return Err(cannot("lock", &self.version, &error.into())),
        }
        // Whoever removed the pins held the lock until now, of a directory that nobody will find.
        let is_current = || {
            let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            io::Result::Ok(inode(directory.metadata()?) == inode(fs::metadata(&self.version)?))
        };
        if is_current().unwrap_or(false) {
            Ok(Lock {
                _directory: directory,
            })
        } else {
            Err(self.in_use())
        }
    }

    fn in_use(&self) -> Missing {
        let holder = self.holder();
        let holder =
            holder.map_or_else(|| "another one".to_owned(), |pid| format!("process {pid}"));
        Missing {
            piece: "in_use",
            detail: format!(
                "{} is used by {holder}; end it, or give each gateway a kernel.bpffs of its own",
                self.version.display()
            ),
        }
    }

    /// The process that holds the lock, as far as this one can see it.
    pub(crate) fn holder(&self) -> Option<u32> {
        let inode = fs::metadata(&self.version).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| flock_holder(line, inode))
    }

    /// Removes all pins of this version, and returns what was removed. Links go first: programs do not run on without the
    /// maps being found again.
    pub(crate) fn remove(&self) -> io::Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for kind in KINDS {
            let directory = self.version.join(kind);
            for name in names_in(&directory)? {
                let pin = directory.join(name);
                fs::remove_file(&pin)?;
                removed.push(pin);
            }
        }
        Ok(removed)
    }

    /// Removes the directories, which must be empty.
    pub(crate) fn remove_directories(&self) -> io::Result<()> {
        let inner = KINDS.iter().map(|kind| self.version.join(kind));
        for directory in inner.chain([self.version.clone()]) {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The names in a directory, in order; none if it does not exist.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Whether the directory, or what exists of it, is on a bpffs: `mkdir` would succeed elsewhere too, and a pin fail.
fn check_bpffs(path: &Path) -> Result<(), Missing> {
    let existing = path.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    let found = rustix::fs::statfs(existing);
    let found = found.map_err(|error| cannot("look at", existing, &error.into()))?;
    if found.f_type as u64 == BPFFS_MAGIC {
        return Ok(());
    }
    Err(Missing {
        piece: "bpffs",
        detail: format!(
            "{} is not on a bpffs; mount -t bpf bpf /sys/fs/bpf, or set kernel.bpffs to a directory on one",
            path.display()
        ),
    })
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Missing {
    Missing {
        piece: "bpffs",
        detail: format!(
            "cannot {verb} {}: {error}; run as root, or own a directory on a bpffs (without dots in its name)",
            path.display()
        ),
    }
}

/// The process of a line of `/proc/locks`, if it holds an flock on this inode:
/// `1: FLOCK  ADVISORY  WRITE 1234 00:29:17 0 EOF`. The device's number is not that of `stat(2)` on all file systems.
fn flock_holder(line: &str, inode: u64) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    let is_flock = fields.next()? == "FLOCK";
    let mut fields = fields.skip(2);
    let pid = fields.next()?.parse().ok()?;
    let file = fields.next()?.rsplit(':').next()?;
    (is_flock && file.parse() == Ok(inode)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock() {
        let line = "1: FLOCK  ADVISORY  WRITE 1234 00:29:17 0 EOF";
        assert_eq!(flock_holder(line, 17), Some(1234));
        assert_eq!(flock_holder(line, 7), None);
        let other = "2: POSIX  ADVISORY  WRITE 1234 00:29:17 0 EOF";
        assert_eq!(flock_holder(other, 17), None);
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 99 00:29:17 0 EOF";
        assert_eq!(flock_holder(waiting, 17), None);
    }

    #[test]
    fn a_directory_elsewhere_is_not_made() {
        let directory = std::env::temp_dir().join("relay-pins-that-are-not-made");
        let missing = Pins::at(&directory).make().expect_err("not a bpffs");
        assert_eq!(missing.piece, "bpffs");
        assert!(missing.detail.contains("mount -t bpf"), "{missing}");
        assert!(!directory.exists());
    }

    #[test]
    fn pins_of_a_version_stand_together() {
        let pins = Pins::at(Path::new("/sys/fs/bpf/x"));
        let map = format!("/sys/fs/bpf/x/v{ABI_VERSION}/maps/SOCKETS");
        assert_eq!(pins.map("SOCKETS"), Path::new(&map));
        let link = format!("/sys/fs/bpf/x/v{ABI_VERSION}/links/relay_release");
        assert_eq!(pins.link("relay_release"), Path::new(&link));
    }
}
