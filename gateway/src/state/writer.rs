//! The thread that writes: what others note is on the disk some 50 ms later, and nobody ever waits for it who serves
//! requests.

use super::image::{Changes, Image};
use super::lock::Lock;
use super::read::Reader;
use super::recover::{self, Places, PutAway, Taken};
use super::seal::Seal;
use super::tree::Tree;
use super::{Damage, Problem, files, quarantine};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two batches: what changes meanwhile goes into one.
const BATCH_PAUSE: Duration = Duration::from_millis(50);

/// Files at rest for so long are sealed.
const QUIET: Duration = Duration::from_secs(5);

/// So long after the first batch they are sealed although they are not at rest.
const SEAL_INTERVAL: Duration = Duration::from_secs(60);

/// After a seal was put on, it is looked at once more whether the files are still what it says.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Where saving is not possible it is tried again after this.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// What the writer and everybody else share.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    news: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Inbox {
    /// By key: what changes again before it is written is written once.
    changes: Changes,
    /// Counts what was noted.
    noted: u64,
    /// Up to here it was taken to be written.
    taken: u64,
    /// What was found on the disk is not known to those who note yet: what they say is not to be written over it.
    is_held: bool,
    finish: bool,
    reports: Vec<Report>,
}

/// How far the writer is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Everything noted up to this is on the disk.
    pub(super) saved: u64,
    /// Why it cannot write now, as far as it knows.
    pub(super) unable: Option<Arc<str>>,
    /// What was on the disk is known, or that nothing was.
    pub(super) is_begun: bool,
    /// It writes no more.
    pub(super) has_ended: bool,
}

/// What the operator should know.
pub(super) enum Report {
    /// State was doubtful and was put away.
    PutAway(PutAway),
    /// From now on nothing is saved.
    Unable(Arc<str>),
    /// It is saved again.
    Able,
    /// This was kept by the process before.
    Found {
        image: Image,
        /// How long it took to read.
        took: Duration,
    },
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            inbox: Mutex::default(),
            news: Condvar::new(),
            progress: watch::Sender::default(),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has changes written. The number is that of [`Progress::saved`] when they are.
    pub(super) fn note(&self, changes: Changes) -> u64 {
        let mut inbox = self.inbox();
        inbox.noted += 1;
        inbox.changes.extend(changes);
        self.news.notify_one();
        inbox.noted
    }

    /// Has the writer write what there is, seal the files and end.
    pub(super) fn finish(&self) {
        self.inbox().finish = true;
        self.news.notify_one();
    }

    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.inbox().reports)
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn report(&self, report: Report) {
        self.inbox().reports.push(report);
    }

    /// Tells what was found, and writes nothing until it was taken note of.
    fn tell_found(&self, image: Image, took: Duration) {
        let mut inbox = self.inbox();
        inbox.is_held = true;
        inbox.reports.push(Report::Found { image, took });
    }

    /// What was found is known: what was noted before is forgotten, what is noted from now on is written.
    pub(super) fn resume(&self) {
        let mut inbox = self.inbox();
        inbox.changes.clear();
        inbox.is_held = false;
        self.begin();
        self.news.notify_one();
    }

    /// Whether something was noted that is not on the disk yet, or not even what is there is known.
    pub(super) fn is_awaited(&self) -> bool {
        let noted = self.inbox().noted;
        let progress = self.progress.borrow();
        !progress.is_begun || progress.saved < noted
    }

    /// From now on nothing is saved, and why; of several reasons the first is told.
    pub(super) fn tell_unable(&self, why: &str) {
        let why: Arc<str> = why.into();
        self.progress.send_if_modified(|progress| {
            let is_news = progress.unable.is_none();
            if is_news {
                progress.unable = Some(why.clone());
                self.report(Report::Unable(why));
            }
            is_news
        });
    }

    fn begin(&self) {
        self.progress
            .send_modify(|progress| progress.is_begun = true);
    }

    /// Waits until there is something to do.
    fn wait(&self, writes_from: Instant, until: Option<Instant>) -> Work {
        let mut inbox = self.inbox();
        loop {
            let now = Instant::now();
            let has_changes = !inbox.is_held && !inbox.changes.is_empty();
            let is_due = until.is_some_and(|until| now >= until);
            if inbox.finish || is_due || (has_changes && now >= writes_from) {
                return Work {
                    writes: has_changes && (inbox.finish || now >= writes_from),
                    finishes: inbox.finish,
                };
            }
            let next = has_changes
                .then_some(writes_from)
                .into_iter()
                .chain(until)
                .min();
            inbox = match next {
                None => self
                    .news
                    .wait(inbox)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let waited = self.news.wait_timeout(inbox, next - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn take_changes(&self) -> (Changes, u64) {
        let mut inbox = self.inbox();
        if !inbox.is_held {
            inbox.taken = inbox.noted;
            return (std::mem::take(&mut inbox.changes), inbox.taken);
        }
        (Changes::new(), inbox.taken)
    }
}

struct Work {
    writes: bool,
    finishes: bool,
}

/// The writer's world.
pub(super) struct Writer {
    places: Places,
    reader: Reader,
    shared: Arc<Shared>,
    /// All that is to be on the disk.
    image: Image,
    lock: Option<Lock>,
    /// Holds exactly the image. Where there is none, the next one is made from the image.
    tree: Option<Tree>,
    /// Something has to be written, or to be taken over, although nobody has noted anything.
    is_owing: bool,
    writes_from: Instant,
    seal: Option<Seal>,
    /// When the first and the latest batch came since the files were sealed.
    unsealed: Option<(Instant, Instant)>,
    /// How the files looked when they were sealed, and when to see whether they still do.
    second_look: Option<(files::Stamp, Instant)>,
}

impl Writer {
    /// One that has nothing to do with the disk yet.
    pub(super) fn new(places: Places, reader: Reader, shared: Arc<Shared>) -> Self {
        Self {
            places,
            reader,
            shared,
            image: Image::default(),
            lock: None,
            tree: None,
            is_owing: false,
            writes_from: Instant::now(),
            seal: None,
            unsealed: None,
            second_look: None,
        }
    }

    /// Takes over what is there, tells by dropping `begins` that it has done so, and writes until it is told to end.
    pub(super) fn run(mut self, begins: mpsc::Sender<()>) {
        let taken_over = self.take_over();
        self.overcome(taken_over);
        drop(begins);
        // What is kept for somebody to look at must not fill the disk; if it cannot be removed, it stays.
        let _ = quarantine::remove_oldest(&self.places.directory);
        // The reader has written to the files: they are to be sealed again.
        if self.seal.is_some() {
            let opened = self.open_tree();
            self.overcome(opened);
        }
        loop {
            let work = self.shared.wait(self.writes_from, self.deadline());
            let is_owing = self.is_owing && Instant::now() >= self.writes_from;
            if work.writes || is_owing {
                match self.places.check_room() {
                    Ok(()) => {
                        self.writes_from = Instant::now() + BATCH_PAUSE;
                        let saved = self.save();
                        self.overcome(saved);
                    }
                    Err(error) => self.put_off(&error.into()),
                }
            }
            if work.finishes {
                return self.end();
            }
            let sealed = self.look_after_seal();
            self.overcome(sealed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retry = self.is_owing.then_some(self.writes_from);
        let seal = self.unsealed.map(seal_due_at);
        let look = self.second_look.as_ref().map(|(_, at)| *at);
        [retry, seal, look].into_iter().flatten().min()
    }

    /// Writes all that was noted.
    fn save(&mut self) -> Result<(), Problem> {
        if self.lock.is_none() {
            self.take_over()?;
            if self.seal.is_some() {
                self.open_tree()?;
            }
        }
        let (changes, noted) = self.shared.take_changes();
        self.is_owing = true;
        let batch = self.image.apply(changes);
        self.unseal()?;
        match &self.tree {
            Some(tree) => tree.write(batch)?,
            None => self.make_tree().map_err(unmade)?,
        }
        self.note_written()?;
        self.is_owing = false;
        self.shared.progress.send_modify(|progress| {
            progress.saved = noted;
        });
        self.become_able();
        Ok(())
    }

    /// Takes hold of the files, and tells what is in them.
    fn take_over(&mut self) -> Result<(), Problem> {
        let began_at = Instant::now();
        let Taken {
            lock,
            image,
            put_away,
        } = recover::take(&self.places, &self.reader)?;
        if let Some(put_away) = put_away {
            self.shared.report(Report::PutAway(put_away));
        }
        self.lock = Some(lock);
        if let Some(image) = image {
            self.seal = Some(Seal::Open {
                sequence: image.sequence(),
            });
            self.image.clone_from(&image);
            let took = began_at.elapsed();
            self.shared.tell_found(image, took);
        } else {
            self.shared.begin();
        }
        Ok(())
    }

    /// Opens the database that was read; it must hold what the reader has found.
    fn open_tree(&mut self) -> Result<(), Problem> {
        let tree = Tree::open(&self.places.database())?;
        if tree.image()? != self.image {
            return Err(Damage::Older.into());
        }
        self.tree = Some(tree);
        self.note_written()
    }

    /// Makes a database that holds the image, beside the place where it belongs: there is never half of one.
    fn make_tree(&mut self) -> Result<(), Problem> {
        let (database, next) = (self.places.database(), self.places.next_database());
        let directory = &self.places.directory;
        files::make_directory(directory)?;
        if next.exists() {
            fs::remove_dir_all(&next)?;
        }
        Tree::create(&next, self.image.whole())?;
        if database.exists() {
            // What is there was written by this process, which could not go on.
            renameat_with(CWD, &next, CWD, &database, RenameFlags::EXCHANGE)
                .map_err(io::Error::from)?;
            fs::remove_dir_all(&next)?;
        } else {
            Seal::Open { sequence: 0 }.write(directory, true)?;
            fs::rename(&next, &database)?;
        }
        files::sync_directory(directory)?;
        let tree = Tree::open(&database)?;
        if tree.image()? != self.image {
            return Err(Damage::Older.into());
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// Before the first write the seal says that the files may change.
    fn unseal(&mut self) -> Result<(), Problem> {
        self.second_look = None;
        if let Some(Seal::Clean { sequence, .. }) = self.seal {
            let open = Seal::Open { sequence };
            open.write(&self.places.directory, true)?;
            self.seal = Some(open);
        }
        Ok(())
    }

    /// After a write: less than this must not be found from now on.
    fn note_written(&mut self) -> Result<(), Problem> {
        let open = Seal::Open {
            sequence: self.image.sequence(),
        };
        open.write(&self.places.directory, false)?;
        self.seal = Some(open);
        let now = Instant::now();
        let first = self.unsealed.map_or(now, |(first, _)| first);
        self.unsealed = Some((first, now));
        Ok(())
    }

    fn look_after_seal(&mut self) -> Result<(), Problem> {
        let now = Instant::now();
        if self.unsealed.is_some_and(|since| now >= seal_due_at(since)) {
            return self.put_seal_on();
        }
        if let Some((stamp, _)) = self.second_look.take_if(|(_, at)| now >= *at)
            && files::stamp(&self.places.database())? != stamp
        {
            return self.put_seal_on();
        }
        Ok(())
    }

    /// The files are at rest: they are to be these.
    fn put_seal_on(&mut self) -> Result<(), Problem> {
        self.unsealed = None;
        let database = self.places.database();
        let stamp = files::stamp(&database)?;
        files::sync(&database)?;
        let clean = Seal::Clean {
            sequence: self.image.sequence(),
            files: files::all(&database)?,
        };
        // Before: also one that is not sure to have been put on has to be taken off.
        self.seal = Some(clean.clone());
        clean.write(&self.places.directory, true)?;
        self.second_look = Some((stamp, Instant::now() + SECOND_LOOK));
        Ok(())
    }

    /// Closes the database and seals its files for good.
    fn end(mut self) {
        if let Some(tree) = self.tree.take() {
            drop(tree);
            let is_released = Tree::wait_released(&self.places.database());
            if is_released && !self.is_owing {
                // Without a seal the next start goes by what is in the files.
                let _ = self.put_seal_on();
            }
        }
        drop(self.lock.take());
    }

    /// What went wrong is put away or waited for; then everything is written anew.
    fn overcome(&mut self, outcome: Result<(), Problem>) {
        let Err(problem) = outcome else {
            return;
        };
        if let Some(tree) = self.tree.take() {
            match &problem {
                Problem::Damaged(Damage::Panicked) => tree.abandon(),
                _ => drop(tree),
            }
        }
        (self.unsealed, self.second_look) = (None, None);
        self.is_owing = true;
        if self.lock.is_none() {
            return self.put_off(&problem);
        }
        // The database takes a full disk for all kinds of things.
        let problem = self.places.check_room().err().map_or(problem, Problem::Io);
        match recover::put_away(&self.places, problem) {
            Ok(put_away) => {
                self.seal = None;
                // Nothing is on the disk until all is written anew.
                let why: Arc<str> = "it is being written anew".into();
                self.shared.progress.send_modify(|progress| {
                    progress.saved = 0;
                    progress.unable.get_or_insert(why);
                });
                self.writes_from = Instant::now() + RETRY_PAUSE;
                self.shared.report(Report::PutAway(put_away));
                let _ = quarantine::remove_oldest(&self.places.directory);
            }
            Err(unable) => self.put_off(&unable),
        }
    }

    /// It is tried again later; until then what is noted waits.
    fn put_off(&mut self, problem: &Problem) {
        (self.is_owing, self.writes_from) = (true, Instant::now() + RETRY_PAUSE);
        self.shared.tell_unable(&self.places.explain(problem));
    }

    fn become_able(&self) {
        if self.shared.progress.borrow().unable.is_some() {
            self.shared.report(Report::Able);
            self.shared
                .progress
                .send_modify(|progress| progress.unable = None);
        }
    }
}

/// However it ends: nobody waits for it any longer.
impl Drop for Writer {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.tell_unable("the writer has ended unexpectedly");
        }
        self.shared
            .progress
            .send_modify(|progress| progress.has_ended = true);
    }
}

/// Making a database anew is tried again and again: each failure would put away what the one before has left, until there is
/// nothing left to look at.
fn unmade(problem: Problem) -> Problem {
    match problem {
        Problem::Damaged(damage) => Problem::Unmade(damage.as_str().to_owned()),
        Problem::Io(error) if !recover::is_of_host(&error) => Problem::Unmade(error.to_string()),
        other => other,
    }
}

fn seal_due_at((first, latest): (Instant, Instant)) -> Instant {
    (latest + QUIET).min(first + SEAL_INTERVAL)
}

#[cfg(test)]
mod tests;
