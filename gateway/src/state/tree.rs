//! The database itself: the only place that touches it.
//!
//! It is trusted with nothing. It may panic on files that it does not like, lose records without a word, and its `flush` does
//! not reach the disk. So everything here is guarded, and everybody who uses it checks what came out.

use super::files;
use super::image::{Batch, Image, Key};
use super::{Damage, Problem};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version is in its name: another one is another tree, and what is not this tree is rebuilt.
const TREE: &[u8] = b"health.v1";

/// The tree that the database makes by itself.
const DEFAULT_TREE: &[u8] = b"__sled__default";

const CACHE_BYTES: u64 = 8 << 20;

/// Its threads may hold the files for a moment after it was closed.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);

/// An open database. When it is dropped, it writes what is still in memory.
pub(super) struct Tree {
    directory: PathBuf,
    /// `None` from the drop on.
    handles: Option<Handles>,
}

struct Handles {
    database: sled::Db,
    tree: sled::Tree,
}

/// Every entry of the database in this directory.
///
/// # Errors
/// It is damaged, or cannot be opened.
pub(super) fn entries(directory: &Path) -> Result<Vec<(Key, Vec<u8>)>, Problem> {
    Tree::open(directory)?.entries()
}

impl Tree {
    /// Opens the database in this directory, which must hold a tree of this version.
    ///
    /// # Errors
    /// It is damaged, or cannot be opened.
    pub(super) fn open(directory: &Path) -> Result<Self, Problem> {
        remove_unfinished(directory)?;
        let database = open_released(directory)?;
        let names = guarded(|| Ok(database.tree_names()));
        let tree = Self::of(directory, database)?;
        let mut names = names?;
        names.sort();
        if names == [DEFAULT_TREE, TREE] {
            Ok(tree)
        } else {
            Err(Problem::Damaged(Damage::Version))
        }
    }

    /// Makes a database in this directory, which does not exist yet; it holds only this batch, and is on the disk.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(directory: &Path, batch: Batch) -> Result<(), Problem> {
        let database = open_released(directory)?;
        Self::of(directory, database)?.write(batch)?;
        Ok(files::sync_directory(directory)?)
    }

    /// Waits until the threads of a database that was closed have let go of its files; whether they have.
    pub(super) fn wait_released(directory: &Path) -> bool {
        let gives_up_at = Instant::now() + RELEASE_TIMEOUT;
        loop {
            let is_free = |file: File| file.try_lock().is_ok();
            if File::open(directory.join("db")).is_ok_and(is_free) {
                return true;
            }
            if Instant::now() >= gives_up_at {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn of(directory: &Path, database: sled::Db) -> Result<Self, Problem> {
        match guarded(|| database.open_tree(TREE)) {
            Ok(tree) => Ok(Self {
                directory: directory.to_owned(),
                handles: Some(Handles { database, tree }),
            }),
            Err(problem) => {
                drop_guarded(database);
                Err(problem)
            }
        }
    }

    /// What it holds.
    pub(super) fn image(&self) -> Result<Image, Problem> {
        Ok(Image::verified(self.entries()?)?)
    }

    fn entries(&self) -> Result<Vec<(Key, Vec<u8>)>, Problem> {
        let Handles { tree, .. } = self.handles()?;
        guarded(|| {
            let entry = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
                entry.map(|(key, value)| (key.to_vec(), value.to_vec()))
            };
            tree.iter().map(entry).collect()
        })
    }

    /// Writes a batch at once; it is on the disk afterwards.
    pub(super) fn write(&self, batch: Batch) -> Result<(), Problem> {
        let Handles { database, tree } = self.handles()?;
        guarded(|| {
            let mut at_once = sled::Batch::default();
            for (key, value) in batch {
                match value {
                    Some(value) => at_once.insert(key, value),
                    None => at_once.remove(key),
                }
            }
            tree.apply_batch(at_once)?;
            database.flush()
        })?;
        Ok(files::sync(&self.directory)?)
    }

    fn handles(&self) -> Result<&Handles, Problem> {
        self.handles.as_ref().ok_or(Damage::Database.into())
    }

    /// Leaves it as it is: after a panic nothing of it may be used, not even its destructors.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop_guarded(self.handles.take());
    }
}

/// A panic of a destructor must not end the thread, and one that comes on top of another would end the process.
fn drop_guarded<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(value)));
}

/// A snapshot that was being written when the process ended would be taken for the latest one.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for name in files::names(directory)? {
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

fn open_released(directory: &Path) -> Result<sled::Db, Problem> {
    let gives_up_at = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let opened = guarded(|| {
            sled::Config::new()
                .path(directory)
                .mode(sled::Mode::LowSpace)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
        });
        match opened {
            Err(Problem::Busy) if Instant::now() < gives_up_at => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened,
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Problem> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Io(error))) => Err(io_problem(error)),
        Ok(Err(_)) => Err(Problem::Damaged(Damage::Database)),
        Err(_) => Err(Problem::Damaged(Damage::Panicked)),
    }
}

/// That its own lock is taken, the database tells in words alone.
fn io_problem(error: io::Error) -> Problem {
    if error.to_string().starts_with("could not acquire lock") {
        Problem::Busy
    } else {
        Problem::from(error)
    }
}
