//! What is on the disk is believed as it was written, or not at all: hundreds of damaged images of a state directory, of which
//! none may stop a start, hold it up, or bring anything into it.

#![allow(clippy::unwrap_used, reason = "a test")]

use codex_relay::accounts::Accounts;
use codex_relay::config;
use codex_relay::config::Policy;
use codex_relay::config::policy::AccountId;
use codex_relay::control::log::Log;
use codex_relay::health::{Fault, Order, Record, Wish};
use codex_relay::state::{Reader, StateStore};
use fastrand::Rng;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What takes longer never ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);

const RESPONSES: usize = 500;

fn policy(state_dir: &Path) -> Arc<Policy> {
    let mut text = format!(
        r#"
        [node]
        state_dir = "{}"
        [log]
        output = "stderr"
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        "#,
        state_dir.display()
    );
    for number in 1..=3 {
        text += &format!(
            r#"
            [[account]]
            name = "account-{number}"
            upstream = "provider"
            credential = {{ env = "KEY" }}
            egress = ["127.0.7.{number}", "127.0.8.{number}"]
            "#
        );
    }
    let environment = |_: &str| Some("sk-test".into());
    let loaded = config::parse(&text, Path::new("test.toml"), &environment);
    Arc::new(loaded.unwrap_or_else(|errors| panic!("{errors}")).policy)
}

/// What is known of the accounts, and who stores which response.
type Known = (Vec<Record>, Vec<Option<AccountId>>);

/// The accounts of one process, and what it keeps of them.
struct Process {
    policy: Arc<Policy>,
    accounts: &'static Accounts,
    store: StateStore,
    start: Duration,
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

impl Process {
    fn start(state_dir: &Path, reader: Reader) -> Self {
        let policy = policy(state_dir);
        let accounts: &'static Accounts = Box::leak(Box::new(Accounts::new(&policy)));
        let mut log = Log::open(&policy).unwrap();
        let began_at = Instant::now();
        let store = StateStore::open(&policy, accounts, reader, &mut log);
        Self {
            policy,
            accounts,
            store,
            start: began_at.elapsed(),
        }
    }

    /// With the program as its reader, as an operator's gateway has it.
    fn start_with_child(state_dir: &Path) -> Self {
        Self::start(
            state_dir,
            Reader::Child(env!("CARGO_BIN_EXE_codex-relay").into()),
        )
    }

    fn ids(&self) -> impl Iterator<Item = AccountId> + use<> {
        (0..self.policy.accounts.len() as u16).map(AccountId)
    }

    fn records(&self) -> Vec<Record> {
        let health = &self.accounts.health;
        self.ids().map(|account| health.record(account)).collect()
    }

    fn responses(&self) -> Vec<Option<AccountId>> {
        let id = |number: usize| format!("resp_{number}");
        let owner = |number| {
            self.accounts
                .affinity
                .owner("tenant", id(number).as_bytes())
        };
        (0..RESPONSES).map(owner).collect()
    }

    /// On a slow disk what was kept, or that it was put away, comes after the start.
    fn wait_begun(&self, state_dir: &Path) {
        let nothing_known = nothing_known();
        self.wait_for("believed or put away", || {
            !quarantined(state_dir).is_empty() || self.known() != nothing_known
        });
    }

    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let gives_up_at = Instant::now() + FINISH_TIMEOUT;
        while !condition() {
            assert!(Instant::now() < gives_up_at, "{what}");
            self.store.tick(&mut Log::open(&self.policy).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn known(&self) -> Known {
        (self.records(), self.responses())
    }

    /// Something happens to every account, and responses are stored.
    fn live(&self, round: usize) {
        let (health, affinity) = (&self.accounts.health, &self.accounts.affinity);
        let now = health.clock().now();
        let until = Some(now + Duration::from_secs(3_600 + round as u64));
        health.failed(
            AccountId(0),
            0,
            None,
            Fault::RateLimited { until },
            now,
            0.5,
        );
        health.failed(AccountId(1), 1, None, Fault::AddressMissing, now, 0.5);
        let order = Order::Wish {
            wish: Wish::Drained,
            until: None,
            reason: Some(format!("round {round}").into()),
        };
        health.obey(AccountId(2), order, now);
        for number in 0..RESPONSES {
            let account = AccountId(((number + round) % 3) as u16);
            affinity.learn("tenant", format!("resp_{number}").as_bytes(), account);
        }
    }

    fn finish(self) {
        let began_at = Instant::now();
        in_runtime(self.store.finish(FINISH_TIMEOUT));
        assert!(began_at.elapsed() < FINISH_TIMEOUT, "it does not end");
    }
}

/// What a process ends up with that has seen nothing.
fn nothing_known() -> Known {
    let directory = tempfile::tempdir().unwrap();
    let policy = policy(directory.path());
    let accounts = Accounts::new(&policy);
    let ids = (0..policy.accounts.len() as u16).map(AccountId);
    let records = ids.map(|account| accounts.health.record(account)).collect();
    (records, vec![None; RESPONSES])
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn quarantined(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.display().to_string().contains("/state.quarantine-");
    entries.filter(is_it).collect()
}

/// Images of one state directory.
struct Images {
    /// After an orderly end.
    clean: TempDir,
    /// The same some time before.
    earlier: TempDir,
    /// After a crash.
    open: TempDir,
    known: Known,
    known_when_open: Known,
}

fn images() -> Images {
    let [live, clean, earlier, open] = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let process = Process::start_with_child(live.path());
    process.live(1);
    process.finish();
    copy(live.path(), earlier.path());

    let process = Process::start_with_child(live.path());
    process.live(2);
    let known_when_open = process.known();
    // As the control thread does after a second.
    process.store.tick(&mut Log::open(&process.policy).unwrap());
    process.store.note(&process.ids().collect::<Vec<_>>());
    in_runtime(process.store.save(AccountId(0))).unwrap();
    copy(live.path(), open.path());
    process.live(3);
    let known = process.known();
    process.finish();
    copy(live.path(), clean.path());
    Images {
        clean,
        earlier,
        open,
        known,
        known_when_open,
    }
}

const DATABASE_FILES: [&str; 2] = ["state/db/db", "state/db/conf"];

/// The files of the database, by their paths in the state directory; the largest first.
fn database_files(state_dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(state_dir.join("state/db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    assert!(
        DATABASE_FILES
            .iter()
            .all(|name| files.contains(&state_dir.join(name)))
    );
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

/// Where there is something that a damage would change.
fn place_with_content(bytes: &[u8], rng: &mut Rng) -> usize {
    loop {
        let at = rng.usize(..bytes.len());
        if bytes[at] != 0 {
            return at;
        }
    }
}

/// Damages a state directory; each number in another way. What was done.
fn damage(state_dir: &Path, earlier: &Path, number: usize, rng: &mut Rng) -> String {
    let files = database_files(state_dir);
    let seal = state_dir.join("state/seal");
    let file = match number / 12 % 4 {
        0 => rng.choice(&files).unwrap(),
        1 => &seal,
        _ => &files[0],
    };
    let mut bytes = fs::read(file).unwrap();
    let at = place_with_content(&bytes, rng);
    let name = file.display();
    match number % 12 {
        0 | 1 => {
            bytes[at] ^= 1 << rng.u8(..8);
            fs::write(file, &bytes).unwrap();
            format!("a bit of byte {at} of {name} flipped")
        }
        2 => {
            let length = rng.usize(..bytes.len());
            fs::write(file, &bytes[..length]).unwrap();
            format!("{name} cut to {length}")
        }
        3 => {
            let page = at - at % 4_096..bytes.len().min(at - at % 4_096 + 4_096);
            bytes[page].fill(0);
            fs::write(file, &bytes).unwrap();
            format!("the page at {at} of {name} zeroed")
        }
        4 => {
            let end = bytes.len().min(at + rng.usize(1..2_000));
            bytes[at..end].iter_mut().for_each(|byte| *byte = !*byte);
            fs::write(file, &bytes).unwrap();
            format!("garbage from {at} to {end} of {name}")
        }
        5 => {
            fs::remove_file(file).unwrap();
            format!("{name} removed")
        }
        6 => {
            let added = [
                "db/db.bak",
                "db/blobs/00",
                "db/snap.FFFFFFFFFFFFFFFF",
                "notes",
            ];
            let added = added[number / 12 % 4];
            let path = state_dir.join("state").join(added);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, rng.u64(..).to_le_bytes()).unwrap();
            format!("{added} added")
        }
        7 => {
            let (one, other) = (&files[0], &files[1]);
            let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
            fs::write(one, second).unwrap();
            fs::write(other, first).unwrap();
            "two files exchanged".to_owned()
        }
        8 => {
            // The next page of the database that is not the same.
            let mut bytes = fs::read(&files[0]).unwrap();
            let at = place_with_content(&bytes, rng) / 512 * 512;
            let other = rng.usize(..bytes.len() / 512) * 512;
            let (page, with) = (
                bytes[at..at + 512].to_vec(),
                bytes[other..other + 512].to_vec(),
            );
            bytes[other..other + 512].copy_from_slice(&page);
            bytes[at..at + 512].copy_from_slice(&with);
            if page == with {
                bytes.push(0);
            }
            fs::write(&files[0], bytes).unwrap();
            format!("pages at {at} and {other} exchanged")
        }
        9 => {
            let directory = state_dir.join("state/db");
            fs::remove_dir_all(&directory).unwrap();
            if (number / 12).is_multiple_of(2) {
                copy(&earlier.join("state/db"), &directory);
                "an earlier database put back".to_owned()
            } else {
                "the database removed".to_owned()
            }
        }
        10 => {
            fs::copy(earlier.join("state/seal"), &seal).unwrap();
            "an earlier seal put back".to_owned()
        }
        _ => {
            fs::remove_file(file).unwrap();
            match number / 12 % 3 {
                0 => fs::create_dir(file).unwrap(),
                1 => std::os::unix::fs::symlink("/dev/zero", file).unwrap(),
                _ => fs::write(file, vec![rng.u8(..); rng.usize(..100_000)]).unwrap(),
            }
            format!("{name} replaced")
        }
    }
}

#[test]
fn what_was_kept_is_known_again() {
    let images = images();
    for reader in [
        Reader::InProcess,
        Reader::Child(env!("CARGO_BIN_EXE_codex-relay").into()),
    ] {
        for (image, known) in [
            (&images.clean, &images.known),
            (&images.open, &images.known_when_open),
        ] {
            let directory = tempfile::tempdir().unwrap();
            copy(image.path(), directory.path());
            let process = Process::start(directory.path(), reader.clone());
            process.wait_begun(directory.path());
            assert_eq!(process.known(), *known);
            assert_eq!(quarantined(directory.path()), [] as [PathBuf; 0]);
            process.finish();
            let process = Process::start(directory.path(), reader.clone());
            process.wait_begun(directory.path());
            assert_eq!(process.known(), *known);
            assert_eq!(quarantined(directory.path()), [] as [PathBuf; 0]);
            process.finish();
        }
    }
}

/// Another gateway has the files until this one has met failures of its own.
#[test]
fn what_is_found_late_is_known_beside_what_was_learned_meanwhile() {
    let images = images();
    let directory = tempfile::tempdir().unwrap();
    copy(images.clean.path(), directory.path());
    let lock = fs::File::open(directory.path().join("state.lock")).unwrap();
    lock.lock().unwrap();
    let process = Process::start_with_child(directory.path());
    assert_eq!(process.records(), nothing_known().0);
    let drained = AccountId(2);
    assert!(
        process.store.saved(drained).is_err(),
        "nobody knows what is there"
    );
    let health = &process.accounts.health;
    let now = health.clock().now();
    health.failed(
        drained,
        0,
        None,
        Fault::RateLimited { until: None },
        now,
        0.5,
    );
    let limited = health.record(drained).account;
    process.store.note(&[drained]);
    drop(lock);

    process.wait_for("taken over", || process.records()[0] == images.known.0[0]);
    assert_eq!(process.known().1, images.known.1);
    let both = process.records()[2].clone();
    assert_eq!(both.operator, images.known.0[2].operator);
    assert_eq!(both.account, limited);
    process.wait_for("saved", || process.store.saved(drained).is_ok());
    let crashed = tempfile::tempdir().unwrap();
    copy(directory.path(), crashed.path());
    process.finish();
    let next = Process::start_with_child(crashed.path());
    next.wait_begun(crashed.path());
    assert_eq!(next.records()[2], both);
    assert_eq!(quarantined(crashed.path()), [] as [PathBuf; 0]);
    next.finish();
}

/// What became of a damaged image.
struct Outcome {
    what: String,
    start: Duration,
    is_quarantined: bool,
}

fn start_on_damaged(image: &Path, images: &Images, number: usize, rng: &mut Rng) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    copy(image, directory.path());
    let what = damage(directory.path(), images.earlier.path(), number, rng);
    let process = Process::start_with_child(directory.path());
    let start = process.start;
    process.wait_begun(directory.path());
    let known = process.known();
    let is_quarantined = !quarantined(directory.path()).is_empty();
    if is_quarantined {
        assert_eq!(known, nothing_known(), "{what}");
    } else {
        assert_eq!(known, images.known_when_open, "{what}");
    }
    // It goes on as if nothing had been, and the next start finds it.
    process.live(4);
    let saved = in_runtime(process.store.save(AccountId(1)));
    assert_eq!(saved, Ok(()), "{what}");
    let known = process.known();
    process.finish();
    let kept = quarantined(directory.path());
    let process = Process::start(directory.path(), Reader::InProcess);
    process.wait_for(&what, || process.known() == known);
    assert_eq!(quarantined(directory.path()), kept, "{what}");
    process.finish();
    Outcome {
        what,
        start,
        is_quarantined,
    }
}

fn report(of: &str, outcomes: &[Outcome]) {
    let longest = outcomes.iter().max_by_key(|outcome| outcome.start).unwrap();
    let quarantined = outcomes.iter().filter(|outcome| outcome.is_quarantined);
    println!(
        "{of}: {} of {} quarantined; the longest start took {:?} ({})",
        quarantined.count(),
        outcomes.len(),
        longest.start,
        longest.what,
    );
}

#[test]
fn every_damaged_image_is_put_away_and_none_stops_the_start() {
    let images = images();
    let mut rng = Rng::with_seed(4);
    let outcomes: Vec<Outcome> = (0..300)
        .map(|number| start_on_damaged(images.clean.path(), &images, number, &mut rng))
        .collect();
    report("after an orderly end", &outcomes);
    for outcome in &outcomes {
        assert!(outcome.is_quarantined, "believed: {}", outcome.what);
    }
}

/// After a crash the files are nobody's word: damage to what they no longer hold may go unnoticed, and does no harm.
#[test]
fn of_a_damaged_image_of_a_crash_all_is_believed_or_nothing() {
    let images = images();
    let mut rng = Rng::with_seed(5);
    let outcomes: Vec<Outcome> = (0..120)
        .map(|number| start_on_damaged(images.open.path(), &images, number, &mut rng))
        .collect();
    report("after a crash", &outcomes);
    let quarantined = outcomes.iter().filter(|outcome| outcome.is_quarantined);
    let quarantined = quarantined.count();
    assert!(quarantined >= outcomes.len() * 3 / 4, "only {quarantined}");
}
