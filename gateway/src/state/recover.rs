//! What is there when a gateway starts: taken over if it is beyond doubt, put away if not.

use super::image::Image;
use super::lock::Lock;
use super::read::Reader;
use super::seal::Seal;
use super::{Damage, Problem, files, quarantine};
use rustix::io::Errno;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Below this nothing is written: the database takes a full disk badly.
const ROOM_BYTES_MIN: u64 = 4 << 20;

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    state_dir: PathBuf,
    /// What is put away as a whole.
    pub(super) directory: PathBuf,
    /// Beside it: it must stay where it is.
    lock: PathBuf,
}

impl Places {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            directory: state_dir.join("state"),
            lock: state_dir.join("state.lock"),
        }
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.directory.join("db")
    }

    /// A database that is being made.
    pub(super) fn next_database(&self) -> PathBuf {
        self.directory.join("db.next")
    }

    /// Whether there is room on the disk to write.
    ///
    /// # Errors
    /// There is none, or the file system is read-only.
    pub(super) fn check_room(&self) -> io::Result<()> {
        let found = rustix::fs::statvfs(&self.state_dir)?;
        if found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        if found.f_bavail.saturating_mul(found.f_frsize) < ROOM_BYTES_MIN {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Places {
    /// Why nothing can be saved here, and what helps, for the operator.
    pub(super) fn explain(&self, problem: &Problem) -> String {
        let directory = self.state_dir.display();
        let error = match problem {
            Problem::Busy => {
                return format!(
                    "another gateway holds {directory}: each needs a `node.state_dir` of its own"
                );
            }
            Problem::Damaged(damage) => return format!("{directory}: {}", damage.as_str()),
            Problem::Unmade(why) => {
                return format!("a new database cannot be made in {directory}: {why}");
            }
            Problem::Io(error) => error,
        };
        let helps = match error.kind() {
            ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid().as_raw();
                format!(": it must belong to user {user}, with all that is in it")
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                format!(": {} MiB must be free", ROOM_BYTES_MIN >> 20)
            }
            _ => String::new(),
        };
        format!("{directory} cannot be written: {error}{helps}")
    }
}

/// The files, for nobody else to touch, and what they hold.
pub(super) struct Taken {
    pub(super) lock: Lock,
    /// `None`: nothing was ever saved, or it was put away.
    pub(super) image: Option<Image>,
    pub(super) put_away: Option<PutAway>,
}

/// State that was doubtful.
#[derive(Clone, Debug)]
pub(super) struct PutAway {
    pub(super) damage: Damage,
    /// Where it is now.
    pub(super) path: PathBuf,
}

/// Takes the files over.
///
/// # Errors
/// Another gateway has them, or the disk does not let this one write.
pub(super) fn take(places: &Places, reader: &Reader) -> Result<Taken, Problem> {
    let lock = Lock::take(&places.lock)?.ok_or(Problem::Busy)?;
    let (image, put_away) = match check(places, reader, &lock) {
        Ok(image) => (image, None),
        Err(problem) => (None, Some(put_away(places, problem)?)),
    };
    Ok(Taken {
        lock,
        image,
        put_away,
    })
}

/// Puts what is there away.
///
/// # Errors
/// It is not to blame, or it cannot be moved.
pub(super) fn put_away(places: &Places, problem: Problem) -> Result<PutAway, Problem> {
    let damage = match problem {
        Problem::Damaged(damage) => damage,
        Problem::Io(error) if !is_of_host(&error) => Damage::Unreadable,
        problem => return Err(problem),
    };
    let path = quarantine::put_away(&places.directory, damage.as_str())?;
    Ok(PutAway { damage, path })
}

/// Says nothing about what is on the disk: it takes nothing, or the host has nothing left to give.
pub(super) fn is_of_host(error: &io::Error) -> bool {
    let descriptors = [Errno::MFILE, Errno::NFILE];
    let is_of_descriptors = Errno::from_io_error(error).is_some_and(|it| descriptors.contains(&it));
    is_of_descriptors
        || matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::OutOfMemory
                | ErrorKind::WouldBlock
                | ErrorKind::Interrupted
                | ErrorKind::PermissionDenied
        )
}

/// What the files hold, if there is no doubt about it.
fn check(places: &Places, reader: &Reader, lock: &Lock) -> Result<Option<Image>, Problem> {
    files::make_directory(&places.directory)?;
    check_names(places)?;
    let database = places.database();
    let is_there = match fs::symlink_metadata(&database) {
        Ok(found) if found.is_dir() => true,
        Ok(_) => return Err(Damage::Foreign.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    let seal = match (Seal::read(&places.directory)?, is_there) {
        (None, false) => return Ok(None),
        (None, true) => return Err(Damage::SealMissing.into()),
        (Some(Ok(Seal::Open { sequence: 0 })), false) => return Ok(None),
        (Some(Ok(_)), false) => return Err(Damage::DatabaseMissing.into()),
        (Some(seal), true) => seal?,
        (Some(Err(damage)), false) => return Err(damage.into()),
    };
    match &seal {
        Seal::Clean { files, .. } if !files::are(&database, files)? => {
            return Err(Damage::Files.into());
        }
        Seal::Clean { .. } => {}
        Seal::Open { .. } => check_database_names(&database)?,
    }
    places.check_room()?;
    let sequence = seal.sequence();
    // Even to read it the database writes. From here on its files are no more what the seal says of them.
    Seal::Open { sequence }.write(&places.directory, true)?;
    let image = Image::verified(reader.entries(&database, lock)?)?;
    match &seal {
        Seal::Clean { .. } if image.sequence() != sequence => Err(Damage::Older.into()),
        Seal::Open { .. } if image.sequence() < sequence => Err(Damage::Older.into()),
        _ => Ok(Some(image)),
    }
}

/// Removes what was left half done, and refuses what is not ours.
fn check_names(places: &Places) -> Result<(), Problem> {
    let (database, next_database) = (places.database(), places.next_database());
    for entry in fs::read_dir(&places.directory)? {
        let entry = entry?;
        let path = entry.path();
        if path == next_database {
            fs::remove_dir_all(&next_database)?;
        } else if path != database && !entry.file_name().to_str().is_some_and(Seal::is_name) {
            return Err(Damage::Foreign.into());
        }
    }
    Ok(())
}

/// While a database is written to, its files come and go; but there are no others than these.
fn check_database_names(database: &Path) -> Result<(), Problem> {
    let is_known = |name: &String| {
        matches!(name.as_str(), "conf" | "db")
            || name.starts_with("snap.")
            || name.starts_with("blobs/")
    };
    if files::names(database)?.iter().all(is_known) {
        Ok(())
    } else {
        Err(Damage::Foreign.into())
    }
}
