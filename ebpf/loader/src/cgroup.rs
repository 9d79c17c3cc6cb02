//! The gateway's own cgroup: found or made, and entered.

use crate::Missing;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// `statfs(2)`'s magic of cgroup v2.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Name of the group that is made below the process' own.
const OWN_NAME: &str = "codex-relay";

/// A cgroup of version 2.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: File,
    id: u64,
}

/// The process is in the group; `leave` takes it back to where it was.
pub(crate) struct Entered {
    before: Option<PathBuf>,
}

impl Cgroup {
    /// Opens the group, made if it is missing: the one at `path`, or the one named `codex-relay` below the process' own.
    pub(crate) fn find_or_make(path: Option<&Path>) -> Result<Self, Missing> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        // Elsewhere a directory could be made too, and would be none.
        let existing = path.ancestors().find(|path| path.exists());
        check_file_system(existing.unwrap_or(Path::new("/")))?;
        fs::create_dir_all(&path).map_err(|error| cannot("make", &path, &error))?;
        Self::open(path)
    }

    /// Opens the group if it exists.
    pub(crate) fn find(path: Option<&Path>) -> Result<Option<Self>, Missing> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        if path.is_dir() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Looks for the group with this number in all hierarchies that are mounted.
    pub(crate) fn find_by_id(id: u64) -> Result<Option<Self>, Missing> {
        for (_, mount_point) in cgroup2_mounts(&mounts()?) {
            if let Some(path) = directory_with_inode(mount_point, id) {
                return Self::open(path).map(Some);
            }
        }
        Ok(None)
    }

    fn open(path: PathBuf) -> Result<Self, Missing> {
        check_file_system(&path)?;
        // The root has no such file, and programs there would refuse the connections of all others.
        if !path.join("cgroup.events").exists() {
            return Err(Missing {
                piece: "cgroup",
                detail: format!(
                    "{} holds every process of this host; name a group below it",
                    path.display()
                ),
            });
        }
        let open = || {
            let directory = File::open(&path)?;
            Ok((directory.metadata()?.ino(), directory))
        };
        let (id, directory) = open().map_err(|error| cannot("open", &path, &error))?;
        Ok(Self {
            path,
            directory,
            id,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The kernel's number of it, which is its inode's.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Refuses a group that this process shares with others, also if they are in one below: what governs the gateway would cut
    /// off their connections. Asked when this process is in it already, so that of two that come at once none is overlooked.
    pub(crate) fn check_alone(&self) -> Result<(), Missing> {
        let own = std::process::id();
        let mut left = vec![self.path.clone()];
        while let Some(path) = left.pop() {
            let processes = match fs::read_to_string(path.join("cgroup.procs")) {
                Ok(processes) => processes,
                Err(error) if path != self.path && is_of_no_process(&error) => continue,
                Err(error) => return Err(cannot("read", &path, &error)),
            };
            let mut processes = processes.lines().filter_map(|line| line.parse().ok());
            if let Some(other) = processes.find(|&process: &u32| process != own) {
                return Err(self.shared_with(other));
            }
            left.extend(directories_in(&path));
        }
        Ok(())
    }

    fn shared_with(&self, process: u32) -> Missing {
        let process = match process {
            // What cgroups(7) shows of a process in another PID namespace.
            0 => "a process that is not seen from here".to_owned(),
            process => format!("process {process}"),
        };
        Missing {
            piece: "cgroup",
            detail: format!(
                "{process} is in {} too, and its connections would be cut off; \
                 give the gateway a kernel.cgroup of its own",
                self.path.display()
            ),
        }
    }

    /// Moves the whole process into the group: its sockets belong to it from now on.
    pub(crate) fn enter(&self) -> Result<Entered, Missing> {
        let before = own_path()?;
        let is_there = fs::metadata(&before).is_ok_and(|before| before.ino() == self.id);
        if is_there {
            return Ok(Entered { before: None });
        }
        move_to(&self.path).map_err(|error| cannot("enter", &self.path, &error))?;
        Ok(Entered {
            before: Some(before),
        })
    }
}

impl Entered {
    /// Goes back, since what the group is for could not be had: programs that an earlier process left there would refuse the
    /// connections of this one.
    pub(crate) fn leave(self, missing: &mut Missing) {
        let Some(before) = self.before else {
            return;
        };
        if let Err(error) = move_to(&before) {
            let stays = format!(
                "; the process stays in its cgroup, going back to {} failed: {error}",
                before.display()
            );
            missing.detail.push_str(&stays);
        }
    }
}

/// What reading the processes of a group below another can fail with: it has gone meanwhile, or it has threads alone, and their
/// processes are those of a group above it.
fn is_of_no_process(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)
    )
}

fn move_to(group: &Path) -> io::Result<()> {
    // 0 is the process that writes.
    fs::write(group.join("cgroup.procs"), "0")
}

fn check_file_system(path: &Path) -> Result<(), Missing> {
    let found = rustix::fs::statfs(path);
    let found = found.map_err(|error| cannot("look at", path, &error.into()))?;
    if found.f_type as u64 == CGROUP2_MAGIC {
        return Ok(());
    }
    Err(Missing {
        piece: "cgroup",
        detail: format!(
            "{} is not in a cgroup2 file system; name a directory below the mount of one",
            path.display()
        ),
    })
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Missing {
    Missing {
        piece: "cgroup",
        detail: format!(
            "cannot {verb} {}: {error}; run as root, or under systemd with Delegate=yes",
            path.display()
        ),
    }
}

fn no_cgroup2(detail: &str) -> Missing {
    Missing {
        piece: "cgroup2",
        detail: format!("{detail}; mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    }
}

/// The group for this process: the one below its own, or its own if that has the name already.
fn default_path() -> Result<PathBuf, Missing> {
    let own = own_path()?;
    if own.file_name().is_some_and(|name| name == OWN_NAME) {
        return Ok(own);
    }
    Ok(own.join(OWN_NAME))
}

/// The directory of the group that this process is in.
fn own_path() -> Result<PathBuf, Missing> {
    let mounts = mounts()?;
    let groups = fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| no_cgroup2(&format!("cannot read /proc/self/cgroup: {error}")))?;
    let own = own_group(&groups)
        .ok_or_else(|| no_cgroup2("this process is in no cgroup of version 2"))?;
    cgroup2_mounts(&mounts)
        .find_map(|(root, mount_point)| below(&mount_point, &root, own))
        .ok_or_else(|| no_cgroup2("no cgroup2 file system is mounted that shows this process"))
}

fn mounts() -> Result<String, Missing> {
    fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| no_cgroup2(&format!("cannot read /proc/self/mountinfo: {error}")))
}

/// This directory or one below it. Groups that cannot be read, or go meanwhile, are passed over.
fn directory_with_inode(start: PathBuf, inode: u64) -> Option<PathBuf> {
    let mut left = vec![start];
    while let Some(path) = left.pop() {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.ino() == inode) {
            return Some(path);
        }
        left.extend(directories_in(&path));
    }
    None
}

fn directories_in(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path())
}

/// The directory of `group` in a mount that shows the hierarchy from `root` on.
fn below(mount_point: &Path, root: &Path, group: &Path) -> Option<PathBuf> {
    let rest = group.strip_prefix(root).ok()?;
    // `..` stands for a group outside of the cgroup namespace.
    let is_outside = rest.components().any(|one| one == Component::ParentDir);
    (!is_outside).then(|| mount_point.join(rest))
}

/// The group of version 2 in `/proc/PID/cgroup`.
fn own_group(groups: &str) -> Option<&Path> {
    let line = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(line.strip_suffix(" (deleted)").unwrap_or(line)))
}

/// Root and mount point of each cgroup2 mount in `/proc/PID/mountinfo`.
fn cgroup2_mounts(mounts: &str) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mounts.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let is_cgroup2 = file_system.split(' ').next() == Some("cgroup2");
        let mut fields = mount.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        is_cgroup2.then(|| (unescaped(root), unescaped(mount_point)))
    })
}

/// Spaces, tabs, line ends and backslashes are written as `\` and three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escape, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        text = text.replace(escape, character);
    }
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:3 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_mount_is_found_where_versions_are_mixed() {
        let mounts: Vec<_> = cgroup2_mounts(HYBRID).collect();
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(mounts, [(PathBuf::from("/"), unified)]);
    }

    #[test]
    fn the_group_of_all_processes_is_refused() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a list of mounts");
        let is_root = |mount_point: &Path| !mount_point.join("cgroup.type").exists();
        for (_, mount_point) in cgroup2_mounts(&mounts).filter(|(_, at)| is_root(at)) {
            let missing = Cgroup::open(mount_point).expect_err("the root");
            assert!(missing.detail.contains("every process"), "{missing}");
        }
    }

    #[test]
    fn a_group_is_found_by_its_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        fs::create_dir_all(directory.path().join("c")).expect("a directory");
        fs::write(directory.path().join("file"), "").expect("a file");
        let inode = |path: &Path| fs::metadata(path).expect("it is there").ino();
        let find = |inode| directory_with_inode(directory.path().to_owned(), inode);
        assert_eq!(find(inode(&inner)), Some(inner));
        assert_eq!(find(inode(&directory.path().join("file"))), None);
    }

    #[test]
    fn a_mount_point_with_a_space() {
        let line = "41 31 0:38 /a /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n";
        let mounts: Vec<_> = cgroup2_mounts(line).collect();
        let expected = (PathBuf::from("/a"), PathBuf::from("/mnt/my groups"));
        assert_eq!(mounts, [expected]);
    }

    #[test]
    fn the_group_of_version_2_is_told_from_the_others() {
        let groups = "9:name=systemd:/a\n4:memory:/b\n0::/system.slice/x.service\n";
        assert_eq!(
            own_group(groups),
            Some(Path::new("/system.slice/x.service"))
        );
        assert_eq!(own_group("4:memory:/b\n"), None);
    }

    #[test]
    fn a_group_is_found_in_a_mount_of_a_part_of_the_hierarchy() {
        let mount = Path::new("/sys/fs/cgroup");
        let below = |root, group| below(mount, Path::new(root), Path::new(group));
        assert_eq!(below("/", "/"), Some(mount.to_owned()));
        assert_eq!(below("/", "/a/b"), Some(mount.join("a/b")));
        assert_eq!(below("/a", "/a/b"), Some(mount.join("b")));
        assert_eq!(below("/a", "/c"), None);
        assert_eq!(below("/", "/../c"), None);
    }
}
