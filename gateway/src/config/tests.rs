//! What a file means, from its text to the policy.

mod headers;
mod health;
mod kernel;
mod limits;
mod tls;

use super::policy::{AccountId, CredentialStyle, LogOutput, ModelPattern, TenantId, UpstreamId};
use super::*;
use crate::keys;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn environment(name: &str) -> Option<OsString> {
    match name {
        "ONE" => Some("sk-one".into()),
        "TWO" => Some("sk-two\n".into()),
        _ => None,
    }
}

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    parse(text, Path::new("/etc/relay/relay.toml"), &environment)
}

fn policy(text: &str) -> Policy {
    load_text(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

fn keys_of(errors: &ConfigErrors) -> Vec<&str> {
    errors
        .problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect()
}

fn errors(text: &str) -> ConfigErrors {
    load_text(text)
        .err()
        .unwrap_or_else(|| panic!("accepted: {text}"))
}

const MINIMAL: &str = r#"
[[listener]]
address = "127.0.0.1:8080"

[[account]]
name = "one"
upstream = "openai"
credential = { env = "ONE" }
egress = ["127.0.0.2"]

[[tenant]]
name = "team"
keys = [{ sha256 = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }]
upstreams = ["openai"]

[[upstream]]
name = "openai"
base_url = "http://api.example"
"#;

/// `MINIMAL`, which ends in its upstream, and more.
fn with(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let Loaded { policy, warnings } =
        load_text(MINIMAL).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(warnings, []);
    assert_eq!(policy.node.region, "default");
    assert_eq!(policy.node.state_dir, PathBuf::from("/var/lib/codex-relay"));
    assert!((1..=256).contains(&policy.node.workers));
    assert!(!policy.node.name.is_empty());
    assert_eq!(policy.admin, "127.0.0.1:9901".parse().unwrap());
    let account = &policy.accounts[0];
    assert_eq!((account.max_concurrent, account.weight), (64, 1));
    assert_eq!(account.max_connections, None);
    assert_eq!(account.region, "default");
    assert_eq!(policy.tenants[0].models, []);
    assert_eq!(policy.tenants[0].allowance.concurrent_requests, None);
    assert_eq!(policy.tenants[0].connections, None);
    assert_eq!(policy.tenants[0].sources, []);
    assert_eq!(policy.log.output, LogOutput::Stdout);
    assert!(policy.log.requests);

    let t = policy.timeouts;
    for (name, timeout, seconds) in [
        ("request_head", t.request_head, 10),
        ("request_body_idle", t.request_body_idle, 15),
        ("request_body_total", t.request_body_total, 300),
        ("keep_alive_idle", t.keep_alive_idle, 60),
        ("write_stall", t.write_stall, 30),
        ("drain", t.drain, 300),
        ("upstream_connect", t.upstream_connect, 3),
        ("response_head", t.response_head, 60),
        ("first_event", t.first_event, 180),
        ("event_idle", t.event_idle, 120),
        ("answer_total", t.answer_total, 600),
        ("stream_total", t.stream_total, 3_600),
        ("pool_idle", t.pool_idle, 55),
        ("pool_age", t.pool_age, 600),
        ("heartbeat", t.heartbeat, 15),
        ("retry", t.retry, 90),
        ("queue", t.queue, 10),
        ("commit", t.commit, 5),
        ("tls_handshake", t.tls_handshake, 10),
        ("upstream_tls", t.upstream_tls, 5),
        ("websocket_idle", t.websocket_idle, 300),
        ("websocket_total", t.websocket_total, 3_600),
    ] {
        assert_eq!(timeout, Duration::from_secs(seconds), "{name}");
    }
    let l = policy.limits;
    for (name, limit, expected) in [
        ("head_bytes_max", l.head_bytes_max as u64, 32 << 10),
        ("head_fields_max", l.head_fields_max as u64, 100),
        ("target_bytes_max", l.target_bytes_max as u64, 4 << 10),
        ("body_bytes_max", l.body_bytes_max, 32 << 20),
        (
            "retry_body_bytes_max",
            l.retry_body_bytes_max as u64,
            1 << 20,
        ),
        (
            "decoded_body_bytes_max",
            l.decoded_body_bytes_max,
            128 << 20,
        ),
        (
            "held_body_bytes_max",
            l.held_body_bytes_max as u64,
            256 << 20,
        ),
        ("event_bytes_max", l.event_bytes_max, 1 << 20),
        ("json_depth_max", l.json_depth_max as u64, 64),
        ("attempts_max", l.attempts_max.into(), 3),
        ("pool_idle_max", l.pool_idle_max as u64, 64),
        ("retry_budget_percent", l.retry_budget_percent.into(), 10),
        (
            "retry_budget_per_second_min",
            l.retry_budget_per_second_min.into(),
            10,
        ),
        ("queue_max", l.queue_max as u64, 1_000),
        ("queue_per_tenant_max", l.queue_per_tenant_max as u64, 100),
        (
            "stored_responses_max",
            l.stored_responses_max as u64,
            65_536,
        ),
        ("tls_handshakes_max", l.tls_handshakes_max as u64, 512),
        ("http2_streams_max", l.http2_streams_max.into(), 100),
        (
            "http2_stream_window_bytes",
            l.http2_stream_window_bytes.into(),
            64 << 10,
        ),
        (
            "http2_connection_window_bytes",
            l.http2_connection_window_bytes.into(),
            1 << 20,
        ),
        (
            "upstream_http2_streams_max",
            l.upstream_http2_streams_max.into(),
            32,
        ),
        (
            "websockets_per_tenant_max",
            l.websockets_per_tenant_max.into(),
            100,
        ),
        (
            "websocket_message_bytes_max",
            l.websocket_message_bytes_max,
            16 << 20,
        ),
    ] {
        assert_eq!(limit, expected, "{name}");
    }
    assert_eq!(l.retry_pause, Duration::from_millis(100));
    assert_eq!(l.connections_per_worker_max, None);
    assert_eq!(l.connections_per_source, Some(256));
}

#[test]
fn names_become_ids_and_ids_lead_both_ways() {
    let policy = policy(&with(
        r#"
[[upstream]]
name = "anthropic"
base_url = "http://[::1]:81/api/"
credential_style = "x-api-key"
[[account]]
name = "two"
upstream = "anthropic"
credential = { env = "TWO" }
egress = ["::1", "127.0.0.3"]
[[account]]
name = "three"
upstream = "openai"
credential = { env = "ONE" }
egress = ["127.0.0.4"]
[[tenant]]
name = "other"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111", expires = 1970-01-01T00:00:10+00:00 }]
upstreams = ["anthropic", "openai"]
models = ["gpt-*", "claude-*"]
limits = { concurrent_requests = 7 }
"#,
    ));
    let upstream = &policy.upstreams[1];
    assert_eq!(upstream.host, "::1");
    assert_eq!(
        (upstream.port, upstream.authority.as_str()),
        (81, "[::1]:81")
    );
    assert_eq!(upstream.path_prefix, "/api");
    assert_eq!(upstream.credential_style, CredentialStyle::XApiKey);
    assert_eq!(upstream.accounts, [AccountId(1)]);
    assert_eq!(policy.upstreams[0].accounts, [AccountId(0), AccountId(2)]);
    assert_eq!(policy.accounts[1].upstream, UpstreamId(1));
    assert_eq!(policy.accounts[1].credential.expose(), b"sk-two");
    assert_eq!(policy.accounts[1].egress.len(), 2);
    let tenant = &policy.tenants[1];
    assert_eq!(tenant.upstreams, [UpstreamId(1), UpstreamId(0)]);
    assert_eq!(tenant.models[0], ModelPattern("gpt-*".to_owned()));
    assert_eq!(tenant.allowance.concurrent_requests, Some(7));
    let key = &policy.keys[&[0x11; 32]];
    assert_eq!((key.tenant, key.id.as_str()), (TenantId(1), "11111111"));
    assert_eq!(
        key.expires,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(10))
    );
    assert_eq!(policy.keys[&keys::hash(b"abc")].tenant, TenantId(0));
}

#[test]
fn knobs_are_read_in_all_their_forms() {
    let policy = policy(&with(
        r#"
[node]
name = "n1"
state_dir = "state"
workers = 3
[timeouts]
drain = "0s"
heartbeat = "0s"
write_stall = "250ms"
[limits]
body_bytes_max = 2_097_152
head_bytes_max = "8KiB"
connections_per_worker_max = 100
retry_body_bytes_max = "0KiB"
[log]
output = "./relay.log"
requests = false
"#,
    ));
    assert_eq!((policy.node.name.as_str(), policy.node.workers), ("n1", 3));
    assert_eq!(policy.node.state_dir, PathBuf::from("/etc/relay/state"));
    assert_eq!(policy.timeouts.drain, Duration::ZERO);
    assert_eq!(policy.timeouts.heartbeat, Duration::ZERO);
    assert_eq!(policy.timeouts.write_stall, Duration::from_millis(250));
    assert_eq!(policy.limits.body_bytes_max, 2 << 20);
    assert_eq!(policy.limits.head_bytes_max, 8 << 10);
    assert_eq!(policy.limits.connections_per_worker_max, Some(100));
    assert_eq!(policy.limits.retry_body_bytes_max, 0);
    assert_eq!(
        policy.log.output,
        LogOutput::File("/etc/relay/./relay.log".into())
    );
    assert!(!policy.log.requests);
}

#[test]
fn every_relation_between_knobs_is_asserted() {
    for (knobs, key) in [
        (
            "[timeouts]\nrequest_body_idle = \"6m\"",
            "timeouts.request_body_idle",
        ),
        (
            "[timeouts]\nrequest_body_total = \"10s\"",
            "timeouts.request_body_total",
        ),
        (
            "[timeouts]\nupstream_connect = \"1m\"\nresponse_head = \"1s\"\nanswer_total = \"2s\"",
            "timeouts.upstream_connect",
        ),
        (
            "[timeouts]\nresponse_head = \"11m\"",
            "timeouts.response_head",
        ),
        (
            "[timeouts]\nfirst_event = \"30m\"\nstream_total = \"20m\"",
            "timeouts.first_event",
        ),
        (
            "[timeouts]\nfirst_event = \"1s\"\nresponse_head = \"1s\"\nstream_total = \"60s\"",
            "timeouts.stream_total",
        ),
        ("[timeouts]\npool_age = \"10s\"", "timeouts.pool_age"),
        ("[timeouts]\nheartbeat = \"2m\"", "timeouts.heartbeat"),
        ("[timeouts]\nheartbeat = \"99ms\"", "timeouts.heartbeat"),
        ("[timeouts]\nevent_idle = \"15s\"", "timeouts.event_idle"),
        (
            "[timeouts]\nfirst_event = \"4s\"\ncommit = \"5s\"",
            "timeouts.commit",
        ),
        ("[timeouts]\nretry = \"3s\"", "timeouts.retry"),
        (
            "[timeouts]\nretry = \"1s\"\nupstream_connect = \"2s\"",
            "timeouts.upstream_connect",
        ),
        (
            "[limits]\nqueue_per_tenant_max = 1001",
            "limits.queue_per_tenant_max",
        ),
        (
            "[limits]\nqueue_max = 0\nqueue_per_tenant_max = 1",
            "limits.queue_per_tenant_max",
        ),
        (
            "[limits]\nstored_responses_max = 65535",
            "limits.stored_responses_max",
        ),
        (
            "[timeouts]\nupstream_tls = \"60s\"\nretry = \"60s\"",
            "timeouts.upstream_tls",
        ),
        (
            "[timeouts]\nwebsocket_idle = \"2h\"",
            "timeouts.websocket_idle",
        ),
        (
            "[limits]\nhttp2_stream_window_bytes = \"2MiB\"",
            "limits.http2_stream_window_bytes",
        ),
        (
            "[limits]\nhttp2_connection_window_bytes = 65535",
            "limits.http2_connection_window_bytes",
        ),
    ] {
        assert_eq!(keys_of(&errors(&with(knobs))), [key], "{knobs}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let warnings = |text: &str| {
        load_text(text)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .warnings
    };
    let admin = warnings(&with("[admin]\naddress = \"0.0.0.0:9901\"\n"));
    assert_eq!(admin[0].key, "admin.address");
    let version = warnings(&MINIMAL.replace("api.example", "api.example/v1"));
    assert_eq!(version[0].key, "upstream[0].base_url");
    let tenants = MINIMAL.split("[[tenant]]").next().unwrap();
    let upstream = "[[upstream]]\nname = \"openai\"\nbase_url = \"http://api.example\"\n";
    let nobody = warnings(&format!("{tenants}{upstream}"));
    assert_eq!(nobody[0].key, "tenant");
    assert_eq!([admin.len(), version.len(), nobody.len()], [1, 1, 1]);
}

#[test]
fn an_expired_key_is_no_error() {
    let text = MINIMAL.replace("15ad\" }", "15ad\", expires = \"2001-01-01T00:00:00Z\" }");
    assert!(policy(&text).keys[&keys::hash(b"abc")].expires < Some(SystemTime::now()));
}

#[test]
fn the_hash_of_nothing_is_no_key() {
    let hash: String = keys::hash(b"")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = MINIMAL.replace(
        "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        &hash,
    );
    assert_eq!(keys_of(&errors(&text)), ["tenant[0].keys[0].sha256"]);
}

#[test]
fn the_schema_and_the_types_agree() {
    // Every format of the schema is one that the check knows; an unknown one would check nothing.
    fn formats(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(object) => {
                let kinds = object
                    .get("type")
                    .map(ToString::to_string)
                    .unwrap_or_default();
                match object.get("format") {
                    Some(serde_json::Value::String(format)) if kinds.contains("string") => {
                        found.push(format.clone());
                    }
                    _ => {}
                }
                object.values().for_each(|value| formats(value, found));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| formats(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    formats(&schema(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for format in found {
        assert!(forms::fault(&format, "\0").is_some(), "{format}");
    }
}

/// Calls `change` for every value in the tree, each time on a fresh copy of the whole.
fn each_value(root: &toml::Value, change: &mut dyn FnMut(toml::Value, &[String])) {
    fn at<'v>(value: &'v mut toml::Value, path: &[String]) -> Option<&'v mut toml::Value> {
        path.iter().try_fold(value, |value, step| match value {
            toml::Value::Table(table) => table.get_mut(step),
            toml::Value::Array(array) => array.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
    fn paths(value: &toml::Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let inner: Vec<(String, &toml::Value)> = match value {
            toml::Value::Table(table) => table
                .iter()
                .map(|(key, value)| (key.clone(), value))
                .collect(),
            toml::Value::Array(array) => array
                .iter()
                .enumerate()
                .map(|(index, value)| (index.to_string(), value))
                .collect(),
            _ => Vec::new(),
        };
        for (step, value) in inner {
            path.push(step);
            found.push(path.clone());
            paths(value, path, found);
            path.pop();
        }
    }
    let odd = "[1, -1, 1.5, 99999999999, \"\", \"x\", \"10s\", \"1KiB\", \"*\", true, [], [[]], {}, {a = 1}, 2030-01-01]";
    let odd: toml::Table = format!("odd = {odd}").parse().unwrap();
    let mut found = Vec::new();
    paths(root, &mut Vec::new(), &mut found);
    for path in found {
        for value in odd["odd"].as_array().unwrap() {
            let mut copy = root.clone();
            *at(&mut copy, &path).unwrap() = value.clone();
            change(copy, &path);
        }
    }
}

#[test]
fn whatever_stands_anywhere_is_read_or_refused_with_its_place() {
    let text = with(
        "[upstream.probe]\npath = \"/\"\nper_second_max = 1\n\
         [[listener]]\naddress = \"127.0.0.1:8443\"\nhttp2 = true\n[listener.tls]\nmin_version = \"1.3\"\n\
         certificates = [{ certificate_file = \"c\", key_file = \"k\" }]\n\
         client_ca_file = \"a\"\nclient_certificates = \"required\"\n\
         [upstream.headers.request]\nallow = [\"a\"]\nremove = [\"b\"]\nset = { c = \"d\" }\n\
         [headers.response]\nallow = [\"a\"]\n[node]\nname = \"n\"\nworkers = 1\n\
         [timeouts]\ndrain = \"1s\"\n[limits]\nhead_bytes_max = 8192\n[log]\nrequests = true\n\
         [kernel]\nmode = \"auto\"\ncgroup = \"/a\"\nbpffs = \"/b\"\n\
         [health]\nfailures_max = 1\nslow_start = \"0s\"\n\
         [journal]\nmode = \"off\"\ndirectory = \"/c\"\n[usage]\ntime_zone = \"UTC\"\n\
         [[price]]\nmodels = [\"*\"]\ninput = 1.5\noutput = 2\n",
    );
    let text = text.replace(
        "name = \"team\"\n",
        "name = \"team\"\nregion = \"r\"\nconnections = 5\nsources = [\"10.0.0.0/8\"]\n\
         limits = { requests_per_second = 5, burst = 5, budget_per_month = 1.5, shadow = [\"budget_per_month\"] }\n",
    );
    let root = toml::Value::Table(text.parse().unwrap());
    let (mut read, mut refused) = (0, 0);
    each_value(&root, &mut |changed, path| {
        let text = toml::to_string(&changed).unwrap();
        match load_text(&text) {
            Ok(_) => read += 1,
            Err(errors) => {
                refused += 1;
                // An error without a key is one that the schema let through to the types.
                assert!(
                    errors.problems.iter().all(|one| !one.key.is_empty()),
                    "{path:?}: {errors}"
                );
                assert!(!errors.problems.is_empty(), "{path:?}");
            }
        }
    });
    assert!(read > 20 && refused > 400, "{read} {refused}");
}
