//! `codex-relay audit …` and `codex-relay usage` on a journal that nobody writes to, or that grows: what is shown, where it
//! goes, and the exit codes.
#![allow(clippy::unwrap_used)]

use codex_relay::config::policy::{LimitSet, Money};
use codex_relay::journal::{Entry, Journal, segments};
use codex_relay::usage::Known;
use relay_io::Engine;
use relay_wire::dialect::{Dialect, Usage};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// 2026-03-01T12:00:00Z
const NOON_US: u64 = 1_772_366_400_000_000;

const SECOND_US: u64 = 1_000_000;

/// The Nth request: one a second, every third one refused; tenants take turns.
fn entry(number: u64) -> Entry<&'static str> {
    let is_refused = number.is_multiple_of(3);
    let usage = (!is_refused).then_some(Usage {
        input_tokens: 100,
        cached_tokens: 40,
        output_tokens: 10,
        ..Usage::default()
    });
    Entry {
        sequence: 0,
        time_us: NOON_US + number * SECOND_US,
        request_id: format!("req_{number}").as_str().into(),
        tenant: Some(if number.is_multiple_of(2) {
            "team-a"
        } else {
            "team-b"
        }),
        key: Some([0xc0, 0xff, 0xee, (number % 2) as u8]),
        route: Some(Dialect::Responses),
        model: Some(if number == 5 { "=1+1" } else { "gpt-5" }),
        upstream: usage.map(|_| "openai"),
        account: usage.map(|_| "openai-1"),
        region: usage.map(|_| "eu"),
        egress: usage.map(|_| [127, 0, 7, 1].into()),
        status: if is_refused { 429 } else { 200 },
        failed_status: None,
        code: is_refused.then_some("tenant_rate_limited"),
        attempts: u32::from(!is_refused),
        chosen: None,
        queued: None,
        first_byte: None,
        duration: Duration::from_millis(number),
        overhead: None,
        bytes_in: 10,
        bytes_out: 20,
        events: 0,
        streamed: false,
        charged: !is_refused,
        usage,
        known: usage.map(|_| Known::Final),
        cost: Money::from_nano(usage.map_or(0, |_| 500_000_000)),
        limit: None,
        shadowed: LimitSet::EMPTY,
        closed: None,
        ended: if is_refused { "refused" } else { "complete" },
    }
}

/// A gateway's directory.
struct Node {
    directory: TempDir,
}

impl Node {
    /// With so many requests in its journal.
    fn new(count: u64) -> Self {
        let node = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let config = format!(
            r#"
            [node]
            state_dir = {:?}
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "openai"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "openai-1"
            upstream = "openai"
            credential = {{ env = "NOT_SET_HERE" }}
            egress = ["127.0.0.1"]
            [[tenant]]
            name = "team-a"
            keys = [{{ sha256 = "{}" }}]
            upstreams = ["openai"]
            [usage]
            time_zone = "Asia/Tokyo"
            "#,
            node.directory.path(),
            "0".repeat(64)
        );
        fs::write(node.config(), config).unwrap();
        node.add(1..=count);
        node
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("relay.toml")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// More requests, as after a start of the gateway: in a segment of their own.
    fn add(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut journal = Journal::new(self.journal(), 64 << 20, Engine::Epoll);
        journal.open().unwrap();
        for number in numbers {
            journal.append(&entry(number));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let lost = runtime.block_on(journal.finish(Duration::from_secs(60)));
        assert_eq!(lost, 0);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-relay"));
        command.args(arguments).arg("-c").arg(self.config());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The names of the requests that are shown, and what is said about that.
    fn shown(&self, arguments: &[&str]) -> (Vec<String>, String) {
        let output = self.run(&[&["audit", "query", "--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let ids = text(&output.stdout).lines().map(id).collect();
        (ids, text(&output.stderr).to_owned())
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn id(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["request_id"].as_str().unwrap().to_owned()
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| format!("req_{number}"))
        .collect()
}

#[test]
fn without_bounds_the_newest_hundred_are_shown_and_it_is_said() {
    let node = Node::new(150);
    node.add(151..=160);
    let (shown, said) = node.shown(&[]);
    assert_eq!(shown, ids(61..=160));
    assert!(said.starts_with("the newest 100; see --since"), "{said}");
    let (shown, said) = node.shown(&["--limit", "12"]);
    assert_eq!(shown, ids(149..=160));
    assert!(said.starts_with("the newest 12;"), "{said}");
    // All that there are need no word.
    assert_eq!(
        node.shown(&["--limit", "161"]),
        (ids(1..=160), String::new())
    );
    assert_eq!(
        node.shown(&["--since", "2026-03-01"]),
        (ids(1..=160), String::new())
    );
}

#[test]
fn what_is_shown_is_what_was_asked_for() {
    let node = Node::new(12);
    node.add(13..=20);
    for (arguments, expected) in [
        (&["--since", "2026-03-01T12:00:15Z"][..], ids(15..=20)),
        // A time without an offset is one of Tokyo.
        (&["--until", "2026-03-01T21:00:03"], ids(1..=2)),
        (
            &[
                "--since",
                "2026-03-01T12:00:05Z",
                "--until",
                "2026-03-01T12:00:18Z",
                "--limit",
                "2",
            ],
            ids(16..=17),
        ),
        (&["--tenant", "team-a", "--limit", "3"], ids([16, 18, 20])),
        (
            &["--tenant", "team-a", "--tenant", "team-b", "--limit", "2"],
            ids([19, 20]),
        ),
        (&["--key", "C0FFEE01", "--status", "4xx"], ids([3, 9, 15])),
        (&["--status", "200", "--limit", "1"], ids([20])),
        (&["--account", "openai-1", "--limit", "2"], ids([19, 20])),
        (
            &["--code", "tenant_rate_limited", "--limit", "1"],
            ids([18]),
        ),
        (&["--model", "=*"], ids([5])),
        (
            &["--request-id", "req_7", "--request-id", "req_13"],
            ids([7, 13]),
        ),
        (&["--since", "30m"], ids([])),
    ] {
        assert_eq!(node.shown(arguments).0, expected, "{arguments:?}");
    }
    assert_eq!(
        node.shown(&["--since", "30m"]).1,
        "there is no such record\n"
    );
    let (_, said) = node.shown(&["--tenant", "team-b"]);
    assert_eq!(said, "the configuration has no tenant `team-b`\n");
}

#[test]
fn requests_can_be_had_as_a_table_and_as_csv() {
    let node = Node::new(6);
    let table = node.run(&["audit", "query", "--limit", "2"]);
    let lines: Vec<_> = text(&table.stdout).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("TIME ") && lines[0].ends_with("ENDED"));
    let cells: Vec<_> = lines[1].split_whitespace().collect();
    let expected = [
        "2026-03-01T12:00:05.000000Z",
        "team-b",
        "c0ffee01",
        "=1+1",
        "openai-1",
        "200",
        "1",
        "-",
        "5.00",
        "ms",
        "100",
        "40",
        "10",
        "0.50",
        "complete",
    ];
    assert_eq!(cells, expected);
    assert!(
        lines[2].contains(" 429 tenant_rate_limited "),
        "{}",
        lines[2]
    );

    let csv = node.run(&["audit", "query", "--limit", "2", "--format", "csv"]);
    let lines: Vec<_> = text(&csv.stdout).split("\r\n").collect();
    assert!(
        lines[0].starts_with("time,sequence,request_id,tenant,"),
        "{}",
        lines[0]
    );
    let begin = "2026-03-01T12:00:05.000000Z,5,req_5,team-b,c0ffee01,responses,'=1+1,openai,";
    assert!(lines[1].starts_with(begin), "{}", lines[1]);
    assert_eq!((lines.len(), lines[3]), (4, ""));
}

#[test]
fn an_export_is_whole_or_is_not_there() {
    let node = Node::new(3_000);
    let file = |name: &str| node.directory.path().join(name);
    let export = |name: &str, more: &[&str]| {
        let path = file(name);
        let arguments = ["audit", "export", "--output", path.to_str().unwrap()];
        node.run(&[&arguments, more].concat())
    };
    let output = export("all.csv", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        text(&output.stderr).starts_with("3000 records written to "),
        "{output:?}"
    );
    assert_eq!(
        fs::read_to_string(file("all.csv"))
            .unwrap()
            .matches("\r\n")
            .count(),
        3_001
    );

    let output = export("some", &["--tenant", "team-a", "--status", "429"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = fs::read_to_string(file("some")).unwrap();
    let expected: Vec<_> = (1..=500).map(|number| number * 6).collect();
    assert_eq!(lines.lines().map(id).collect::<Vec<_>>(), ids(expected));

    let output = export("not/there", &[]);
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(text(&output.stderr).contains("not/there: "), "{output:?}");
    fs::remove_dir_all(node.journal()).unwrap();
    let output = export("none.csv", &[]);
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    assert!(
        text(&output.stderr).contains("there is no journal in "),
        "{output:?}"
    );
    let is_left = |name: &str| file(name).exists();
    assert!(!is_left("none.csv") && !is_left("none.csv.unfinished"));
}

#[test]
fn whoever_has_read_enough_ends_it_quietly() {
    let node = Node::new(20_000);
    for format in ["table", "json", "csv"] {
        let arguments = [
            "audit",
            "query",
            "--since",
            "2026-03-01",
            "--format",
            format,
        ];
        let mut child = node
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{format}");
    }
}

/// Ended with the test.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        // It has ended already if the test has gone well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_tail_goes_on_until_it_is_interrupted() {
    let node = Node::new(30);
    let arguments = ["audit", "tail", "--format", "json", "--tenant", "team-a"];
    let child = node
        .command(&arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tail = Tail(child);
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next = |count: usize| -> Vec<String> {
        (0..count)
            .map(|_| id(&lines.next().unwrap().unwrap()))
            .collect()
    };
    assert_eq!(next(10), ids((12..=30).step_by(2)));
    // Two more starts of the gateway, each with a segment of its own.
    node.add(31..=33);
    assert_eq!(next(1), ids([32]));
    node.add(34..=38);
    assert_eq!(next(3), ids([34, 36, 38]));
    let interrupted = Command::new("kill")
        .args(["-INT", &tail.0.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(tail.0.wait().unwrap().code(), Some(0));
    assert!(lines.next().is_none());
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_shown() {
    let node = Node::new(10);
    node.add(11..=20);
    node.add(21..=30);
    let files = segments(&node.journal()).unwrap();
    assert_eq!(files.len(), 3);
    // Its header.
    damage(&files[1].path, 0);
    let (shown, said) = node.shown(&[]);
    assert_eq!(shown, ids((1..=10).chain(21..=30)));
    let expected = format!(
        "records 11 to 20 cannot be read: {} is damaged, or what came after it is gone\n",
        files[1].path.display()
    );
    assert_eq!(said, expected);
    fs::remove_file(&files[1].path).unwrap();
    let (shown, said) = node.shown(&[]);
    assert_eq!(shown, ids((1..=10).chain(21..=30)));
    assert!(
        said.starts_with("records 11 to 20 cannot be read: "),
        "{said}"
    );

    for file in [&files[0], &files[2]] {
        damage(&file.path, 0);
    }
    let output = node.run(&["audit", "query"]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let output = node.run(&["usage", "--month", "2026-03"]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
}

#[test]
fn use_is_summed_up_by_what_was_asked_for() {
    let node = Node::new(12);
    let usage = |arguments: &[&str]| {
        let output = node.run(&[&["usage", "--month", "2026-03"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            text(&output.stderr).ends_with("2026-03-01 to 2026-03-31\n"),
            "{output:?}"
        );
        text(&output.stdout).to_owned()
    };
    let expected = "\
TENANT  REQUESTS  REFUSED  INPUT  CACHED  OUTPUT  REASONING  COST  PARTIAL  ESTIMATED
team-a         4        2    400     160      40          0  2.00        0          0
team-b         4        2    400     160      40          0  2.00        0          0
total          8        4    800     320      80          0  4.00        0          0
";
    assert_eq!(usage(&[]), expected);
    let csv = usage(&["--by", "model,day", "--tenant", "team-b", "--format", "csv"]);
    let expected = "model,day,requests,refused,input_tokens,cached_tokens,output_tokens,reasoning_tokens,cost,\
                    partial,estimated\r\n\
                    '=1+1,2026-03-01,1,0,100,40,10,0,0.50,0,0\r\n\
                    gpt-5,2026-03-01,3,2,300,120,30,0,1.50,0,0\r\n";
    assert_eq!(csv, expected);
    let json = usage(&["--by", "key", "--format", "json"]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["key"], "c0ffee00");
    assert_eq!([&first["requests"], &first["input_tokens"]], [4, 400]);
    assert_eq!(first["cost"], "2.00");
}

#[test]
fn a_journal_that_is_not_kept_is_said_not_to_be() {
    let node = Node::new(1);
    let config = fs::read_to_string(node.config()).unwrap();
    fs::write(
        node.config(),
        format!("{config}\n[journal]\nmode = \"off\"\n"),
    )
    .unwrap();
    for command in [&["audit", "query"][..], &["audit", "tail"], &["usage"]] {
        let output = node.run(command);
        assert_eq!(output.status.code(), Some(66), "{output:?}");
        assert!(
            text(&output.stderr).starts_with("journal.mode is \"off\": "),
            "{output:?}"
        );
    }
    // What was kept before can be read nevertheless, also without any configuration.
    let output = Command::new(env!("CARGO_BIN_EXE_codex-relay"))
        .args(["audit", "query", "--format", "json", "--journal"])
        .arg(node.journal())
        .output()
        .unwrap();
    assert_eq!(id(text(&output.stdout)), "req_1");
}

#[test]
fn orders_that_make_no_sense_are_usage_errors() {
    let node = Node::new(1);
    for arguments in [
        &["audit"][..],
        &["audit", "query", "--since", "yesterday"],
        &["audit", "query", "--since", "1h", "--until", "2h"],
        &["audit", "query", "--limit", "0"],
        &["audit", "query", "--limit", "1000001"],
        &["audit", "query", "--status", "9xx"],
        &["audit", "query", "--key", "c0ffee"],
        &["audit", "query", "--format", "xml"],
        &["audit", "export"],
        &["audit", "export", "--output", "x", "--format", "table"],
        &["audit", "tail", "--since", "1h"],
        &["usage", "--from", "2026-03-02", "--to", "2026-03-01"],
        &["usage", "--month", "2026-03", "--from", "2026-03-01"],
        &["usage", "--by", "hour"],
    ] {
        let output = node.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}
