//! Who may write to a directory: one gateway at a time. Unlike the lock of the accounts' state, which the reader of its database shares,
//! no child is meant to keep it.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const LOCK_MODE: u32 = 0o600;

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Somebody else has it, the file cannot be made, or this file system has no locks.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(LOCK_MODE)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                ErrorKind::ResourceBusy,
                "another gateway writes to it: each needs a directory of its own",
            )),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that is being started has it too until it runs its program.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        drop(held);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn nobody_holds_it_who_has_only_inherited_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let _inherited = held.0.try_clone().unwrap();
        drop(held);
        Lock::take(&path).unwrap();
    }
}
