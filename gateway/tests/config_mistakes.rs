//! Every mistake in a file is found at once, each in its place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

/// Each expected error stands at the end of its line: `#! key: part of the message`.
const MISTAKES: &str = r##"
[node]
name = "-node" #! node.name: expected a name of 1 to 64 letters
region = 7 #! node.region: expected a text in quotes, found a whole number
workers = "many" #! node.workers: expected a number or "auto", found "many"
worker = 4 #! node.worker: unknown key

[admim] #! admim: unknown key
address = "127.0.0.1:9901"

[[listener]]
address = "127.0.0.1:8080"

[[listener]]
address = "127.0.0.1" #! listener[1].address: expected an IP address and a port

[[listener]]
address = "0.0.0.0:8080" #! listener[2].address: in use by listener[0].address (line 12)

[[listener]]
address = "127.0.0.1:9901" #! listener[3].address: in use by admin.address

[[listener]] #! listener[4].address: this key is required and missing

[[upstream]]
name = "openai"
base_url = "http://user:password@api.example" #! upstream[0].base_url: no user name or password here
protocol = "http3" #! upstream[0].protocol: expected "http1" or "http2" or "auto", found "http3"
credential_style = "bear" #! upstream[0].credential_style: found "bear"
affinity = "yes" #! upstream[0].affinity: expected true or false, found a text
include_usage = 1 #! upstream[0].include_usage: expected true or false, found a whole number

[upstream.headers.request]
allow_also = ["x-trace", "Connection", "x(y)"] #! upstream[0].headers.request.allow_also[1]: never passes #! upstream[0].headers.request.allow_also[2]: expected the name of a header field
remove = ["x-trace"] #! upstream[0].headers.request.remove[0]: both allowed and removed
set = { "x-a" = "b\u0007", "Host" = "other", "x-relay-attempts" = "0" } #! upstream[0].headers.request.set.x-a: expected a field value #! upstream[0].headers.request.set.Host: cannot be set #! upstream[0].headers.request.set.x-relay-attempts: cannot be set

[upstream.probe]
path = "v1/models" #! upstream[0].probe.path: expected a path as it stands in a request
interval = 30 #! upstream[0].probe.interval: expected a text in quotes, found a whole number
timeout = "2m" #! upstream[0].probe.timeout: must be from 10ms to 1m, is 2m
per_second = 5 #! upstream[0].probe.per_second: unknown key

[[upstream]]
name = "openai" #! upstream[1].name: the name `openai` is taken by upstream[0].name (line 26)
base_url = "http://api.example/v1?key=1" #! upstream[1].base_url: a query

[[upstream]]
name = "secure"
base_url = "http://api.example"
ca_file = "/etc/ca.pem" #! upstream[2].ca_file: there is no certificate to verify over `http://`
server_name = "api.example" #! upstream[2].server_name: and no name to ask for, over `http://`
probe = true #! upstream[2].probe: expected a table, found true or false

[[upstream]]
name = "half"
base_url = "ftp://api.example" #! upstream[3].base_url: the scheme must be `http` or `https`

[[account]]
name = "one"
upstream = "openai"
credential = "sk-literal-secret" #! account[0].credential: expected a table, found a text
egress = ["10.0.0.1", "10.0.0.300", "10.0.0.1"] #! account[0].egress[1]: expected an IP address #! account[0].egress[2]: 10.0.0.1 is named twice
max_concurrent = 0 #! account[0].max_concurrent: must be from 1 to 1000000, is 0
weight = -1 #! account[0].weight: must be from 1 to 1000
enabled = 1 #! account[0].enabled: expected true or false, found a whole number

[[account]]
name = "two"
upstream = "secure"
credential = { env = "RELAY_TEST_KEY_THAT_IS_NOT_SET" } #! account[1].credential.env: RELAY_TEST_KEY_THAT_IS_NOT_SET is not set
egress = ["10.0.0.1", "0.0.0.0", "ff02::1", "255.255.255.255"] #! account[1].egress[0]: belongs to another account, account[0].egress[0] (line 63) #! account[1].egress[1]: unspecified #! account[1].egress[2]: multicast #! account[1].egress[3]: broadcast

[[account]]
name = "three"
upstream = "secure"
credential = { env = "A", file = "b" } #! account[2].credential: expected exactly one of `env` and `file`, found 2
egress = "10.0.0.3" #! account[2].egress: expected a list, found a text

[[account]]
name = "four"
upstream = "secure"
credential = { file = "/nonexistent/relay-test.key" } #! account[3].credential.file: /nonexistent/relay-test.key does not exist
egress = [] #! account[3].egress: expected at least 1 entry, found 0

[[account]] #! account[4].upstream: this key is required and missing #! account[4].credential: this key is required and missing #! account[4].egress: this key is required and missing
name = "three" #! account[4].name: the name `three` is taken by account[2].name
max_connections = 0 #! account[4].max_connections: must be from 1 to 1000000, is 0

[[tenant]]
name = "team"
keys = [
    { sha256 = "abc" }, #! tenant[0].keys[0].sha256: 64 hexadecimal digits
    { sha256 = "1111111111111111111111111111111111111111111111111111111111111111", expires = 2030-01-01 }, #! tenant[0].keys[1].expires: a date and time with its offset
    "crk_literal_secret", #! tenant[0].keys[2]: expected a table, found a text
]
region = "" #! tenant[0].region: expected a name of 1 to 64 letters
upstreams = ["openia"] #! tenant[0].upstreams[0]: there is no upstream named `openia`
models = [1, "gpt 5"] #! tenant[0].models[0]: expected a text in quotes #! tenant[0].models[1]: expected a model name
limits = { concurrent_request = 10 } #! tenant[0].limits.concurrent_request: unknown key

[[tenant]]
name = "other"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }] #! tenant[1].keys[0].sha256: this key is already at tenant[0].keys[1].sha256 (line 94)
upstreams = ["openai", "openai"] #! tenant[1].upstreams[1]: `openai` is named twice

[[tenant]]
name = "keyless"
keys = [] #! tenant[2].keys: expected at least 1 entry, found 0
upstreams = ["secure"]
connections = 1_000_001 #! tenant[2].connections: must be from 1 to 1000000, is 1000001
sources = [] #! tenant[2].sources: expected at least 1 entry, found 0

[[tenant]]
name = "networks"
keys = [{ sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }]
upstreams = ["secure"]
connections = 0 #! tenant[3].connections: must be from 1 to 1000000, is 0
sources = [
    "198.51.100.0/24",
    "203.0.113.1/24", #! tenant[3].sources[1]: 203.0.113.1/24 has bits behind its prefix
    "203.0.113.7", #! tenant[3].sources[2]: expected a network with the length of its prefix
    "203.0.113.0/33", #! tenant[3].sources[3]: expected a network
    "2001:db8::/129", #! tenant[3].sources[4]: expected a network
    "203.0.113.0/024", #! tenant[3].sources[5]: expected a network
    "203.0.113/24", #! tenant[3].sources[6]: expected a network
    "example.com/24", #! tenant[3].sources[7]: expected a network
    "::ffff:203.0.113.0/120", #! tenant[3].sources[8]: is an IPv4 network in IPv6 form
    "::/0", #! tenant[3].sources[9]: covers IPv4 addresses as well
    "2001:db8::/32",
    "2001:DB8:0::/32", #! tenant[3].sources[11]: 2001:db8::/32 is named twice, first as tenant[3].sources[10] (line 130)
]

[[tenant]]
name = "neighbour"
keys = [{ sha256 = "3333333333333333333333333333333333333333333333333333333333333333" }]
upstreams = ["secure"]
connections = -1 #! tenant[4].connections: must be from 1 to 1000000
sources = [
    "198.51.100.0/25",
    "198.51.100.0/24", #! tenant[4].sources[1]: 198.51.100.0/24 belongs to another tenant, tenant[3].sources[0] (line 120)
    "2001:db8::/33",
    7, #! tenant[4].sources[3]: expected a text in quotes, found a whole number
]

[[tenant]]
name = "single"
keys = [{ sha256 = "4444444444444444444444444444444444444444444444444444444444444444" }]
upstreams = ["secure"]
sources = "198.51.100.0/26" #! tenant[5].sources: expected a list, found a text

[[tenant]]
name = "limited"
keys = [
    { sha256 = "5555555555555555555555555555555555555555555555555555555555555555", limits = { requests_per_minute = 0 } }, #! tenant[6].keys[0].limits.requests_per_minute: must be from 1 to 60000000, is 0
    { sha256 = "5555555566666666666666666666666666666666666666666666666666666666" }, #! tenant[6].keys[1].sha256: the first 8 digits, by which logs and reports know a key, are those of tenant[6].keys[0].sha256 (line 155)
    { sha256 = "7777777777777777777777777777777777777777777777777777777777777777", limits = { burst = 5 } }, #! tenant[6].keys[2].limits.burst: without `requests_per_second`
]
upstreams = ["secure"]
cancelled_streams = "drian" #! tenant[6].cancelled_streams: expected "close" or "drain", found "drian"

[tenant.limits]
requests_per_second = 1_000_001 #! tenant[6].limits.requests_per_second: must be from 1 to 1000000, is 1000001
burst = 2
tokens_per_minute = "many" #! tenant[6].limits.tokens_per_minute: expected a whole number, found a text
requests_per_dya = 5 #! tenant[6].limits.requests_per_dya: unknown key
budget_per_month = -2.5 #! tenant[6].limits.budget_per_month: must be from 0.000000001 to 1000000000
shadow = [
    "token_per_day", #! tenant[6].limits.shadow[0]: expected "requests_per_second" or "requests_per_minute"
    "requests_per_month", #! tenant[6].limits.shadow[1]: `requests_per_month` is not set beside it
    "tokens_per_minute",
    "tokens_per_minute", #! tenant[6].limits.shadow[3]: `tokens_per_minute` is named twice
    7, #! tenant[6].limits.shadow[4]: found a whole number
]

[[price]]
models = [] #! price[0].models: expected at least 1 entry, found 0
input = 0.1234567 #! price[0].input: expected a number with at most 6 digits behind the point, found "0.1234567"
output = "10.00" #! price[0].output: expected a number, found a text

[[price]] #! price[1].models: this key is required and missing #! price[1].output: this key is required and missing
input = 1_000_000_001 #! price[1].input: must be from 0 to 1000000000, is 1000000001
cached_input = -1 #! price[1].cached_input: must be from 0 to 1000000000
cached_output = 1 #! price[1].cached_output: unknown key

[journal]
mode = "best-effort" #! journal.mode: expected "strict" or "best_effort" or "off", found "best-effort"
directory = "/var/lib/codex-relay/state/journal" #! journal.directory: /var/lib/codex-relay/state is where the state of accounts is kept
retention = "30m" #! journal.retention: must be from 1h to 3660d, is 30m
segment_bytes_max = "64KiB" #! journal.segment_bytes_max: must be from 1MiB to 1GiB, is 64KiB

[usage]
time_zone = "Europe/Brelin" #! usage.time_zone: expected the name of a time zone in the IANA database
report_directory = "/var/lib/codex-relay/./state" #! usage.report_directory: /var/lib/codex-relay/state is where
output_tokens_assumed = 10_000_001 #! usage.output_tokens_assumed: must be from 0 to 10000000, is 10000001

[headers.request]
allow = ["accept", "X-API-Key", "cookie"] #! headers.request.allow[1]: never passes: it carries a credential #! headers.request.allow[2]: never passes: cookies stop
set = { "X-One" = "a", "x-one" = "b" } #! headers.request.set.X-One: set more than once #! headers.request.set.x-one: set more than once

[headers.reponse] #! headers.reponse: unknown key

[timeouts]
request_head = 10 #! timeouts.request_head: expected a text in quotes, found a whole number
keep_alive_idle = "1.5s" #! timeouts.keep_alive_idle: expected a duration
upstream_connect = "5h" #! timeouts.upstream_connect: must be from 10ms to 1m, is 5h
first_event = "3h" #! timeouts.first_event: must be from 10ms to 1h, is 3h
stream_total = "1m" #! timeouts.stream_total: `event_idle` (2m) must not be longer than `stream_total` (1m)
pool_idle = "20m" #! timeouts.pool_idle: `pool_idle` (20m) must not be longer than `pool_age` (10m)
heartbeat = "3m" #! timeouts.heartbeat: `heartbeat` (3m) must be shorter than `event_idle` (2m)
retry = "5ms" #! timeouts.retry: must be from 10ms to 1h, is 5ms
queue = "11m" #! timeouts.queue: must be from 0s to 10m, is 11m
commit = "off" #! timeouts.commit: expected a duration
tls_handshake = "1ms" #! timeouts.tls_handshake: must be from 10ms to 10m, is 1ms
upstream_tls = "2m" #! timeouts.upstream_tls: must be from 10ms to 1m, is 2m
websocket_idle = "2h" #! timeouts.websocket_idle: `websocket_idle` (2h) must not be longer than `websocket_total` (1h)

[limits]
head_bytes_max = "64KiB" #! limits.head_bytes_max: must be from 1KiB to 65535, is 64KiB
target_bytes_max = "40KiB"
body_bytes_max = "512KiB" #! limits.body_bytes_max: `retry_body_bytes_max` (1MiB) must not be greater than `body_bytes_max` (512KiB)
attempts_max = 99999999999999999999 #! limits.attempts_max: must be from 1 to 10
json_depth_max = 6.4 #! limits.json_depth_max: expected a whole number, found a number with a fraction
event_bytes_max = "1MB" #! limits.event_bytes_max: expected a number of bytes
connections_per_source = 1_000_001 #! limits.connections_per_source: must be from 0 to 1000000, is 1000001
retry_budget_percent = 101 #! limits.retry_budget_percent: must be from 0 to 100, is 101
queue_max = 50
queue_per_tenant_max = 60 #! limits.queue_per_tenant_max: `queue_per_tenant_max` (60) must not be greater than `queue_max` (50)
stored_responses_max = 100_000 #! limits.stored_responses_max: must be a power of two
tls_handshakes_max = 0 #! limits.tls_handshakes_max: must be from 1 to 65536, is 0
http2_streams_max = 0 #! limits.http2_streams_max: must be from 1 to 10000, is 0
http2_stream_window_bytes = "128KiB" #! limits.http2_stream_window_bytes: `http2_stream_window_bytes` (128KiB) must not be greater than `http2_connection_window_bytes` (65535)
http2_connection_window_bytes = 65_535
upstream_http2_streams_max = 1_001 #! limits.upstream_http2_streams_max: must be from 1 to 1000, is 1001
websockets_per_tenant_max = 0 #! limits.websockets_per_tenant_max: must be from 1 to 1000000, is 0
websocket_message_bytes_max = "2GiB" #! limits.websocket_message_bytes_max: must be from 1KiB to 1GiB, is 2GiB

[health]
failures_max = 0 #! health.failures_max: must be from 1 to 1000, is 0
failure_percent_max = 0.5 #! health.failure_percent_max: expected a whole number, found a number with a fraction
ejection_percent_max = 101 #! health.ejection_percent_max: must be from 0 to 100, is 101
backoff_max = "1s" #! health.backoff_max: `backoff_min` (2s) must not be longer than `backoff_max` (1s)
refused_backoff_min = "1w" #! health.refused_backoff_min: expected a duration
trial_max = 2 #! health.trial_max: unknown key

[log]
output = "sdtout" #! log.output: expected "stdout", "stderr" or the path of a file
requests = "yes" #! log.requests: expected true or false, found a text

[kernel]
mode = "require" #! kernel.mode: expected "required" or "auto" or "off", found "require"
cgroup = "codex-relay" #! kernel.cgroup: expected an absolute path
bpffs = "" #! kernel.bpffs: expected an absolute path
path = "/" #! kernel.path: unknown key

[[listener]]
address = "127.0.0.1:8443"
http2 = "yes" #! listener[5].http2: expected true or false, found a text
tls = true #! listener[5].tls: expected a table, found true or false

[[listener]]
address = "127.0.0.1:8444"

[listener.tls]
certificates = [
    { certificate_file = "a.pem", key = "a.key" }, #! listener[6].tls.certificates[0].key: unknown key #! listener[6].tls.certificates[0].key_file: this key is required and missing
    "a.pem", #! listener[6].tls.certificates[1]: expected a table, found a text
]
min_version = 1.2 #! listener[6].tls.min_version: expected "1.2" or "1.3", found a number with a fraction
client_certificates = "optional" #! listener[6].tls.client_certificates: without `client_ca_file` there is nothing to verify

[[upstream]]
name = "last"
base_url = "https://api.example"
server_name = "https://api.example" #! upstream[4].server_name: expected a host name without port
websocket = "yes" #! upstream[4].websocket: expected true or false, found a text
"##;

/// What `check-config` says to this text, and its lines without the file's name.
fn check(text: &str) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_codex-relay"))
        .args(["check-config", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let prefix = format!("{}:", file.display());
    let lines = String::from_utf8(output.stderr.clone()).unwrap();
    let lines = lines.lines().filter_map(|line| line.strip_prefix(&prefix));
    let lines = lines.map(str::to_owned).collect();
    (output, lines)
}

/// Line, key and message of `LINE:COLUMN: KEY: MESSAGE`.
fn parts(line: &str) -> Option<(usize, &str, &str)> {
    let (number, rest) = line.split_once(':')?;
    let (_column, rest) = rest.split_once(": ")?;
    let (key, message) = rest.split_once(": ")?;
    Some((number.parse().ok()?, key, message))
}

#[test]
fn all_mistakes_are_found_at_once_each_in_its_line() {
    let mut expected = Vec::new();
    for (index, line) in MISTAKES.lines().enumerate() {
        for mark in line.split("#! ").skip(1) {
            let (key, message) = mark.split_once(':').unwrap();
            expected.push((index + 1, key, message.trim()));
        }
    }
    assert!(expected.len() >= 25, "{}", expected.len());
    let (output, lines) = check(MISTAKES);
    assert_eq!(output.status.code(), Some(78));
    let mut found: Vec<_> = lines.iter().filter_map(|line| parts(line)).collect();
    for (line, key, message) in expected {
        let position = found
            .iter()
            .position(|(found_line, found_key, found_message)| {
                *found_line == line && *found_key == key && found_message.contains(message)
            });
        match position {
            Some(position) => drop(found.remove(position)),
            None => panic!("line {line}, {key}: {message} is not in {found:#?}"),
        }
    }
    assert!(found.is_empty(), "not expected: {found:#?}");
}

#[test]
fn suggestions_name_what_was_probably_meant() {
    let (output, _) = check(MISTAKES);
    let text = String::from_utf8(output.stderr).unwrap();
    for hint in [
        "workers",
        "admin",
        "bearer",
        "openai",
        "concurrent_requests",
        "response",
        "required",
        "drain",
        "requests_per_day",
        "tokens_per_day",
        "best_effort",
        "Europe/Berlin",
    ] {
        assert!(
            text.contains(&format!("hint: did you mean `{hint}`?")),
            "{hint}: {text}"
        );
    }
}

#[test]
fn several_errors_of_syntax_are_found_and_what_stands_above_them_is_checked() {
    let text =
        "[node]\nnam = \"a\"\nregion = \n[admin]\naddress = 127.0.0.1\n[log]\noutput = \"x\n";
    let (output, lines) = check(text);
    assert_eq!(output.status.code(), Some(78));
    let numbers = lines.iter().filter_map(|line| line.split_once(':'));
    let numbers: Vec<_> = numbers
        .filter_map(|(line, _)| line.parse::<usize>().ok())
        .collect();
    assert_eq!(numbers, [2, 3, 5, 7], "{lines:#?}");
    assert!(lines[0].contains("node.nam: unknown key"), "{lines:#?}");
}

#[test]
fn what_follows_from_another_mistake_is_not_reported() {
    let text = r#"
[[listener]]
address = "127.0.0.1:0"
[upstream]
name = "openai"
base_url = "http://api.example"
[[account]]
name = "one"
upstream = "openai"
credential = { env = "PATH" }
egress = ["127.0.0.1"]
[[tenant]]
name = "team"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }]
upstreams = ["openai"]
"#;
    let (_, lines) = check(text);
    let found: Vec<_> = lines.iter().filter_map(|line| parts(line)).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].0, found[0].1), (4, "upstream"));
}

#[test]
fn an_upstream_without_an_account_is_found() {
    let text = r#"
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
name = "openai"
base_url = "http://api.example"
[[upstream]]
name = "lonely"
base_url = "http://api.example"
[[account]]
name = "one"
upstream = "openai"
credential = { env = "PATH" }
egress = ["127.0.0.1"]
"#;
    let (_, lines) = check(text);
    let found: Vec<_> = lines.iter().filter_map(|line| parts(line)).collect();
    assert_eq!(found, [(8, "upstream[1].name", "`lonely` has no account")]);
}

#[test]
fn the_cgroup_of_all_processes_is_not_the_gateways_own() {
    for cgroup in ["/sys/fs/cgroup", "/sys/fs/cgroup/", "/sys/fs/./cgroup"] {
        let (_, lines) = check(&format!(
            "[kernel]\nmode = \"off\"\ncgroup = \"{cgroup}\"\n"
        ));
        let mut found = lines.iter().filter_map(|line| parts(line));
        let found = found.find(|(_, key, _)| *key == "kernel.cgroup");
        let (line, _, message) = found.unwrap_or_else(|| panic!("{cgroup}: {lines:#?}"));
        assert_eq!(line, 3, "{cgroup}");
        assert!(message.contains("every process"), "{cgroup}: {message}");
    }
}

#[test]
fn values_of_credentials_and_keys_are_never_shown() {
    const SECRET: &str = "sk-LeakedSecret12345";
    for line in [
        "credential = \"SECRET\"",
        "credential = [\"SECRET\"]",
        "credential = { env = \"SECRET\" }",
        "credential = { file = \"SECRET\" }",
        "credential = { file = \"\", SECRET = 1 }",
        "credential = { SECRET = 1 }",
        "credential = { env \"SECRET\" }",
        "credential = SECRET",
        "credential = \"SECRET",
        "keys = [\"SECRET\"]",
        "keys = \"SECRET\"",
        "keys = [{ sha256 = \"SECRET\" }]",
        "keys = [{ SECRET = \"\" }]",
        "keys = [{ sha256 = \"\", expires = \"SECRET\" }]",
        "keys = [{ limits = \"SECRET\" }]",
        "keys = [{ limits = { SECRET = 1 } }]",
        "keys = [{ limits = { shadow = [\"SECRET\"] } }]",
        "keys = [{ limits = { budget_per_month = \"SECRET\" } }]",
    ] {
        let line = line.replace("SECRET", SECRET);
        let table = if line.starts_with("keys") {
            "tenant"
        } else {
            "account"
        };
        let (output, lines) = check(&format!("[[{table}]]\n{line}\n"));
        assert_eq!(output.status.code(), Some(78), "{line}");
        assert!(
            lines.iter().any(|found| found.starts_with("2:")),
            "{line}: {lines:#?}"
        );
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            assert!(!text.contains("LeakedSecret"), "{line}: {text}");
        }
    }
    let url = format!("[[upstream]]\nname = \"a\"\nbase_url = \"http://u:{SECRET}@host\"\n");
    let (output, _) = check(&url);
    assert!(!String::from_utf8(output.stderr).unwrap().contains(SECRET));
}
