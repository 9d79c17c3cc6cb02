//! Which fields pass, from the text of the file to the verdict.

use super::*;
use crate::headers::{Rules, Verdict};

fn passes(rules: &Rules, name: &str) -> bool {
    rules.verdict(name.as_bytes()) == Verdict::Pass
}

#[test]
fn by_default_what_a_provider_needs_passes_and_nothing_else() {
    let headers = policy(MINIMAL).headers;
    let (request, response) = (&headers.request[0], &headers.response[0]);
    for name in [
        "originator",
        "User-Agent",
        "session-id",
        "session_id",
        "thread-id",
        "x-client-request-id",
        "x-codex-turn-state",
        "OpenAI-Beta",
        "version",
        "content-type",
        "accept",
        "content-encoding",
        "anthropic-version",
        "anthropic-beta",
    ] {
        assert!(passes(request, name), "{name}");
    }
    for name in [
        "x-forwarded-for",
        "cf-ray",
        "accept-encoding",
        "origin",
        "x-stainless-os",
        "openai-organization",
        "traceparent",
        "x-anything",
    ] {
        assert!(!passes(request, name), "{name}");
    }
    for name in [
        "content-type",
        "x-request-id",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-ratelimit-limit-requests",
        "openai-processing-ms",
        "x-codex-primary-used-percent",
        "content-encoding",
    ] {
        assert!(passes(response, name), "{name}");
    }
    for name in [
        "openai-organization",
        "OpenAI-Project",
        "server",
        "cf-ray",
        "date",
        "alt-svc",
    ] {
        assert!(!passes(response, name), "{name}");
    }
}

#[test]
fn lists_are_replaced_or_added_to() {
    let headers = policy(&with(
        "[headers.request]\nallow_also = [\"X-Trace\"]\nremove = [\"user-agent\"]\n\
         [headers.response]\nallow = [\"content-type\"]\n",
    ))
    .headers;
    assert!(passes(&headers.request[0], "x-trace"));
    assert!(passes(&headers.request[0], "originator"));
    assert!(!passes(&headers.request[0], "user-agent"));
    assert!(passes(&headers.response[0], "content-type"));
    assert!(!passes(&headers.response[0], "x-request-id"));
}

#[test]
fn who_the_client_is_passes_only_by_name() {
    let wide = policy(&with(
        "[headers.request]\nallow = [\"*\"]\nallow_also = [\"x-*\"]\n",
    ))
    .headers;
    for name in [
        "x-forwarded-for",
        "X-Real-IP",
        "forwarded",
        "via",
        "cf-connecting-ip",
        "referer",
    ] {
        assert!(!passes(&wide.request[0], name), "{name}");
    }
    assert!(passes(&wide.request[0], "x-other") && passes(&wide.request[0], "other"));
    let named = "[headers.request]\nallow_also = [\"x-forwarded-for\", \"cf-*\"]\n\
                 [headers.response]\nallow_also = [\"OpenAI-Project\"]\n";
    let named = policy(&with(named)).headers;
    for (name, expected) in [
        ("x-forwarded-for", true),
        ("x-forwarded-host", false),
        ("cf-ray", true),
        ("x-real-ip", false),
    ] {
        assert_eq!(passes(&named.request[0], name), expected, "{name}");
    }
    assert!(passes(&named.response[0], "openai-project"));
    assert!(!passes(&named.response[0], "openai-organization"));
}

#[test]
fn exceptions_are_merged_over_the_rules() {
    let headers = policy(&with(
        r#"
[upstream.headers.request]
allow_also = ["x-a", "x-one"]
remove = ["originator"]
set = { X-Tag = "own" }
[[upstream]]
name = "second"
base_url = "http://second.example"
[upstream.headers.request]
allow = ["accept"]
[[account]]
name = "two"
upstream = "second"
credential = { env = "TWO" }
egress = ["127.0.0.3"]
[headers.request]
allow_also = ["x-tag", "x-both"]
remove = ["x-a", "x-b"]
set = { x-tag = "all", x-other = "all" }
"#,
    ))
    .headers;
    let [first, second] = &headers.request[..] else {
        panic!("two upstreams")
    };
    for (name, expected) in [
        ("x-a", true),
        ("x-one", true),
        ("x-both", true),
        ("x-b", false),
        ("originator", false),
        ("x-tag", false),
        ("accept", true),
    ] {
        assert_eq!(passes(first, name), expected, "{name}");
    }
    let mut set = first.set().to_vec();
    set.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(set, [pair("x-other", "all"), pair("x-tag", "own")]);
    for (name, expected) in [("accept", true), ("x-both", false), ("originator", false)] {
        assert_eq!(passes(second, name), expected, "{name}");
    }
    assert_eq!(second.set().len(), 2);
    assert!(passes(&headers.response[1], "x-request-id"));
}

#[test]
fn fields_that_never_pass_cannot_be_named() {
    for name in [
        "Authorization",
        "x-api-key",
        "cookie*",
        "set-cookie",
        "TE",
        "host",
        "expect",
        "x-relay-*",
    ] {
        for (rules, key) in [
            (
                format!("[headers.request]\nallow = [\"{name}\"]"),
                "headers.request.allow[0]",
            ),
            (
                format!("[headers.response]\nallow_also = [\"{name}\"]"),
                "headers.response.allow_also[0]",
            ),
            (
                format!("[upstream.headers.response]\nallow = [\"{name}\"]"),
                "upstream[0].headers.response.allow[0]",
            ),
        ] {
            assert_eq!(keys_of(&errors(&with(&rules))), [key], "{name}");
        }
    }
    let text = with("[headers.request]\nremove = [\"cookie\", \"x-*\"]\n");
    assert!(
        load_text(&text).is_ok(),
        "to remove what never passes does no harm"
    );
}
