//! `[health]`, `[upstream.probe]`, and what else says how accounts stay well.

use super::*;
use crate::config::policy::Probe;
use crate::health::Rules;

/// `MINIMAL` with more keys for its account.
fn account(more: &str) -> String {
    MINIMAL.replace("name = \"one\"\n", &format!("name = \"one\"\n{more}\n"))
}

/// `MINIMAL` with more keys for its tenant.
fn tenant(more: &str) -> String {
    MINIMAL.replace("name = \"team\"\n", &format!("name = \"team\"\n{more}\n"))
}

fn warnings(text: &str) -> Vec<Problem> {
    load_text(text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .warnings
}

#[test]
fn what_is_left_out_has_its_default() {
    let policy = policy(MINIMAL);
    let expected = Rules {
        failures_max: 3,
        failure_rate_max: 0.5,
        failure_rate_requests_min: 20,
        failure_window: Duration::from_secs(30),
        backoff_min: Duration::from_secs(2),
        backoff_max: Duration::from_secs(300),
        refused_backoff_min: Duration::from_secs(600),
        refused_backoff_max: Duration::from_secs(6 * 3_600),
        stated_block_max: Duration::from_secs(31 * 86_400),
        trials_max: 2,
        trial_successes: 2,
        slow_start: Duration::from_secs(30),
        ejection_max: 0.5,
    };
    assert_eq!(policy.health, expected);
    assert!(policy.upstreams[0].affinity);
    assert_eq!(policy.upstreams[0].probe, None);
    assert!(policy.accounts[0].enabled);
    assert_eq!(policy.tenants[0].region, None);
}

#[test]
fn what_is_written_is_meant() {
    let text = with(
        "affinity = false\n[upstream.probe]\npath = \"/v1/models?limit=1\"\ninterval = \"5m\"\n\
         timeout = \"1s\"\nper_second_max = 1\n\
         [health]\nfailures_max = 10\nfailure_percent_max = 100\nfailure_rate_requests_min = 5\n\
         failure_window = \"10s\"\nbackoff_min = \"100ms\"\nbackoff_max = \"100ms\"\n\
         refused_backoff_min = \"1s\"\nrefused_backoff_max = \"2s\"\nstated_block_max = \"1h\"\n\
         trials_max = 1\ntrial_successes = 3\nslow_start = \"0s\"\nejection_percent_max = 0\n",
    );
    let text = text.replace(
        "name = \"one\"\n",
        "name = \"one\"\nenabled = false\nregion = \"eu\"\n",
    );
    let text = text.replace("name = \"team\"\n", "name = \"team\"\nregion = \"eu\"\n");
    let policy = policy(&text);
    let expected = Rules {
        failures_max: 10,
        failure_rate_max: 1.0,
        failure_rate_requests_min: 5,
        failure_window: Duration::from_secs(10),
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_millis(100),
        refused_backoff_min: Duration::from_secs(1),
        refused_backoff_max: Duration::from_secs(2),
        stated_block_max: Duration::from_secs(3_600),
        trials_max: 1,
        trial_successes: 3,
        slow_start: Duration::ZERO,
        ejection_max: 0.0,
    };
    assert_eq!(policy.health, expected);
    let probe = Probe {
        path: "/v1/models?limit=1".to_owned(),
        interval: Duration::from_secs(300),
        timeout: Duration::from_secs(1),
        per_second_max: 1,
    };
    assert!(!policy.upstreams[0].affinity);
    assert_eq!(policy.upstreams[0].probe, Some(probe));
    assert!(!policy.accounts[0].enabled);
    assert_eq!(policy.tenants[0].region.as_deref(), Some("eu"));
}

#[test]
fn an_empty_table_switches_probes_on() {
    let expected = Probe {
        path: "/v1/models".to_owned(),
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        per_second_max: 5,
    };
    for table in ["[upstream.probe]\n", "probe = {}\n"] {
        assert_eq!(
            policy(&with(table)).upstreams[0].probe,
            Some(expected.clone())
        );
    }
}

#[test]
fn a_probe_asks_for_a_path_and_nothing_else() {
    for path in [
        "",
        "v1",
        "http://host/",
        "/a b",
        "/a#b",
        "/\\u0007",
        "/ä",
        "/<>",
    ] {
        let text = with(&format!("[upstream.probe]\npath = \"{path}\"\n"));
        assert_eq!(
            keys_of(&errors(&text)),
            ["upstream[0].probe.path"],
            "{path}"
        );
    }
}

#[test]
fn defaults_yield_to_what_is_written() {
    let text = with("[timeouts]\nfirst_event = \"1s\"\n[limits]\nqueue_max = 10\n");
    let policy = policy(&text);
    assert_eq!(policy.timeouts.commit, Duration::from_secs(1));
    assert_eq!(policy.limits.queue_per_tenant_max, 10);
    let off = super::policy(&with(
        "[timeouts]\nqueue = \"0s\"\ncommit = \"0s\"\n[limits]\nqueue_max = 0\nretry_budget_percent = 0\n\
         retry_budget_per_second_min = 0\nstored_responses_max = 1024\n",
    ));
    assert_eq!(
        [off.timeouts.queue, off.timeouts.commit],
        [Duration::ZERO; 2]
    );
    assert_eq!(
        [off.limits.queue_max, off.limits.queue_per_tenant_max],
        [0; 2]
    );
    assert_eq!(off.limits.retry_budget_percent, 0);
    assert_eq!(off.limits.retry_budget_per_second_min, 0);
    assert_eq!(off.limits.stored_responses_max, 1024);
}

#[test]
fn the_nearest_powers_of_two_are_named() {
    let found = errors(&with("[limits]\nstored_responses_max = 100_000\n"));
    assert!(found.to_string().contains("65536 and 131072"), "{found}");
}

#[test]
fn what_will_not_be_as_it_seems_is_a_warning() {
    let two = "egress = [\"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\"]";
    let slow = MINIMAL.replace("egress = [\"127.0.0.2\"]", two);
    for (text, key, message) in [
        (
            account("enabled = false"),
            "upstream[0].name",
            "every account of `openai` has `enabled = false`",
        ),
        (
            tenant("region = \"defualt\""),
            "tenant[0].region",
            "no account is in the region `defualt`",
        ),
        (
            slow + "[upstream.probe]\ninterval = \"2s\"\ntimeout = \"1s\"\nper_second_max = 1\n",
            "upstream[0].probe",
            "3 addresses take 3s at 1 probes a second",
        ),
    ] {
        let warnings = warnings(&text);
        let [one] = &warnings[..] else {
            panic!("{warnings:?}")
        };
        assert_eq!(one.key, key, "{text}");
        assert!(one.message.starts_with(message), "{one}");
    }
    for text in [tenant("region = \"default\""), with("[upstream.probe]\n")] {
        assert_eq!(warnings(&text), [], "{text}");
    }
}

#[test]
fn every_relation_is_asserted() {
    for (knobs, key) in [
        ("[health]\nbackoff_min = \"301s\"", "health.backoff_min"),
        ("[health]\nbackoff_max = \"1999ms\"", "health.backoff_max"),
        (
            "[health]\nrefused_backoff_min = \"7h\"",
            "health.refused_backoff_min",
        ),
        (
            "[health]\nrefused_backoff_max = \"9m\"",
            "health.refused_backoff_max",
        ),
        (
            "[upstream.probe]\ntimeout = \"31s\"",
            "upstream[0].probe.timeout",
        ),
        (
            "[upstream.probe]\ninterval = \"1s\"",
            "upstream[0].probe.interval",
        ),
        (
            "[limits]\ntarget_bytes_max = \"33KiB\"",
            "limits.target_bytes_max",
        ),
        (
            "[limits]\nhead_bytes_max = \"2KiB\"",
            "limits.head_bytes_max",
        ),
        (
            "[limits]\nretry_body_bytes_max = \"33MiB\"",
            "limits.retry_body_bytes_max",
        ),
        (
            "[limits]\nheld_body_bytes_max = \"1MiB\"\nretry_body_bytes_max = \"2MiB\"",
            "limits.retry_body_bytes_max",
        ),
        (
            "[limits]\nbody_bytes_max = \"129MiB\"",
            "limits.body_bytes_max",
        ),
    ] {
        assert_eq!(keys_of(&errors(&with(knobs))), [key], "{knobs}");
    }
}
