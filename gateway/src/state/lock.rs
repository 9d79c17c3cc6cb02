//! Who may touch the files: one gateway at a time, and the reader that it has started.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A gateway that was killed may have left its reader behind, which ends by itself.
const ORPHAN_LIFETIME: Duration = Duration::from_millis(150);

const PAUSE: Duration = Duration::from_millis(5);

/// Held until it is dropped, and as long as a process runs that was given it.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock; `None` if somebody else holds it, also after a short while.
    ///
    /// # Errors
    /// The file cannot be made, or this file system has no locks.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let gives_up_at = Instant::now() + ORPHAN_LIFETIME;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= gives_up_at => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The same lock for a child, as its standard input.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn for_child(&self) -> io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn one_holds_it_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_child_holds_it_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap().unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(held.for_child().unwrap())
            .spawn()
            .unwrap();
        drop(held);
        assert!(Lock::take(&path).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
