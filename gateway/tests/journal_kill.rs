//! `kill -9` in a write storm: a child writes a journal and tells which entries are acknowledged, its parent kills it at random
//! moments and reads what is there. Each of the acknowledged entries has to be, unaltered, and nothing else but what the
//! child has written after them.
//!
//! `JOURNAL_KILLS` and `JOURNAL_RECORDS` say how often, and how many entries have to be acknowledged at least:
//! `JOURNAL_KILLS=1000 JOURNAL_RECORDS=1000000 cargo test --release --package codex-relay --test journal_kill`

#![allow(clippy::unwrap_used, reason = "a test")]

use codex_relay::config::policy::{Limit, LimitSet, Money, Scope};
use codex_relay::journal::{Entries, Entry, Filter, Item, Journal, Outcome, segments};
use codex_relay::usage::Known;
use fastrand::Rng;
use relay_io::Engine;
use relay_wire::dialect::{Dialect, Usage};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// How the child is told that it is the child; its directory and its seed follow.
const CHILD: &str = "write-until-killed";

/// Small: segments begin at every moment too.
const SEGMENT_BYTES_MAX: u64 = 128 << 10;

const KILLS: u64 = 120;

/// Entries that come between two looks at the disk, at most.
const STORM: u64 = 600;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(CHILD) {
        let (directory, seed) = (args.next().unwrap(), args.next().unwrap());
        let seed: u64 = seed.parse().unwrap();
        match Engine::probe().0 {
            Engine::IoUring | Engine::IoUringPlain if seed.is_multiple_of(2) => {
                tokio_uring::start(write(Path::new(&directory), seed, Engine::IoUring));
            }
            _ => {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(write(Path::new(&directory), seed, Engine::Epoll));
            }
        }
        return;
    }
    let acknowledged = kill_again_and_again();
    println!("test acknowledged_entries_survive_every_kill ... ok ({acknowledged})");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored");
}

/// What the entry with this sequence is.
fn entry(sequence: u64) -> Entry<String> {
    let rng = &mut Rng::with_seed(sequence);
    let name = |kind: &str, number: u64| Some(format!("{kind}-{}", number % 50));
    Entry {
        sequence,
        time_us: 1_800_000_000_000_000 + sequence,
        request_id: format!("req_{:024x}", rng.u64(..)).as_str().into(),
        tenant: name("tenant", sequence),
        key: Some(rng.u32(..).to_le_bytes()),
        route: rng.choice(Dialect::ALL),
        model: name("model", sequence / 1_000),
        upstream: name("upstream", 0),
        account: name("account", sequence / 3),
        region: rng.bool().then(|| "here".to_owned()),
        egress: Some([10, 0, 0, rng.u8(..)].into()),
        status: 200,
        failed_status: rng.bool().then_some(503),
        code: rng.bool().then(|| "tenant_rate_limited".to_owned()),
        attempts: 1,
        chosen: None,
        queued: rng.bool().then(|| Duration::from_millis(3)),
        first_byte: Some(Duration::from_micros(rng.u64(..9_000_000))),
        duration: Duration::from_micros(rng.u64(..90_000_000)),
        overhead: Some(Duration::from_micros(rng.u64(..90))),
        bytes_in: rng.u64(..1 << 20),
        bytes_out: rng.u64(..1 << 20),
        events: rng.u64(..900),
        streamed: rng.bool(),
        charged: rng.bool(),
        usage: rng.bool().then(|| Usage {
            input_tokens: rng.u64(..90_000),
            ..Usage::default()
        }),
        known: rng.choice(Known::ALL),
        cost: Money::from_nano(rng.u64(..1 << 40)),
        limit: rng.bool().then_some((Scope::Key, Limit::TokensPerDay)),
        shadowed: LimitSet::EMPTY,
        closed: None,
        ended: "complete".to_owned(),
    }
}

/// Writes as fast as it can, and tells each acknowledged sequence in eight bytes.
async fn write(directory: &Path, seed: u64, engine: Engine) {
    let rng = &mut Rng::with_seed(seed);
    let mut journal = Journal::new(directory.to_owned(), SEGMENT_BYTES_MAX, engine);
    let mut next = journal.open().unwrap().next_sequence;
    let mut out = io::stdout();
    loop {
        if journal.waiting_entries() < 4 * STORM {
            for _ in 0..rng.u64(..STORM) {
                journal.append(&entry(next).named(String::as_str));
                next += 1;
            }
        }
        match journal.tick().await {
            Some(Outcome::Committed { .. }) => {
                out.write_all(&journal.acknowledged().to_le_bytes())
                    .unwrap();
                out.flush().unwrap();
            }
            Some(Outcome::Failed(failure)) => panic!("{failure}"),
            Some(Outcome::Opened(_)) | None => {}
        }
        tokio::time::sleep(Duration::from_micros(rng.u64(..300))).await;
    }
}

fn kill_again_and_again() -> u64 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = number("JOURNAL_KILLS").unwrap_or(KILLS);
    let records = number("JOURNAL_RECORDS").unwrap_or(0);
    let directory = tempfile::tempdir().unwrap();
    let rng = &mut Rng::with_seed(8);
    let (mut acknowledged, mut killed) = (0, 0);
    while killed < kills || acknowledged < records {
        let from = acknowledged;
        // Some are killed before they have written anything.
        let wanted = rng.u64(..=2 * records / kills);
        let told_min = rng.u64(..6);
        acknowledged = write_until_killed(directory.path(), killed, rng, |told, sequence| {
            told >= told_min && sequence >= from + wanted
        })
        .unwrap_or(acknowledged);
        killed += 1;
        check(directory.path(), from + 1, acknowledged);
    }
    check(directory.path(), 1, acknowledged);
    assert!(acknowledged > 10 * kills, "{acknowledged}");
    assert!(segments(directory.path()).unwrap().len() as u64 > kills / 2);
    acknowledged
}

/// The last sequence that was acknowledged, if one was.
fn write_until_killed(
    directory: &Path,
    seed: u64,
    rng: &mut Rng,
    is_enough: impl Fn(u64, u64) -> bool,
) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, directory.to_str().unwrap(), &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut told, mut last) = (0, None);
    while !is_enough(told, last.unwrap_or(0)) {
        last = Some(read_sequence(&mut out).expect("a child that writes"));
        told += 1;
    }
    // The moment itself is what is tried.
    std::thread::sleep(Duration::from_micros(rng.u64(..4_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    while let Some(sequence) = read_sequence(&mut out) {
        last = Some(sequence);
    }
    last
}

fn read_sequence(out: &mut ChildStdout) -> Option<u64> {
    let mut bytes = [0; 8];
    out.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// From this sequence on all is there, up to what was acknowledged at least.
fn check(directory: &Path, from: u64, acknowledged: u64) {
    let filter = Filter {
        sequences: from..u64::MAX,
        ..Filter::default()
    };
    if !directory.exists() {
        return;
    }
    let mut entries = Entries::open(directory, filter).unwrap();
    let mut next = from;
    while let Some(item) = entries.next().unwrap() {
        match item {
            Item::Entry(found) => assert_eq!(found, entry(next).named(String::as_str)),
            Item::Gap(gap) => panic!("{gap:?}"),
        }
        next += 1;
    }
    assert!(
        next > acknowledged,
        "{acknowledged} was acknowledged, {next} is not there"
    );
}
