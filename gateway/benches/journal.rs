//! What the journal costs, and how fast it is read: `cargo bench --package codex-relay --bench journal`.
//!
//! `JOURNAL_RECORDS` says with how many records (2,000,000). The files are in the kernel's cache when they are read.

#![allow(clippy::unwrap_used, reason = "a measurement")]

use codex_relay::config::policy::{LimitSet, Money};
use codex_relay::journal::{Entries, Entry, Filter, Item, Journal, segments};
use codex_relay::usage::{self, Day, Known};
use fastrand::Rng;
use jiff::tz::TimeZone;
use relay_io::Engine;
use relay_wire::dialect::{Dialect, Usage};
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const RECORDS: u64 = 2_000_000;

const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// What comes between two commits.
const PER_COMMIT: usize = 4_000;

/// 2027-01-15 08:00 UTC.
const BEGIN_US: u64 = 1_800_000_000_000_000;

const PER_SECOND: u64 = 200;

const DAYS_KEPT: u64 = 30;

const TENANTS: usize = 20;

/// The names of a node of some size.
struct Names {
    tenants: Vec<String>,
    accounts: Vec<String>,
    models: [&'static str; 5],
    upstreams: [&'static str; 3],
}

impl Names {
    fn new() -> Self {
        Self {
            tenants: (0..TENANTS)
                .map(|number| format!("tenant-{number}"))
                .collect(),
            accounts: (0..40).map(|number| format!("account-{number}")).collect(),
            models: [
                "gpt-5.1-codex",
                "gpt-5.1-codex-mini",
                "gpt-5.1",
                "claude-opus-4-5",
                "gemini-3-pro",
            ],
            upstreams: ["openai", "anthropic", "google"],
        }
    }

    fn entry(&self, number: u64, rng: &mut Rng) -> Entry<&str> {
        let account = rng.usize(..self.accounts.len());
        let is_refused = rng.u8(..20) == 0;
        let served = |name| (!is_refused).then_some(name);
        let usage = Usage {
            input_tokens: rng.u64(500..120_000),
            cached_tokens: rng.u64(..500),
            output_tokens: rng.u64(20..4_000),
            reasoning_tokens: rng.u64(..2_000),
        };
        Entry {
            sequence: 0,
            time_us: BEGIN_US + number * 1_000_000 / PER_SECOND,
            request_id: format!("req_{:024x}", rng.u128(..) >> 32).as_str().into(),
            tenant: Some(&self.tenants[rng.usize(..TENANTS)]),
            key: Some(rng.u32(..90).to_be_bytes()),
            route: Some(Dialect::Responses),
            model: Some(self.models[rng.usize(..self.models.len())]),
            upstream: served(self.upstreams[account % 3]),
            account: served(&self.accounts[account]),
            region: served("eu"),
            egress: (!is_refused).then(|| [0x2001, 0xdb8, 0, 0, 0, 0, 0, account as u16].into()),
            status: if is_refused { 429 } else { 200 },
            failed_status: None,
            code: is_refused.then_some("tenant_rate_limited"),
            attempts: u32::from(!is_refused),
            chosen: served("affinity"),
            queued: None,
            first_byte: (!is_refused).then(|| Duration::from_micros(rng.u64(300_000..9_000_000))),
            duration: Duration::from_micros(rng.u64(2_000_000..60_000_000)),
            overhead: Some(Duration::from_micros(rng.u64(20..900))),
            bytes_in: rng.u64(5_000..600_000),
            bytes_out: rng.u64(2_000..300_000),
            events: rng.u64(20..3_000),
            streamed: !is_refused,
            charged: !is_refused,
            usage: (!is_refused).then_some(usage),
            known: (!is_refused).then_some(Known::Final),
            cost: Money::from_nano(if is_refused {
                0
            } else {
                rng.u64(..900_000_000)
            }),
            limit: None,
            shadowed: LimitSet::EMPTY,
            closed: None,
            ended: if is_refused { "refused" } else { "complete" },
        }
    }
}

fn main() {
    let records = std::env::var("JOURNAL_RECORDS").ok();
    let records = records.map_or(RECORDS, |records| records.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::probe();
    println!("{records} records, {}", engine.as_str());
    match engine {
        Engine::Epoll => {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(write(directory.path(), records, engine));
        }
        _ => tokio_uring::start(write(directory.path(), records, engine)),
    }
    let bytes: u64 = segments(directory.path())
        .unwrap()
        .iter()
        .map(|segment| fs::metadata(&segment.path).unwrap().len())
        .sum();
    let kept = DAYS_KEPT * 86_400 * PER_SECOND;
    let per_record = bytes as f64 / records as f64;
    println!("on disk    {per_record:.1} bytes a record");
    let gigabytes = per_record * kept as f64 / 1e9;
    println!("           {gigabytes:.1} GB for {DAYS_KEPT} days at {PER_SECOND}/s");
    read_all(directory.path(), bytes, records);
    sum_up(directory.path(), records);
    recover(directory.path(), engine);
}

/// The processor's time that this thread has used.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

async fn write(directory: &Path, records: u64, engine: Engine) {
    let names = Names::new();
    let rng = &mut Rng::with_seed(1);
    let mut journal = Journal::new(directory.to_owned(), SEGMENT_BYTES_MAX, engine);
    journal.open().unwrap();
    let (mut appending, mut committing) = (Duration::ZERO, Duration::ZERO);
    let began_at = Instant::now();
    let mut number = 0;
    while number < records {
        let batch: Vec<_> = (0..PER_COMMIT as u64)
            .map(|index| names.entry(number + index, rng))
            .collect();
        number += batch.len() as u64;
        let from = thread_time();
        for entry in &batch {
            journal.append(entry);
        }
        appending += thread_time() - from;
        let from = thread_time();
        assert_eq!(journal.finish(Duration::from_secs(60)).await, 0);
        committing += thread_time() - from;
    }
    let per_record = |time: Duration| time.as_nanos() / u128::from(number);
    println!(
        "append     {} ns of the control thread a record",
        per_record(appending)
    );
    println!(
        "commit     {} ns of the control thread a record",
        per_record(committing)
    );
    println!("in all     {:.1} s", began_at.elapsed().as_secs_f64());
}

fn read_all(directory: &Path, bytes: u64, records: u64) {
    let quarter = records / 4 * 1_000_000 / PER_SECOND;
    for (what, filter) in [
        ("all", Filter::default()),
        (
            "one tenant",
            Filter {
                tenant: Some("tenant-7".into()),
                ..Filter::default()
            },
        ),
        (
            "a quarter",
            Filter {
                times_us: BEGIN_US + quarter..BEGIN_US + 2 * quarter,
                ..Filter::default()
            },
        ),
    ] {
        let from = thread_time();
        let began_at = Instant::now();
        let mut entries = Entries::open(directory, filter).unwrap();
        let (mut count, mut tokens) = (0, 0);
        while let Some(item) = entries.next().unwrap() {
            let Item::Entry(entry) = item else {
                panic!("{item:?}");
            };
            count += 1;
            tokens += entry.usage.map_or(0, |usage| usage.output_tokens);
        }
        let (used, took) = (thread_time() - from, began_at.elapsed());
        println!(
            "read       {what}: {count} records, {tokens} tokens, {} ns for each that is there, {:.0} MB/s, {:.2} s",
            used.as_nanos() / u128::from(records),
            bytes as f64 / took.as_secs_f64() / 1e6,
            took.as_secs_f64(),
        );
        let day = used.as_secs_f64() / records as f64 * (86_400 * PER_SECOND) as f64;
        println!("           {day:.1} s for a day at {PER_SECOND}/s");
    }
}

/// What a start does with the month, and `codex-relay usage`: without summaries and with them.
fn sum_up(directory: &Path, records: u64) {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let days = Day::of(BEGIN_US, &zone)..=Day::of(u64::MAX, &zone);
    let report = |what: &str| {
        let (from, began_at) = (thread_time(), Instant::now());
        let report = usage::report(directory, &zone, &days, None).unwrap();
        let used = thread_time() - from;
        println!(
            "usage      {what}: {} rows, {} ns for each record that is there, {:.0} ms",
            report.rows.len(),
            used.as_nanos() / u128::from(records),
            began_at.elapsed().as_secs_f64() * 1e3,
        );
    };
    report("from records");
    let segments = segments(directory).unwrap();
    usage::summarize(directory, &segments, &zone, &mut HashSet::new()).unwrap();
    report("from summaries, but for the last segment");
}

fn recover(directory: &Path, engine: Engine) {
    let began_at = Instant::now();
    let mut journal = Journal::new(directory.to_owned(), SEGMENT_BYTES_MAX, engine);
    let recovered = journal.open().unwrap();
    println!(
        "recovery   {:.0} ms, next {}",
        began_at.elapsed().as_secs_f64() * 1e3,
        recovered.next_sequence
    );
}
