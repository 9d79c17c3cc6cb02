//! Reading at arm's length: what the database does to a process when it meets damage (panic, abort, hang, take all memory)
//! happens to a child, which is given up after a while.

use super::image::Key;
use super::lock::Lock;
use super::{Damage, OWNERS_MAX, Problem, recover, tree};
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// A reader that takes longer is stuck. Much more than it needs: a disk may be slow without anything being wrong with it, and
/// nobody waits so long for what was read.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What a reader says at most: as many accounts and owners as there can be.
const BYTES_MAX: u64 = ACCOUNTS_MAX * ACCOUNT_BYTES_MAX + OWNERS_MAX as u64 * OWNER_BYTES_MAX;

const ACCOUNTS_MAX: u64 = 1 << 16;

/// With all its addresses and a long reason.
const ACCOUNT_BYTES_MAX: u64 = 8 << 10;

/// With its share of a page's key and frame, also where the page is not full.
const OWNER_BYTES_MAX: u64 = 64;

/// A damaged length must not take the host's memory. Address space, most of which threads only reserve.
const READER_MEMORY_MAX: u64 = 2 << 30;

/// The subcommand by which the program reads for itself. Operators have no use for it.
pub const READER_SUBCOMMAND: &str = "read-state";

/// Who reads the state when a gateway starts.
#[derive(Clone, Debug)]
pub enum Reader {
    /// This program, with [`READER_SUBCOMMAND`] and the directory.
    Child(PathBuf),
    /// A thread: for programs that a gateway is part of, and that must not be run again. The worst kinds of damage end them.
    InProcess,
}

type Entries = Vec<(Key, Vec<u8>)>;

// What a reader says begins with one of these.
const ENTRIES: u8 = b'E';
const DAMAGED: u8 = b'D';
const FAILED: u8 = b'F';

impl Reader {
    /// Reads every entry of the database in `directory`.
    pub(super) fn entries(&self, directory: &Path, lock: &Lock) -> Result<Entries, Problem> {
        self.entries_within(TIME_LIMIT, directory, lock)
    }

    fn entries_within(
        &self,
        limit: Duration,
        directory: &Path,
        lock: &Lock,
    ) -> Result<Entries, Problem> {
        match self {
            Self::InProcess => by_thread(limit, directory),
            Self::Child(program) => match start(program, directory, lock) {
                Ok(child) => by_child(limit, child),
                Err(error) if recover::is_of_host(&error) => Err(error.into()),
                // Not the database's fault: the host does not let the program be run again.
                Err(_) => by_thread(limit, directory),
            },
        }
    }
}

fn start(program: &Path, directory: &Path, lock: &Lock) -> io::Result<Child> {
    Command::new(program)
        .arg0(env!("CARGO_PKG_NAME"))
        .arg(READER_SUBCOMMAND)
        .arg(directory)
        // The accounts' credentials may be there.
        .env_clear()
        // What a terminal sends to the gateway is not meant for it.
        .process_group(0)
        // Should this process end now, the files stay locked until the child has left them.
        .stdin(lock.for_child()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

fn by_child(limit: Duration, mut child: Child) -> Result<Entries, Problem> {
    let output = child.stdout.take();
    let said = within(limit, move || {
        let mut said = Vec::new();
        if let Some(output) = output {
            output.take(BYTES_MAX).read_to_end(&mut said)?;
        }
        Ok(said)
    });
    // It has ended, or it has to: whatever it does after its time does not count.
    let _ = child.kill();
    let status = child.wait()?;
    let said = said?;
    let orders = [Signal::HUP, Signal::INT, Signal::KILL, Signal::TERM].map(Signal::as_raw);
    match status.signal() {
        // Somebody else has ended it, as a host without memory does: it says nothing about the files.
        Some(signal) if orders.contains(&signal) => {
            Err(io::Error::from(ErrorKind::Interrupted).into())
        }
        _ if status.success() => understand(&said),
        _ => Err(Problem::Damaged(Damage::Reader)),
    }
}

fn by_thread(limit: Duration, directory: &Path) -> Result<Entries, Problem> {
    let directory = directory.to_owned();
    within(limit, move || tree::entries(&directory))
}

/// What `work` comes to, if it does so in time; if not, nobody waits for it.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new()
        .name("state-reader".to_owned())
        .spawn(move || tell.send(work()))?;
    match told.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(Problem::Damaged(Damage::TooSlow)),
        Err(RecvTimeoutError::Disconnected) => Err(Problem::Damaged(Damage::Panicked)),
    }
}

/// The child: reads the database in `directory` and says on standard output what is in it.
pub fn read_for_parent(directory: &Path) -> ExitCode {
    // A child that is stuck must not outlive its parent, nor take more memory; where the system does not allow to say so, the
    // parent's time limit has to do.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let mut memory = getrlimit(Resource::As);
    let within_hard = |maximum: u64| maximum.min(READER_MEMORY_MAX);
    memory.current = Some(memory.maximum.map_or(READER_MEMORY_MAX, within_hard));
    let _ = setrlimit(Resource::As, memory);
    let said = say(&tree::entries(directory));
    let mut out = io::stdout().lock();
    match out.write_all(&said).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(outcome: &Result<Entries, Problem>) -> Vec<u8> {
    match outcome {
        Ok(entries) => {
            let mut said = vec![ENTRIES];
            for part in entries.iter().flat_map(|(key, value)| [key, value]) {
                said.extend((part.len() as u64).to_le_bytes());
                said.extend(part);
            }
            said
        }
        Err(Problem::Damaged(damage)) => [&[DAMAGED], damage.as_str().as_bytes()].concat(),
        Err(Problem::Busy | Problem::Unmade(_)) => vec![FAILED],
        Err(Problem::Io(error)) => {
            let number = error.raw_os_error().unwrap_or_default();
            [&[FAILED][..], &number.to_le_bytes()].concat()
        }
    }
}

/// Whether all entries are there is told by the manifest among them.
fn understand(said: &[u8]) -> Result<Entries, Problem> {
    let broken = || Problem::Damaged(Damage::Reader);
    match said.split_first() {
        Some((&ENTRIES, mut rest)) => {
            let mut entries = Entries::new();
            while !rest.is_empty() {
                let key = take_part(&mut rest).ok_or_else(broken)?;
                let value = take_part(&mut rest).ok_or_else(broken)?;
                entries.push((key, value));
            }
            Ok(entries)
        }
        Some((&DAMAGED, name)) => {
            let damage = Damage::ALL.into_iter();
            let mut damage = damage.filter(|damage| damage.as_str().as_bytes() == name);
            Err(damage.next().map_or_else(broken, Problem::Damaged))
        }
        Some((&FAILED, &[])) => Err(Problem::Busy),
        Some((&FAILED, number)) => Err(number.try_into().map(i32::from_le_bytes).map_or_else(
            |_| broken(),
            |number| io::Error::from_raw_os_error(number).into(),
        )),
        _ => Err(broken()),
    }
}

fn take_part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (part, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(part.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_says_is_understood() {
        let entries = vec![
            (b"a/1".to_vec(), b"one".to_vec()),
            (b"manifest".to_vec(), Vec::new()),
        ];
        let said = say(&Ok(entries.clone()));
        assert_eq!(understand(&said).unwrap(), entries);
        for length in 2..said.len() {
            if let Ok(some) = understand(&said[..length]) {
                assert!(entries.starts_with(&some), "{length} bytes");
            }
        }
        for damage in Damage::ALL {
            let heard = understand(&say(&Err(Problem::Damaged(damage))));
            assert!(matches!(heard, Err(Problem::Damaged(heard)) if heard == damage));
        }
        let heard = understand(&say(&Err(Problem::Busy)));
        assert!(matches!(heard, Err(Problem::Busy)));
        let full = io::Error::from(rustix::io::Errno::NOSPC);
        let heard = understand(&say(&Err(full.into())));
        assert!(matches!(heard, Err(Problem::Io(error)) if error.kind() == ErrorKind::StorageFull));
        for said in [&b""[..], b"Dnothing known", b"Fx", b"x", b"E\xff"] {
            let heard = understand(said);
            assert!(
                matches!(heard, Err(Problem::Damaged(Damage::Reader))),
                "{said:?}"
            );
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_stuck() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(&directory.path().join("lock")).unwrap().unwrap();
        let program = directory.path().join("stuck");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let limit = Duration::from_millis(100);
        let read = Reader::Child(program).entries_within(limit, directory.path(), &lock);
        assert!(
            matches!(read, Err(Problem::Damaged(Damage::TooSlow))),
            "{read:?}"
        );
        drop(lock);
        // The child held it too.
        assert!(
            Lock::take(&directory.path().join("lock"))
                .unwrap()
                .is_some()
        );
    }
}
