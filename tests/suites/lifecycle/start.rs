//! Starting, and not starting.

use relay_tests::config::{ACCOUNT_KEY, TENANT_KEY};
use relay_tests::gateway::{Launch, Started};
use relay_tests::{Account, Config, Gateway, Request, Upstream, openai};
use std::os::unix::fs::symlink;

/// sysexits.h
const EX_CONFIG: i32 = 78;

/// Waits for the end and returns the exit code and standard error.
fn ended(mut started: Started) -> (Option<i32>, String) {
    let status = started.wait_exit();
    (status.code(), started.errors().text())
}

/// A configuration that would work but for what a test changes in it.
fn config() -> (Upstream, Config) {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address());
    (upstream, config)
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = r#"
[node]
nmae = "x"
workers = 0

[[listener]]
address = "nonsense"

[[upstream]]
name = "openai"
base_url = "ftp://provider.test"

[[account]]
name = "first"
upstream = "opneai"
credential = { env = "RELAY_TESTS_NOT_SET" }
egress = ["127.0.7.1"]

[timeouts]
event_idle = 5
"#;
    for arguments in [["run"], ["check-config"]] {
        let (code, errors) = ended(Launch::new().with_text(&arguments, text));
        assert_eq!(code, Some(EX_CONFIG), "{errors}");
        // File, line, key; a suggestion where a name is nearly right.
        let expected = [
            ("codex-relay.toml:3", "nmae"),
            ("codex-relay.toml:4", "workers"),
            ("codex-relay.toml:7", "address"),
            ("codex-relay.toml:11", "base_url"),
            ("codex-relay.toml:15", "opneai"),
            ("codex-relay.toml:16", "RELAY_TESTS_NOT_SET"),
            ("codex-relay.toml:20", "event_idle"),
        ];
        for (place, what) in expected {
            let found = errors
                .lines()
                .any(|line| line.contains(place) && line.contains(what));
            assert!(found, "{place}: {what} is not in\n{errors}");
        }
        for suggestion in ["`name`", "`openai`"] {
            assert!(errors.contains(suggestion), "{errors}");
        }
    }
}

#[test]
fn a_file_that_is_not_toml_or_not_there() {
    let (code, errors) = ended(Launch::new().with_text(&["run"], "[node\nname = "));
    assert_eq!(code, Some(EX_CONFIG), "{errors}");
    assert!(errors.contains("codex-relay.toml:1"), "{errors}");
    let (code, errors) = ended(Launch::new().without_file(&["run"]));
    assert_eq!(code, Some(EX_CONFIG), "{errors}");
    assert!(errors.contains("codex-relay.toml"), "{errors}");
}

#[test]
fn relations_between_values() {
    for (section, key, value) in [
        ("timeouts", "event_idle", "\"2h\""),
        ("timeouts", "pool_idle", "\"1h\""),
        ("limits", "retry_body_bytes_max", "\"64MiB\""),
        ("limits", "target_bytes_max", "\"40KiB\""),
    ] {
        let (_upstream, config) = config();
        let (code, errors) = ended(Launch::new().run(&config.set(section, key, value)));
        assert_eq!(code, Some(EX_CONFIG), "{key}: {errors}");
        assert!(errors.contains(key), "{errors}");
    }
}

#[test]
fn two_accounts_with_one_address() {
    let (_upstream, config) = config();
    let config = config.account(Account::new("second", "127.0.7.2").egress("127.0.7.1"));
    let (code, errors) = ended(Launch::new().run(&config));
    assert_eq!(code, Some(EX_CONFIG), "{errors}");
    assert!(errors.contains("127.0.7.1"), "{errors}");
}

#[test]
fn a_credential_that_is_missing() {
    let upstream = Upstream::untouched();
    for (credential, name) in [
        (
            "{ file = \"/nonexistent/provider.key\" }",
            "/nonexistent/provider.key",
        ),
        ("{ env = \"RELAY_TESTS_NOT_SET\" }", "RELAY_TESTS_NOT_SET"),
    ] {
        let account = Account::first().set("credential", credential);
        let config = Config::for_upstream(upstream.address()).account(account);
        let (code, errors) = ended(Launch::new().run(&config));
        assert_eq!(code, Some(EX_CONFIG), "{errors}");
        let lines: Vec<_> = errors.lines().filter(|line| line.contains(name)).collect();
        assert_eq!(lines.len(), 1, "one line that names it: {errors}");
    }
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let (_upstream, config) = config();
    let account = Account::new("second", "127.0.7.2").set("credential", format!("{ACCOUNT_KEY:?}"));
    let (code, errors) = ended(Launch::new().run(&config.account(account)));
    assert_eq!(code, Some(EX_CONFIG), "{errors}");
    assert!(!errors.contains(ACCOUNT_KEY), "{errors}");
}

#[test]
fn a_credential_from_the_environment() {
    let upstream = Upstream::answering(openai::plain());
    let account = Account::first().set("credential", "{ env = \"RELAY_TESTS_KEY\" }");
    let config = Config::for_upstream(upstream.address()).account(account);
    let launch = Launch::new().environment("RELAY_TESTS_KEY", "sk-from-the-environment");
    let gateway = launch.gateway(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let head = upstream.only_request().head;
    assert_eq!(
        head.value("authorization"),
        Some("Bearer sk-from-the-environment")
    );
}

#[test]
fn a_port_that_is_in_use() {
    let (_upstream, config) = config();
    let gateway = Gateway::start(&config);
    for (section, address) in [
        ("[listener]", gateway.address()),
        ("admin", gateway.admin_address()),
    ] {
        let second = config
            .clone()
            .set(section, "address", format!("\"{address}\""));
        let (code, errors) = ended(Launch::new().run(&second));
        assert!(code.is_some_and(|code| code != 0), "{errors}");
        let lines: Vec<_> = errors.lines().collect();
        assert_eq!(lines.len(), 1, "{errors}");
        assert!(lines[0].contains(&address.to_string()), "{errors}");
    }
    // The first one did not suffer.
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn an_address_that_is_not_of_this_host() {
    let (_upstream, config) = config();
    let config = config.set("[listener]", "address", "\"203.0.113.7:0\"");
    let (code, errors) = ended(Launch::new().run(&config));
    assert!(code.is_some_and(|code| code != 0), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("203.0.113.7"), "{errors}");
}

#[test]
fn checking_a_configuration_starts_nothing() {
    let (_upstream, config) = config();
    let gateway = Gateway::start(&config);
    // The ports are taken, so that starting would fail.
    let same = config
        .set(
            "[listener]",
            "address",
            format!("\"{}\"", gateway.address()),
        )
        .set(
            "admin",
            "address",
            format!("\"{}\"", gateway.admin_address()),
        );
    let (code, errors) = ended(Launch::new().check(&same));
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn the_state_directory_is_made() {
    let (_upstream, config) = config();
    let gateway = Gateway::start(&config);
    assert!(gateway.directory().join("state").is_dir());
}

#[test]
fn paths_may_be_relative_to_the_file() {
    let upstream = Upstream::answering(openai::plain());
    let account = Account::first().set("credential", "{ file = \"linked.key\" }");
    let config = Config::for_upstream(upstream.address()).account(account);
    let launch = Launch::new().prepare(|directory| {
        symlink(directory.join("first.key"), directory.join("linked.key"))
            .expect("a symbolic link");
    });
    let gateway = launch.gateway(&config);
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
}

#[test]
fn no_secret_is_in_what_the_process_says_or_shows() {
    let (_upstream, config) = config();
    let gateway = Gateway::start(&config);
    gateway.call(&Request::plain());
    gateway.call(&Request::plain().key("rk-some-other-key"));
    gateway.log().wait_requests(2);
    let said = gateway.log().text() + &gateway.errors().text() + &gateway.command_line();
    for secret in [ACCOUNT_KEY, TENANT_KEY, "rk-some-other-key"] {
        assert!(!said.contains(secret), "{secret}");
    }
    assert!(
        !gateway.may_dump_core(),
        "a core file would hold the credentials"
    );
}
