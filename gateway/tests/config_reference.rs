//! `config/` holds what the code holds: every knob stands in the reference, each at its default.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config")
        .join(name)
}

fn reference() -> String {
    fs::read_to_string(config("codex-relay.toml")).unwrap()
}

/// The reference with everything in force that is commented out. A line of TOML in a comment begins
/// with `key = ` or is a table header; prose does not.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let Some(inner) = line.strip_prefix("# ") else {
            return line.to_owned();
        };
        let key = inner.split(" = ").next().unwrap();
        let plain = |text: &str, more: &str| {
            let allowed = |c: char| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || more.contains(c)
            };
            !text.is_empty() && text.chars().all(allowed)
        };
        let is_toml = if inner.starts_with('[') {
            plain(inner, "[].")
        } else {
            key != inner && plain(key, "")
        };
        if is_toml {
            inner.to_owned()
        } else {
            line.to_owned()
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Every knob of the schema with its default, by path (`account[].weight`).
fn knobs(root: &Value, schema: &Value, path: &str, found: &mut BTreeMap<String, Option<Value>>) {
    let target = resolve(root, schema);
    let items = resolve(root, &target["items"]);
    if let Some(properties) = target["properties"].as_object() {
        for (name, property) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            knobs(root, property, &format!("{path}{dot}{name}"), found);
        }
    } else if items["properties"].is_object() {
        knobs(root, items, &format!("{path}[]"), found);
    } else {
        let any = target["type"] == "object";
        let default = schema.get("default").or(target.get("default")).cloned();
        found.insert(
            path.to_owned(),
            default.or(any.then(|| Value::Object(Default::default()))),
        );
    }
}

/// Every value of the file, by the same paths; several where lists of tables have several entries.
fn values(
    value: &toml::Value,
    path: &str,
    known: &BTreeMap<String, Option<Value>>,
    found: &mut BTreeMap<String, Vec<Value>>,
) {
    match value {
        _ if known.contains_key(path) => {
            let value = serde_json::to_value(value).unwrap();
            found.entry(path.to_owned()).or_default().push(value);
        }
        toml::Value::Table(table) => {
            for (name, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                values(value, &format!("{path}{dot}{name}"), known, found);
            }
        }
        toml::Value::Array(entries) => {
            for entry in entries {
                values(entry, &format!("{path}[]"), known, found);
            }
        }
        _ => panic!("{path} is not in the schema"),
    }
}

fn schema_and_file(
    text: &str,
) -> (
    BTreeMap<String, Option<Value>>,
    BTreeMap<String, Vec<Value>>,
) {
    let schema = codex_relay::config::schema();
    let mut known = BTreeMap::new();
    knobs(&schema, &schema, "", &mut known);
    let mut found = BTreeMap::new();
    values(
        &toml::Value::Table(text.parse().unwrap()),
        "",
        &known,
        &mut found,
    );
    (known, found)
}

#[test]
fn every_knob_stands_in_the_reference() {
    let (known, found) = schema_and_file(&uncommented(&reference()));
    let missing: Vec<_> = known
        .keys()
        .filter(|path| !found.contains_key(*path))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // The schema is not empty, and the paths are what they seem.
    for path in [
        "timeouts.drain",
        "account[].credential.env",
        "tenant[].keys[].expires",
    ] {
        assert!(known.contains_key(path), "{path}");
    }
    assert!(known.len() > 60, "{}", known.len());
}

#[test]
fn every_knob_that_has_a_default_stands_there_at_its_default() {
    for text in [reference(), uncommented(&reference())] {
        let (known, found) = schema_and_file(&text);
        for (path, values) in &found {
            let Some(default) = &known[path] else {
                continue;
            };
            for value in values {
                assert_eq!(value, default, "{path}");
            }
        }
    }
}

#[test]
fn what_has_no_default_is_commented_out() {
    let (known, found) = schema_and_file(&reference());
    let without: Vec<_> = found.keys().filter(|path| known[*path].is_none()).collect();
    // A listener is required, and this one does no harm.
    assert_eq!(without, ["listener[].address"]);
}

#[test]
fn every_default_outside_of_lists_is_in_force() {
    let (known, found) = schema_and_file(&reference());
    let commented: Vec<_> = known
        .iter()
        .filter(|(path, default)| default.is_some() && !path.contains("[]"))
        .filter(|(path, _)| !found.contains_key(*path))
        .collect();
    assert!(commented.is_empty(), "{commented:?}");
}

/// A certificate that signs itself, under every name that the reference and the examples have for one.
fn write_certificates(directory: &Path) {
    let names = vec!["relay.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    for name in ["relay", "partners", "clients-ca", "provider-ca", "own-ca"] {
        let at = |end: &str| directory.join(format!("{name}.{end}"));
        fs::write(at("pem"), made.cert.pem()).unwrap();
        fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// This configuration as a file, with everything that it names in the same directory.
fn moved(text: &str, directory: &Path) -> PathBuf {
    let file = directory.join("relay.toml");
    let text = text.replace("/etc/codex-relay", directory.to_str().unwrap());
    fs::write(&file, text).unwrap();
    file
}

fn check(file: &Path, environment: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codex-relay"));
    for name in environment {
        command.env(name, format!("test-{name}"));
    }
    let output = command
        .args(["check-config", "-c"])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    (output, text)
}

#[test]
fn the_reference_lacks_only_what_the_operator_must_add() {
    let (output, text) = check(&config("codex-relay.toml"), &[]);
    assert_eq!(output.status.code(), Some(78));
    let name = config("codex-relay.toml").display().to_string();
    let expected = format!(
        "{name}:1:1: upstream: at least one `[[upstream]]` is required\n\
         {name}:1:1: account: at least one `[[account]]` is required\n\
         {name}: 2 errors\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn the_examples_in_the_reference_are_meant_as_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("openai-2.key");
    fs::write(&key, "test-key\n").unwrap();
    write_certificates(directory.path());
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = moved(&uncommented(&reference()), directory.path());
    let (_, text) = check(&file, &["OPENAI_API_KEY"]);
    let fine = "configuration is fine: 1 listener, 1 upstream, 2 accounts, 2 tenants\n";
    assert!(text.ends_with(fine), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

#[test]
fn the_examples_are_fine() {
    for (name, environment, parts) in [
        (
            "minimal.toml",
            &["OPENAI_API_KEY"][..],
            "1 listener, 1 upstream, 1 account, 1 tenant",
        ),
        (
            "accounts-and-tenants.toml",
            &["OPENAI_EU_KEY", "OPENAI_US_KEY", "ANTHROPIC_KEY"],
            "2 listeners, 2 upstreams, 3 accounts, 2 tenants",
        ),
        (
            "tls.toml",
            &["OPENAI_API_KEY", "OWN_MODELS_KEY"],
            "3 listeners, 2 upstreams, 2 accounts, 1 tenant",
        ),
    ] {
        let text = fs::read_to_string(config("examples").join(name)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write_certificates(directory.path());
        let file = moved(&text, directory.path());
        let (output, text) = check(&file, environment);
        let expected = format!("{}: configuration is fine: {parts}\n", file.display());
        assert_eq!((output.status.code(), text), (Some(0), expected));
        let (output, text) = check(&file, &[]);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert_eq!(
            text.matches("is not set").count(),
            environment.len(),
            "{text}"
        );
    }
    let examples = fs::read_dir(config("examples")).unwrap().count();
    assert_eq!(examples, 3, "every example is checked here");
}

#[test]
fn the_unit_of_systemd_fits_the_defaults() {
    let unit = fs::read_to_string(config("systemd/codex-relay.service")).unwrap();
    let of_key = |key: &str| -> Vec<&str> {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        let of_key = lines.filter(|(name, _)| *name == key);
        of_key.map(|(_, value)| value).collect()
    };
    let (known, _) = schema_and_file(&reference());
    let default = |path: &str| known[path].as_ref().unwrap().as_str().unwrap().to_owned();
    let state = format!("/var/lib/{}", of_key("StateDirectory")[0]);
    assert_eq!(state, default("node.state_dir"));
    let pins = format!(" {}", default("kernel.bpffs"));
    let made = of_key("ExecStartPre")
        .iter()
        .any(|line| line.ends_with(&pins));
    assert!(made, "{unit}");
    // Both in minutes.
    let drain = default("timeouts.drain");
    let drain: u32 = drain.strip_suffix('m').unwrap().parse().unwrap();
    let stop = of_key("TimeoutStopSec")[0].strip_suffix("min").unwrap();
    assert!(stop.parse::<u32>().unwrap() > drain, "{unit}");
}
