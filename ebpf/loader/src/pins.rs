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

/// Writable by the group or by others, without the restriction that each may remove only what is his own.
const OTHERS_MAY_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

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

    /// Pins of other versions beside these.
    pub(crate) fn others(&self) -> Result<Vec<Self>, Missing> {
        let Some(directory) = self.version.parent() else {
            return Ok(Vec::new());
        };
        let names = names_in(directory).map_err(|error| cannot("read", directory, &error))?;
        let versions = names.iter().filter(|name| is_version(name));
        let versions = versions.map(|name| Self {
            version: directory.join(name),
        });
        Ok(versions.filter(|one| one.version != self.version).collect())
    }

    /// Makes the directories that are missing, for nobody but this user.
    pub(crate) fn make(&self) -> Result<(), Missing> {
        check_bpffs(&self.version)?;
        for kind in KINDS {
            let directory = self.version.join(kind);
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory);
            made.map_err(|error| cannot("make", &directory, &error))?;
            check_owner(&directory)?;
        }
        self.version.ancestors().take(2).try_for_each(check_owner)
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
                "{} is used by {holder}; end it, or give each gateway a kernel.bpffs and a kernel.cgroup of its own",
                self.version.display()
            ),
        }
    }

    /// The process that holds the lock, as far as this one can see it.
    pub(crate) fn holder(&self) -> Option<u32> {
        let metadata = fs::metadata(&self.version).ok()?;
        let (major, minor) = (
            rustix::fs::major(metadata.dev()),
            rustix::fs::minor(metadata.dev()),
        );
        let file = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| flock_holder(line, &file))
    }

    /// Removes all pins of this version, and returns what was removed. Links go first, by the order of their names: what is
    /// attached is never without the maps that others could find.
    pub(crate) fn remove(&self) -> io::Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for kind in names_in(&self.version)? {
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
        for kind in names_in(&self.version)? {
            fs::remove_dir(self.version.join(kind))?;
        }
        fs::remove_dir(&self.version)
    }
}

/// `v1`
fn is_version(name: &str) -> bool {
    let number = name.strip_prefix('v').map(str::parse::<u32>);
    number.is_some_and(|number| number.is_ok())
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

/// Pins of somebody else could be anything.
fn check_owner(directory: &Path) -> Result<(), Missing> {
    let metadata = fs::metadata(directory);
    let metadata = metadata.map_err(|error| cannot("look at", directory, &error))?;
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let is_own = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if is_own && (mode & OTHERS_MAY_WRITE == 0 || mode & STICKY != 0) {
        return Ok(());
    }
    Err(Missing {
        piece: "bpffs",
        detail: format!(
            "{} belongs to user {owner} with mode {:o}; others could write there, remove it or use another directory",
            directory.display(),
            mode & 0o7777
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

/// The process of a line of `/proc/locks`, if it holds an flock on this file (device and inode):
/// `1: FLOCK  ADVISORY  WRITE 1234 00:29:17 0 EOF`.
fn flock_holder(line: &str, file: &str) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    let is_flock = fields.next()? == "FLOCK";
    let mut fields = fields.skip(2);
    let pid = fields.next()?.parse().ok()?;
    (is_flock && fields.next()? == file).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_holder_of_a_lock() {
        let line = "1: FLOCK  ADVISORY  WRITE 1234 00:29:17 0 EOF";
        assert_eq!(flock_holder(line, "00:29:17"), Some(1234));
        assert_eq!(flock_holder(line, "00:29:7"), None);
        assert_eq!(flock_holder(line, "00:2a:17"), None);
        let other = "2: POSIX  ADVISORY  WRITE 1234 00:29:17 0 EOF";
        assert_eq!(flock_holder(other, "00:29:17"), None);
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 99 00:29:17 0 EOF";
        assert_eq!(flock_holder(waiting, "00:29:17"), None);
    }

    #[test]
    fn directories_of_versions_are_told_from_others() {
        assert!(is_version("v1") && is_version("v12"));
        assert!(!is_version("v") && !is_version("v1x") && !is_version("1") && !is_version("vx"));
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let set = |mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory.path(), permissions).expect("a mode");
            check_owner(directory.path()).map_err(|missing| missing.piece)
        };
        assert_eq!(set(0o700), Ok(()));
        assert_eq!(set(0o1777), Ok(()));
        assert_eq!(set(0o770), Err("bpffs"));
        assert_eq!(set(0o702), Err("bpffs"));
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
