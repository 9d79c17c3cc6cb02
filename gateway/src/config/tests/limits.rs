//! `limits`, `[[price]]`, `[journal]` and `[usage]`: what tenants may use, what it costs, what is kept of it.

use super::*;
use crate::config::policy::{
    Allowance, CancelledStreams, JournalMode, Limit, LimitSet, Money, TokenPrice,
};

const PRICE: &str = "[[price]]\nmodels = [\"*\"]\ninput = 1\noutput = 2\n";

/// `MINIMAL` with these limits for its tenant, and a price for everything.
fn limits(fragment: &str) -> String {
    let limits = format!("name = \"team\"\nlimits = {{ {fragment} }}\n");
    MINIMAL.replace("name = \"team\"\n", &limits) + PRICE
}

fn warnings(text: &str) -> Vec<(String, String)> {
    let loaded = load_text(text).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = loaded.warnings.into_iter();
    warnings
        .map(|problem| (problem.key, problem.message))
        .collect()
}

fn keys_warned_of(text: &str) -> Vec<String> {
    warnings(text).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let policy = policy(MINIMAL);
    let expected = Allowance {
        burst: 1,
        ..Allowance::default()
    };
    assert_eq!(policy.tenants[0].allowance, expected);
    assert_eq!(policy.key_allowances, [expected]);
    assert_eq!(policy.tenants[0].cancelled_streams, CancelledStreams::Close);
    assert!(!policy.upstreams[0].include_usage);
    assert_eq!(policy.prices, []);
    assert_eq!(policy.journal.mode, JournalMode::BestEffort);
    assert_eq!(
        policy.journal.directory,
        PathBuf::from("/var/lib/codex-relay/journal")
    );
    assert_eq!(
        policy.journal.retention,
        Duration::from_secs(30 * 24 * 3_600)
    );
    assert_eq!(policy.journal.segment_bytes_max, 64 << 20);
    assert_eq!(policy.usage.time_zone.iana_name(), Some("UTC"));
    assert_eq!(policy.usage.report_directory, None);
    assert_eq!(policy.usage.output_tokens_assumed, 1_000);
}

#[test]
fn what_is_written_is_meant() {
    let text = limits(
        "requests_per_second = 2, burst = 3, requests_per_minute = 4, tokens_per_minute = 5, \
         concurrent_requests = 6, requests_per_day = 7, tokens_per_day = 8, requests_per_month = 9, \
         tokens_per_month = 10, budget_per_month = 11.000000001, \
         shadow = [\"requests_per_minute\", \"budget_per_month\"]",
    );
    let text = text.replace(
        "name = \"team\"\n",
        "name = \"team\"\ncancelled_streams = \"drain\"\n",
    );
    let text = text.replace(
        "base_url = \"http://api.example\"\n",
        "base_url = \"http://api.example\"\ninclude_usage = true\n",
    );
    let policy = policy(
        &(text
            + "[node]\nstate_dir = \"/state\"\n[journal]\nmode = \"strict\"\ndirectory = \"audit\"\nretention = \"31d\"\n\
               segment_bytes_max = 1_048_576\n[usage]\ntime_zone = \"Europe/Berlin\"\n\
               report_directory = \"/reports\"\noutput_tokens_assumed = 0\n"),
    );
    let expected = Allowance {
        requests_per_second: Some(2),
        burst: 3,
        requests_per_minute: Some(4),
        tokens_per_minute: Some(5),
        concurrent_requests: Some(6),
        requests_per_day: Some(7),
        tokens_per_day: Some(8),
        requests_per_month: Some(9),
        tokens_per_month: Some(10),
        budget_per_month: Some(Money::from_nano(11_000_000_001)),
        shadow: LimitSet::EMPTY
            .with(Limit::RequestsPerMinute)
            .with(Limit::BudgetPerMonth),
    };
    assert_eq!(policy.tenants[0].allowance, expected);
    assert_eq!(policy.tenants[0].cancelled_streams, CancelledStreams::Drain);
    assert!(policy.upstreams[0].include_usage);
    assert_eq!(policy.journal.mode, JournalMode::Strict);
    assert_eq!(policy.journal.directory, PathBuf::from("/etc/relay/audit"));
    assert_eq!(
        policy.journal.retention,
        Duration::from_secs(31 * 24 * 3_600)
    );
    assert_eq!(policy.journal.segment_bytes_max, 1 << 20);
    assert_eq!(policy.usage.time_zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(
        policy.usage.report_directory,
        Some(PathBuf::from("/reports"))
    );
    assert_eq!(policy.usage.output_tokens_assumed, 0);
}

#[test]
fn a_burst_is_a_second_long_if_nothing_else_is_said() {
    for (fragment, burst) in [
        ("requests_per_second = 7", 7),
        ("requests_per_second = 7, burst = 1", 1),
        ("requests_per_minute = 7", 1),
    ] {
        assert_eq!(
            policy(&limits(fragment)).tenants[0].allowance.burst,
            burst,
            "{fragment}"
        );
    }
}

#[test]
fn keys_have_limits_of_their_own_found_by_their_number() {
    let hash = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let keys = format!(
        "{{ sha256 = \"{}\", limits = {{ requests_per_day = 1 }} }}, {{ sha256 = \"{hash}\" }}, \
         {{ sha256 = \"{}\", limits = {{ requests_per_day = 3 }} }}",
        "1".repeat(64),
        "2".repeat(64),
    );
    let text = MINIMAL.replace(&format!("{{ sha256 = \"{hash}\" }}"), &keys);
    let policy = policy(&text);
    let of = |hash: [u8; 32]| {
        let number = policy.keys[&hash].number;
        policy.key_allowances[number.0 as usize].requests_per_day
    };
    assert_eq!(policy.key_allowances.len(), 3);
    assert_eq!(of([0x11; 32]), Some(1));
    assert_eq!(of(keys::hash(b"abc")), None);
    assert_eq!(of([0x22; 32]), Some(3));
}

#[test]
fn keys_that_logs_could_not_tell_apart_are_refused() {
    let same = format!(
        "{{ sha256 = \"{}{}\" }}, {{ sha256 = \"",
        "ba7816bf",
        "0".repeat(56)
    );
    let text = MINIMAL.replace("{ sha256 = \"", &same);
    let found = errors(&text);
    assert_eq!(keys_of(&found), ["tenant[0].keys[1].sha256"]);
    assert!(
        found.to_string().contains("tenant[0].keys[0].sha256"),
        "{found}"
    );
}

#[test]
fn limits_that_mean_nothing_are_refused() {
    for (fragment, key) in [
        ("burst = 5", "burst"),
        ("shadow = [\"tokens_per_day\"]", "shadow[0]"),
        (
            "tokens_per_day = 1, shadow = [\"tokens_per_day\", \"tokens_per_day\"]",
            "shadow[1]",
        ),
        (
            "requests_per_second = 1, burst = 1, shadow = [\"burst\"]",
            "shadow[0]",
        ),
        ("budget_per_month = 0", "budget_per_month"),
        ("budget_per_month = 0.0000000001", "budget_per_month"),
        ("budget_per_month = 1e3", "budget_per_month"),
        ("budget_per_month = nan", "budget_per_month"),
        ("budget_per_month = 1_000_000_000.5", "budget_per_month"),
    ] {
        let expected = format!("tenant[0].limits.{key}");
        assert_eq!(
            keys_of(&errors(&limits(fragment))),
            [expected.as_str()],
            "{fragment}"
        );
    }
    // What is written but refused is not called missing as well.
    let refused = errors(&limits(
        "requests_per_second = 0, burst = 5, shadow = [\"requests_per_second\"]",
    ));
    assert_eq!(keys_of(&refused), ["tenant[0].limits.requests_per_second"]);
}

#[test]
fn a_budget_needs_prices() {
    let text = limits("budget_per_month = 1");
    assert_eq!(
        policy(&text).tenants[0].allowance.budget_per_month,
        Some(Money::from_nano(1_000_000_000))
    );
    let without = errors(&text.replace(PRICE, ""));
    assert_eq!(keys_of(&without), ["tenant[0].limits.budget_per_month"]);
    // Of the two mistakes only the one that was made is reported.
    let broken = errors(&text.replace("input = 1", "input = true"));
    assert_eq!(keys_of(&broken), ["price[0].input"]);
}

#[test]
fn the_first_price_that_covers_a_model_decides() {
    let policy = policy(&with(
        "[[price]]\nmodels = [\"gpt-5-mini\", \"o4\"]\ninput = 0.25\noutput = 2\n\
         [[price]]\nmodels = [\"gpt-5*\"]\ninput = 1.25\ncached_input = 0.125\noutput = 10.000\n",
    ));
    let prices = |model: &str| {
        let price = policy.price(model)?;
        Some([price.input, price.cached_input, price.output].map(|TokenPrice(pico)| pico))
    };
    assert_eq!(prices("gpt-5-mini"), Some([250_000, 250_000, 2_000_000]));
    assert_eq!(prices("gpt-5-pro"), Some([1_250_000, 125_000, 10_000_000]));
    assert_eq!(prices("claude"), None);
}

#[test]
fn what_will_not_be_as_it_seems_is_a_warning() {
    let day = "tenant[0].limits.requests_per_day";
    for (fragment, expected) in [
        ("requests_per_day = 2, requests_per_month = 1", vec![day]),
        ("requests_per_day = 2, requests_per_month = 2", vec![]),
        (
            "requests_per_day = 2, requests_per_month = 1, shadow = [\"requests_per_month\"]",
            vec![],
        ),
        (
            "tokens_per_minute = 2, tokens_per_month = 1",
            vec!["tenant[0].limits.tokens_per_minute"],
        ),
        ("requests_per_minute = 1, requests_per_second = 1", vec![]),
    ] {
        assert_eq!(keys_warned_of(&limits(fragment)), expected, "{fragment}");
    }
    let shadowed = with(
        "[[price]]\nmodels = [\"gpt-*\"]\ninput = 1\noutput = 1\n\
         [[price]]\nmodels = [\"o4\", \"gpt-5*\"]\ninput = 1\noutput = 1\n",
    );
    let found = warnings(&shadowed);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "price[1].models[1]");
    assert!(found[0].1.contains("price[0] (line"), "{found:?}");
    let unpriced = limits("budget_per_month = 1").replace("models = [\"*\"]", "models = [\"a\"]");
    let unpriced = unpriced.replace(
        "name = \"team\"\n",
        "name = \"team\"\nmodels = [\"a\", \"b\", \"c*\"]\n",
    );
    assert_eq!(keys_warned_of(&unpriced), ["tenant[0].models[1]"]);
}

#[test]
fn quotas_want_a_journal_that_is_long_enough() {
    let month = limits("tokens_per_month = 5");
    let minute = limits("tokens_per_minute = 5");
    let off = "[journal]\nmode = \"off\"\n";
    let short = "[journal]\nretention = \"29d\"\n";
    assert_eq!(keys_warned_of(&format!("{month}{off}")), ["journal.mode"]);
    assert_eq!(
        keys_warned_of(&format!("{month}{short}")),
        ["journal.retention"]
    );
    for fine in [format!("{minute}{off}"), format!("{minute}{short}"), month] {
        assert_eq!(warnings(&fine), [], "{fine}");
    }
}

#[test]
fn directories_that_are_put_away_are_nobody_elses() {
    let set = |key: &str, value: &str| {
        let (table, key) = key.split_once('.').unwrap();
        with(&format!(
            "[node]\nstate_dir = \"/lib\"\n[{table}]\n{key} = \"{value}\"\n"
        ))
    };
    for key in ["journal.directory", "usage.report_directory"] {
        for taken in ["/lib/state", "/lib//state/journal", "/lib/./state/"] {
            assert_eq!(keys_of(&errors(&set(key, taken))), [key], "{taken}");
        }
        for free in ["/lib/states", "/lib/journal", "state", "/"] {
            assert!(load_text(&set(key, free)).is_ok(), "{key} {free}");
        }
    }
}

#[test]
fn time_zones_have_names() {
    for zone in ["UTC", "Etc/GMT+3", "America/Argentina/Buenos_Aires"] {
        let policy = policy(&with(&format!("[usage]\ntime_zone = \"{zone}\"\n")));
        assert_eq!(policy.usage.time_zone.iana_name(), Some(zone));
    }
    for zone in ["", "+01:00", "Etc/Unknown", "CET-1CEST", "../etc/passwd"] {
        let text = with(&format!("[usage]\ntime_zone = \"{zone}\"\n"));
        assert_eq!(keys_of(&errors(&text)), ["usage.time_zone"], "{zone}");
    }
    let found = errors(&with("[usage]\ntime_zone = \"Europe/Berln\"\n")).to_string();
    assert!(found.contains("did you mean `Europe/Berlin`?"), "{found}");
}

#[test]
fn reports_that_will_lack_something_are_a_warning() {
    let reports = "[usage]\nreport_directory = \"/var/lib/reports\"\n";
    for (journal, warned) in [
        ("mode = \"off\"", true),
        ("retention = \"26h\"", true),
        ("retention = \"27h\"", false),
        ("mode = \"strict\"", false),
    ] {
        let journal = format!("[journal]\n{journal}\n");
        assert_eq!(keys_warned_of(&with(&journal)), [""; 0], "{journal}");
        let expected: &[_] = if warned {
            &["usage.report_directory"]
        } else {
            &[]
        };
        assert_eq!(keys_warned_of(&with(&(journal + reports))), expected);
    }
}
