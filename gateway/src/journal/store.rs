//! The journal as the control thread holds it: entries go in at once, and to the disk by and by.

use super::append::Appender;
use super::disk::{Disk, Done, Driver, Failure};
use super::entry::Entry;
use super::recover::{self, Recovered, Taken};
use relay_io::Engine;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinHandle;

/// After something failed it is tried again this much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A commit does not wait any longer when so many bytes wait for it.
const COMMIT_BYTES: usize = 256 << 10;

/// How often it is looked whether the last entries are on the disk.
const FINISH_PAUSE: Duration = Duration::from_millis(1);

/// A journal that is written to. One per process; used by the control thread.
pub struct Journal {
    directory: PathBuf,
    driver: Driver,
    appender: Appender,
    work: Work,
    /// A batch's memory, for the next one.
    spare: Vec<u8>,
    /// Nothing is tried before.
    retries_at: Option<Instant>,
    /// A commit is begun so long after the one before it, unless [`COMMIT_BYTES`] wait.
    commit_interval: Duration,
    commit_begun_at: Option<Instant>,
}

/// What is going on with the disk.
enum Work {
    /// It is not known yet how far the journal goes.
    Unopened,
    Opening(JoinHandle<Result<Taken, Failure>>),
    Idle(Disk),
    Committing(JoinHandle<Done>, Instant),
}

/// What has come of what was begun.
#[derive(Debug)]
pub enum Outcome {
    /// The directory was taken over.
    Opened(Recovered),
    /// Entries are on the disk.
    Committed {
        /// How many.
        entries: u64,
        /// Bytes that were written for them.
        bytes: usize,
        /// A segment began with them.
        began_segment: bool,
        /// How long it took, until it was noticed.
        took: Duration,
    },
    /// It failed, and is tried again: what waits goes on waiting.
    Failed(Failure),
}

impl Journal {
    /// A journal in this directory, with which nothing has been done yet; what is appended waits.
    pub fn new(directory: PathBuf, segment_bytes_max: u64, engine: Engine) -> Self {
        let driver = match engine {
            Engine::IoUring | Engine::IoUringPlain => Driver::IoUring,
            Engine::Epoll => Driver::Blocking,
        };
        Self {
            directory,
            driver,
            appender: Appender::new(segment_bytes_max),
            work: Work::Unopened,
            spare: Vec::new(),
            retries_at: None,
            commit_interval: Duration::ZERO,
            commit_begun_at: None,
        }
    }

    /// Begins a commit so long after the one before it at the earliest, unless much waits. Without it, at every tick.
    pub fn commit_every(&mut self, interval: Duration) {
        self.commit_interval = interval;
    }

    /// Writes by threads that may block, from the next batch on, whatever there was to write with.
    pub fn use_threads(&mut self) {
        self.driver = Driver::Blocking;
    }

    /// Takes the directory over, on this thread. Without it, or after it has failed, [`Journal::tick`] does so.
    ///
    /// # Errors
    /// Another process writes to it, or the disk does not let this one write.
    pub fn open(&mut self) -> Result<Recovered, Failure> {
        let taken = recover::take(&self.directory);
        self.take_over(taken)
    }

    /// Takes in an entry, whose sequence comes from the journal.
    pub fn append(&mut self, entry: &Entry<&str>) {
        self.appender.append(entry, Instant::now);
    }

    /// Bytes of entries that are not on the disk yet.
    pub fn waiting_bytes(&self) -> usize {
        self.appender.waiting_bytes()
    }

    /// How many entries are not on the disk yet.
    pub fn waiting_entries(&self) -> u64 {
        self.appender.waiting_entries()
    }

    /// Since when the oldest of them waits.
    pub fn waits_since(&self) -> Option<Instant> {
        self.appender.waits_since()
    }

    /// The last sequence that is on the disk; 0 if it is the first one that is awaited, or it is not known yet.
    pub fn acknowledged(&self) -> u64 {
        self.appender.acknowledged()
    }

    /// Takes note of what is done, and begins what is next: at most one commit at a time, of all that waits by then. To
    /// be called every few milliseconds; does not wait for the disk.
    pub async fn tick(&mut self) -> Option<Outcome> {
        let outcome = self.take_note().await;
        match &outcome {
            Some(Outcome::Failed(_)) => self.retries_at = Some(Instant::now() + RETRY_PAUSE),
            // Whoever wants to read what there was before has to know before anything is added.
            Some(Outcome::Opened(_)) => return outcome,
            _ => {}
        }
        if self.retries_at.is_none_or(|at| Instant::now() >= at) {
            self.retries_at = None;
            self.begin_next();
        }
        outcome
    }

    /// Writes what waits, for no longer than `limit`; how many entries are lost.
    pub async fn finish(&mut self, limit: Duration) -> u64 {
        let ends_at = Instant::now() + limit;
        self.commit_interval = Duration::ZERO;
        while self.waiting_entries() > 0 && Instant::now() < ends_at {
            self.tick().await;
            tokio::time::sleep(FINISH_PAUSE).await;
        }
        self.waiting_entries()
    }

    fn commit_is_due(&self) -> bool {
        let is_over = |begun_at: Instant| begun_at.elapsed() >= self.commit_interval;
        self.commit_begun_at.is_none_or(is_over) || self.waiting_bytes() >= COMMIT_BYTES
    }

    async fn take_note(&mut self) -> Option<Outcome> {
        match std::mem::replace(&mut self.work, Work::Unopened) {
            Work::Opening(opening) if opening.is_finished() => {
                let taken = opening.await.unwrap_or_else(|_| Err(panicked()));
                Some(match self.take_over(taken) {
                    Ok(recovered) => Outcome::Opened(recovered),
                    Err(failure) => Outcome::Failed(failure),
                })
            }
            Work::Committing(commit, since) if commit.is_finished() => {
                Some(match commit.await {
                    Ok(done) => self.note_done(done, since.elapsed()),
                    // The directory has to be taken over again: its lock went with the task.
                    Err(_) => {
                        self.appender.lost_sight();
                        Outcome::Failed(panicked())
                    }
                })
            }
            work => {
                self.work = work;
                None
            }
        }
    }

    fn take_over(&mut self, taken: Result<Taken, Failure>) -> Result<Recovered, Failure> {
        let taken = taken?;
        let recovered = &taken.recovered;
        let readable_to = recovered.readable_to(self.appender.acknowledged() + 1);
        self.appender
            .go_on_at(recovered.next_sequence, readable_to, taken.previous);
        self.work = Work::Idle(Disk::new(self.directory.clone(), taken.lock));
        Ok(taken.recovered)
    }

    fn note_done(&mut self, done: Done, took: Duration) -> Outcome {
        let Done {
            disk,
            batch,
            outcome,
        } = done;
        self.work = Work::Idle(disk);
        let bytes = batch.bytes.len();
        self.spare = batch.bytes;
        match outcome {
            Ok(()) => {
                self.appender.committed();
                Outcome::Committed {
                    entries: batch.entries,
                    bytes,
                    began_segment: batch.begins_segment,
                    took,
                }
            }
            Err(failure) => {
                self.appender.failed();
                Outcome::Failed(failure)
            }
        }
    }

    fn begin_next(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Unopened) {
            Work::Unopened => {
                let directory = self.directory.clone();
                let opening = tokio::task::spawn_blocking(move || recover::take(&directory));
                Work::Opening(opening)
            }
            Work::Idle(disk) if !self.commit_is_due() => Work::Idle(disk),
            Work::Idle(disk) => {
                let identity = fastrand::u64(..).to_le_bytes();
                let spare = std::mem::take(&mut self.spare);
                let now = SystemTime::now();
                match self.appender.next_batch(now, identity, spare) {
                    Some(batch) => {
                        let begun_at = Instant::now();
                        self.commit_begun_at = Some(begun_at);
                        Work::Committing(disk.begin(batch, self.driver), begun_at)
                    }
                    None => Work::Idle(disk),
                }
            }
            busy => busy,
        };
    }
}

fn panicked() -> Failure {
    Failure {
        doing: "writing the journal",
        error: io::Error::other("it has ended unexpectedly"),
    }
}

#[cfg(test)]
mod tests;
