//! The command line: what is printed where, and the exit codes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codex-relay"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const REST: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
name = "openai"
base_url = "http://api.example"
[[tenant]]
name = "team"
keys = [{ sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }]
upstreams = ["openai"]
[[account]]
name = "one"
upstream = "openai"
egress = ["127.0.0.1"]
"#;

/// Checks a file that is complete but for the account's credential.
fn check_credential(directory: &Path, credential: &str, value: Option<&str>) -> Output {
    let file = directory.join("relay.toml");
    fs::write(&file, format!("{REST}credential = {credential}\n")).unwrap();
    let mut command = relay(&["check-config", "-c", file.to_str().unwrap()]);
    command.env_remove("RELAY_TEST_KEY");
    if let Some(value) = value {
        command.env("RELAY_TEST_KEY", value);
    }
    command.output().unwrap()
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for arguments in [
        &[][..],
        &["serve"],
        &["run"],
        &["check-config"],
        &["-t"],
        &["-c", "relay.toml"],
        &["keys"],
        &["keys", "old"],
        &["demo", "--listen", "here"],
    ] {
        let output = relay(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert_ne!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let output = relay(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_ne!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn the_short_form_checks_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let credential = "{ env = \"RELAY_TEST_KEY\" }";
    let long = check_credential(directory.path(), credential, Some("key"));
    let file = directory.path().join("relay.toml");
    for arguments in [["-t", "-c"], ["-c", "-t"]] {
        let mut command = relay(&[]);
        for argument in arguments {
            command.arg(argument);
            if argument == "-c" {
                command.arg(&file);
            }
        }
        let short = command.env("RELAY_TEST_KEY", "key").output().unwrap();
        assert_eq!(short.status.code(), Some(0));
        assert_eq!(text(&short.stdout), text(&long.stdout));
    }
    let expected = format!(
        "{}: configuration is fine: 1 listener, 1 upstream, 1 account, 1 tenant\n",
        file.display()
    );
    assert_eq!(text(&long.stdout), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let latin = directory.path().join("latin.toml");
    fs::write(&latin, b"[node]\n# M\xfcnchen\n").unwrap();
    let large = directory.path().join("large.toml");
    fs::write(&large, "#\n".repeat(2 << 20) + "#").unwrap();
    for (file, message) in [
        (missing.as_path(), ": there is no such file"),
        (directory.path(), ": this is a directory, not a file"),
        (&latin, ":2:4: the file is not UTF-8"),
        (&large, ": the file is larger than 4194304 bytes"),
    ] {
        for command in ["run", "check-config"] {
            let output = relay(&[command, "-c"]).arg(file).output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{message}");
            let name = file.display();
            assert_eq!(
                text(&output.stderr),
                format!("{name}{message}\n{name}: 1 error\n")
            );
            assert_eq!(text(&output.stdout), "");
        }
    }
}

#[test]
fn credentials_from_the_environment_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let env = "{ env = \"RELAY_TEST_KEY\" }";
    for (value, fault) in [
        (None, "is not set"),
        (Some(""), "is empty"),
        (Some("\n"), "is empty"),
        (Some("two\nlines"), "has more than one line"),
        (Some("two words"), "holds a blank"),
        (
            Some("schlüssel"),
            "holds a blank or a character that is not visible ASCII",
        ),
    ] {
        let output = check_credential(directory.path(), env, value);
        let found = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{value:?}");
        assert!(
            found.contains(&format!("the environment variable RELAY_TEST_KEY {fault}")),
            "{found}"
        );
        assert!(
            found.contains(":15:22: account[0].credential.env: "),
            "{found}"
        );
        if let Some(value) = value.filter(|value| value.len() > 1) {
            assert!(!found.contains(value), "{found}");
        }
    }
    assert_eq!(
        check_credential(directory.path(), env, Some("key\n"))
            .status
            .code(),
        Some(0)
    );
    let odd = check_credential(directory.path(), "{ env = \"sk-secret\" }", None);
    assert!(text(&odd.stderr).contains("this is not the name of an environment variable"));
}

#[test]
fn credentials_from_files_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let file = format!("{{ file = \"{}\" }}", key.display());
    for (content, fault) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("\r\n", "is empty"),
        ("two\nlines\n", "has more than one line"),
        ("key\n\n", "has more than one line"),
        ("tab\t", "holds a blank"),
        (
            "\u{feff}key",
            "holds a blank or a character that is not visible ASCII",
        ),
        (&"k".repeat(20_000), "is too long for a credential"),
    ] {
        fs::write(&key, content).unwrap();
        let output = check_credential(directory.path(), &file, None);
        let found = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{content:?}");
        assert!(
            found.contains(&format!("the file {} {fault}", key.display())),
            "{found}"
        );
    }
    for content in ["key", "key\n", "key\r\n"] {
        fs::write(&key, content).unwrap();
        for name in [file.as_str(), "{ file = \"key\" }"] {
            let output = check_credential(directory.path(), name, None);
            assert_eq!(
                output.status.code(),
                Some(0),
                "{content:?}: {}",
                text(&output.stderr)
            );
        }
    }
    for (path, fault) in [
        (directory.path().join("none"), "does not exist"),
        (directory.path().to_owned(), "is not a regular file"),
        (key.join("below"), "cannot be read: not a directory"),
        ("/dev/null".into(), "is not a regular file"),
    ] {
        let credential = format!("{{ file = \"{}\" }}", path.display());
        let output = check_credential(directory.path(), &credential, None);
        let found = text(&output.stderr);
        assert!(
            found.contains(&format!("the file {} {fault}", path.display())),
            "{found}"
        );
    }
}

#[test]
fn a_credential_file_that_is_open_to_all_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    fs::write(&key, "key\n").unwrap();
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let output = check_credential(directory.path(), "{ file = \"key\" }", None);
        assert_eq!(output.status.code(), Some(0));
        let found = text(&output.stderr);
        assert_eq!(found.contains("warning: "), warned, "{mode:o}: {found}");
        assert_eq!(
            found.contains("everybody on this host may read or change"),
            warned,
            "{mode:o}"
        );
    }
}

#[test]
fn the_schema_is_json() {
    let output = relay(&["schema"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema, codex_relay::config::schema());
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    assert!(
        text(&output.stdout).lines().count() > 100,
        "it is meant to be read as well"
    );
}

fn hash(input: &[u8]) -> Output {
    let mut child = relay(&["keys", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_new_key_is_shown_with_the_entry_that_its_hash_makes() {
    let output = relay(&["keys", "new"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    let [key, entry] = lines[..] else {
        panic!("{lines:?}")
    };
    assert!(key.starts_with("crk_") && key.len() == 52, "{key}");
    assert_eq!(text(&hash(key.as_bytes()).stdout), format!("{entry}\n"));
    assert!(!text(&output.stderr).contains(key));
}

#[test]
fn keys_are_hashed_without_their_newline() {
    let expected =
        "{ sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }\n";
    for input in ["abc", "abc\n", "abc\r\n"] {
        let output = hash(input.as_bytes());
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), expected),
            "{input:?}"
        );
    }
    for input in [
        "",
        "\n",
        "abc\n\n",
        "abc\ndef\n",
        "a b",
        "ä",
        &"k".repeat(20_000),
    ] {
        let output = hash(input.as_bytes());
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(65), ""),
            "{input:?}"
        );
        assert_eq!(text(&output.stderr).lines().count(), 1, "{input:?}");
    }
}
