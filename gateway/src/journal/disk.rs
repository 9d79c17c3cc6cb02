//! Who does on the disk what has to be done: io_uring from the control thread, or a thread that may block.

use super::append::Batch;
use super::lock::Lock;
use super::segment;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;

/// What is in the journal is nobody else's business.
const FILE_MODE: u32 = 0o600;

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A file that has no name of its own yet; it is the one that is written to from now on.
    Create,
    /// The batch's bytes, from this place of the file on.
    Write { at: u64 },
    /// The file's bytes must be on the disk before anything else is done.
    Sync,
    /// The file's own name.
    Name(String),
    /// The directory's names must be on the disk.
    SyncDirectory,
}

impl Step {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Create => "creating a segment",
            Self::Write { .. } => "writing",
            Self::Sync => "syncing",
            Self::Name(_) => "naming a segment",
            Self::SyncDirectory => "syncing the directory",
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        Failure {
            doing: self.as_str(),
            error,
        }
    }
}

/// Something could not be done.
#[derive(Debug)]
pub struct Failure {
    /// What.
    pub doing: &'static str,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.doing, self.error)
    }
}

/// What drives the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    IoUring,
    Blocking,
}

/// A journal's directory on a disk.
pub(super) struct Disk {
    directory: PathBuf,
    /// The file that is written to.
    open: Option<File>,
    /// Held as long as something may still be written, however that ends.
    _lock: Lock,
}

/// A batch that was done with.
pub(super) struct Done {
    pub(super) disk: Disk,
    pub(super) batch: Batch,
    pub(super) outcome: Result<(), Failure>,
}

impl Disk {
    pub(super) fn new(directory: PathBuf, lock: Lock) -> Self {
        Self {
            directory,
            open: None,
            _lock: lock,
        }
    }

    /// Begins to do what a batch asks for.
    pub(super) fn begin(self, batch: Batch, driver: Driver) -> JoinHandle<Done> {
        match driver {
            // What a segment's beginning needs besides is rare, and not all of it can be had from io_uring.
            Driver::IoUring if !batch.begins_segment => {
                tokio_uring::spawn(self.carry_out_on_ring(batch))
            }
            _ => tokio::task::spawn_blocking(move || self.carry_out(batch)),
        }
    }

    fn carry_out(mut self, batch: Batch) -> Done {
        let outcome = batch.steps.iter().try_for_each(|step| {
            let done = self.carry_out_step(step, &batch.bytes);
            done.map_err(|error| step.failure(error))
        });
        Done {
            disk: self,
            batch,
            outcome,
        }
    }

    fn carry_out_step(&mut self, step: &Step, bytes: &[u8]) -> io::Result<()> {
        match step {
            Step::Create => {
                self.open = None;
                let mut options = File::options();
                options.write(true).create(true).truncate(true);
                options.mode(FILE_MODE);
                let path = self.directory.join(segment::NEXT_NAME);
                self.open = Some(options.open(path)?);
                Ok(())
            }
            Step::Write { at } => self.file()?.write_all_at(bytes, *at),
            Step::Sync => self.file()?.sync_data(),
            Step::Name(name) => {
                let next = self.directory.join(segment::NEXT_NAME);
                std::fs::rename(next, self.directory.join(name))
            }
            Step::SyncDirectory => sync_directory(&self.directory),
        }
    }

    fn file(&self) -> io::Result<&File> {
        let missing = || io::Error::other("no file is open");
        self.open.as_ref().ok_or_else(missing)
    }

    async fn carry_out_on_ring(self, mut batch: Batch) -> Done {
        let mut outcome = Ok(());
        for step in &batch.steps {
            let done = self.carry_out_step_on_ring(step, &mut batch.bytes).await;
            if let Err(error) = done {
                outcome = Err(step.failure(error));
                break;
            }
        }
        Done {
            disk: self,
            batch,
            outcome,
        }
    }

    async fn carry_out_step_on_ring(&self, step: &Step, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = tokio_uring::fs::File::from_std(self.file()?.try_clone()?);
        match step {
            Step::Write { at } => {
                let (written, returned) = file.write_all_at(std::mem::take(bytes), *at).await;
                *bytes = returned;
                written
            }
            Step::Sync => file.sync_data().await,
            Step::Create | Step::Name(_) | Step::SyncDirectory => {
                Err(io::Error::other("not a step of a segment that goes on"))
            }
        }
    }
}

/// Brings the names in a directory to the disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
