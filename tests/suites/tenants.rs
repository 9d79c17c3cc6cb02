//! Who may call, what they may ask for, and how much of it at a time.

use flate2::Compression;
use flate2::write::GzEncoder;
use relay_tests::config::TENANT_KEY;
use relay_tests::http::response;
use relay_tests::{Account, Config, Gateway, Request, Response, Signal, Tenant, Upstream, openai};
use serde_json::Value;
use std::io::Write;

fn gateway(tenant: Tenant) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()).tenant(tenant));
    (upstream, gateway)
}

#[test]
fn a_key_may_come_in_four_fields() {
    let (upstream, gateway) = gateway(Tenant::acme());
    let bearer = format!("Bearer {TENANT_KEY}");
    let lower_case = format!("bearer {TENANT_KEY}");
    let fields = [
        ("X-API-Key", TENANT_KEY),
        ("x-api-key", TENANT_KEY),
        ("Authorization", &bearer),
        ("authorization", &lower_case),
        ("api-key", TENANT_KEY),
        ("X-Goog-Api-Key", TENANT_KEY),
    ];
    for (name, value) in fields {
        let answer = gateway.call(&Request::plain().without("Authorization").field(name, value));
        assert_eq!(answer.status(), 200, "{name}");
    }
    assert_eq!(upstream.completed(), fields.len());
}

#[test]
fn x_api_key_wins_over_a_dummy_bearer() {
    let (upstream, gateway) = gateway(Tenant::acme());
    let dummy = Request::plain().key("sk-dummy");
    assert_eq!(
        gateway
            .call(&dummy.clone().field("X-API-Key", TENANT_KEY))
            .status(),
        200
    );
    // And the other way round: a wrong one is wrong, whatever is beside it.
    let wrong = Request::plain().field("X-API-Key", "rk-wrong");
    gateway.call(&wrong).assert_refused(401, "invalid_api_key");
    // Bearer comes before the others.
    let others = dummy
        .field("api-key", TENANT_KEY)
        .field("x-goog-api-key", TENANT_KEY);
    gateway.call(&others).assert_refused(401, "invalid_api_key");
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn bad_keys_look_alike_but_for_their_code() {
    let tenant = Tenant::acme()
        .key("rk-expired", Some("2020-01-01T00:00:00Z"))
        .key("rk-not-yet", Some("2099-01-01T00:00:00Z"));
    let (upstream, gateway) = gateway(tenant);
    let cases = [
        (Request::plain().without("Authorization"), "missing_api_key"),
        (
            Request::plain()
                .without("Authorization")
                .field("Authorization", "Basic eDp5"),
            "missing_api_key",
        ),
        (
            Request::plain()
                .without("Authorization")
                .field("Authorization", "Bearer "),
            "missing_api_key",
        ),
        (
            Request::plain()
                .without("Authorization")
                .field("X-API-Key", ""),
            "missing_api_key",
        ),
        (Request::plain().key("rk-unknown"), "invalid_api_key"),
        (Request::plain().key(&TENANT_KEY[1..]), "invalid_api_key"),
        (
            Request::plain().key(&TENANT_KEY.to_uppercase()),
            "invalid_api_key",
        ),
        (
            Request::plain().key(&format!("{TENANT_KEY}x")),
            "invalid_api_key",
        ),
        (Request::plain().key("rk-expired"), "expired_api_key"),
    ];
    let mut shapes = Vec::new();
    for (request, code) in &cases {
        let answer = gateway.call(request);
        let error = answer.assert_refused(401, code);
        assert!(!error.retryable);
        shapes.push(shape(&answer));
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:#?}");
    assert_eq!(
        gateway.call(&Request::plain().key("rk-not-yet")).status(),
        200
    );
    assert_eq!(upstream.completed(), 1);
}

/// What is left of an error without what may differ: names of fields and members, and the type.
fn shape(answer: &Response) -> (Vec<String>, Vec<String>, Value) {
    let fields = answer
        .head
        .fields
        .iter()
        .map(|field| field.0.to_ascii_lowercase())
        .collect();
    let error = &answer.json()["error"];
    let members = error
        .as_object()
        .expect("an envelope")
        .keys()
        .cloned()
        .collect();
    (fields, members, error["type"].clone())
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let (_upstream, gateway) = gateway(Tenant::acme());
    let mut client = gateway.client();
    client
        .call(&Request::plain().key("rk-unknown"))
        .assert_refused(401, "invalid_api_key");
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

/// Bodies that name their model in all ways, and whether `gpt-5*` and `o3` cover it.
fn models() -> Vec<(&'static str, String, bool)> {
    let large = "x".repeat(2 * 1024 * 1024);
    vec![
        ("exact", r#"{"model":"o3"}"#.to_owned(), true),
        ("by pattern", r#"{"model":"gpt-5-mini"}"#.to_owned(), true),
        (
            "pattern covers nothing",
            r#"{"model":"gpt-5"}"#.to_owned(),
            true,
        ),
        ("another", r#"{"model":"gpt-4"}"#.to_owned(), false),
        (
            "longer than an exact one",
            r#"{"model":"o3-pro"}"#.to_owned(),
            false,
        ),
        (
            "end of a pattern",
            r#"{"model":"x-gpt-5"}"#.to_owned(),
            false,
        ),
        ("other case", r#"{"model":"O3"}"#.to_owned(), false),
        ("escaped key", r#"{"mod\u0065l":"gpt-4"}"#.to_owned(), false),
        (
            "escaped key of an allowed one",
            r#"{"\u006d\u006fdel":"o3"}"#.to_owned(),
            true,
        ),
        ("escaped value", r#"{"model":"\u006f3"}"#.to_owned(), true),
        (
            "escaped value of another",
            r#"{"model":"gpt-\u0034"}"#.to_owned(),
            false,
        ),
        ("white space", "{ \"model\" :\n\t\"o3\" }".to_owned(), true),
        (
            "nested one first",
            r#"{"input":{"model":"gpt-4"},"model":"o3"}"#.to_owned(),
            true,
        ),
        (
            "nested one allowed",
            r#"{"input":{"model":"o3"},"model":"gpt-4"}"#.to_owned(),
            false,
        ),
        (
            "in a string",
            r#"{"input":"\"model\":\"o3\",","model":"gpt-4"}"#.to_owned(),
            false,
        ),
        (
            "after 2 MiB",
            format!(r#"{{"input":"{large}","model":"o3"}}"#),
            true,
        ),
        (
            "another after 2 MiB",
            format!(r#"{{"input":"{large}","model":"gpt-4"}}"#),
            false,
        ),
    ]
}

fn assert_model(answer: &Response, allowed: bool, name: &str) {
    if allowed {
        assert_eq!(answer.status(), 200, "{name}");
    } else {
        let error = answer.assert_refused(403, "model_not_allowed");
        assert_eq!(error.param.as_deref(), Some("model"), "{name}");
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).expect("a slice that can be read")
}

#[test]
fn only_the_models_of_the_tenant() {
    let (upstream, gateway) = gateway(Tenant::acme().models(&["gpt-5*", "o3"]));
    let mut passed = Vec::new();
    for (name, body, allowed) in models() {
        let json = Request::post("/v1/responses", &body);
        assert_model(&gateway.call(&json), allowed, name);
        let chunked =
            Request::new("POST", "/v1/responses").field("Content-Type", "application/json");
        let chunked = chunked.chunked(&body.as_bytes().chunks(50_000).collect::<Vec<_>>());
        assert_model(&gateway.call(&chunked), allowed, name);
        let encoded = [
            ("gzip", gzip(body.as_bytes())),
            ("zstd", zstd(body.as_bytes())),
        ];
        if allowed {
            passed.extend([body.clone().into_bytes(), body.clone().into_bytes()]);
        }
        for (coding, bytes) in encoded {
            let request = Request::post("/v1/responses", &bytes).field("Content-Encoding", coding);
            assert_model(
                &gateway.call(&request),
                allowed,
                &format!("{name}, {coding}"),
            );
            if allowed {
                passed.push(bytes);
            }
        }
    }
    let bodies: Vec<Vec<u8>> = upstream
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(
        bodies == passed,
        "something was changed, lost or should not have passed"
    );
}

#[test]
fn what_names_no_model_for_certain_is_refused() {
    let (upstream, gateway) = gateway(Tenant::acme().models(&["gpt-5*", "o3"]));
    let json = |body: &str| Request::post("/v1/responses", body);
    let coded = |coding: &str, body: &[u8]| {
        Request::post("/v1/responses", body).field("Content-Encoding", coding)
    };
    let whole = gzip(br#"{"model":"o3"}"#);
    let cases = [
        ("none", json("{}")),
        ("no object", json(r#"["model","o3"]"#)),
        ("not a string", json(r#"{"model":["o3"]}"#)),
        ("null", json(r#"{"model":null}"#)),
        ("twice", json(r#"{"model":"o3","model":"gpt-4"}"#)),
        ("twice the same", json(r#"{"model":"o3","model":"o3"}"#)),
        (
            "twice, one escaped",
            json(r#"{"model":"o3","mod\u0065l":"gpt-4"}"#),
        ),
        ("not JSON", json("model=o3")),
        ("cut off", json(r#"{"model":"o3""#)),
        (
            "something behind",
            json(r#"{"model":"o3"}{"model":"gpt-4"}"#),
        ),
        ("single quotes", json("{'model':'o3'}")),
        ("gzip that is none", coded("gzip", br#"{"model":"o3"}"#)),
        ("gzip cut off", coded("gzip", &whole[..whole.len() - 10])),
        ("zstd that is none", coded("zstd", br#"{"model":"o3"}"#)),
        (
            "unknown coding",
            coded("br", b"\x0b\x06\x80{\"model\":\"o3\"}\x03"),
        ),
        ("two codings", coded("gzip, gzip", &gzip(&whole))),
        (
            "another media type",
            Request::new("POST", "/v1/responses")
                .field("Content-Type", "text/plain")
                .body(r#"{"model":"o3"}"#),
        ),
    ];
    for (name, request) in cases {
        let answer = gateway.call(&request);
        assert_eq!(answer.status(), 400, "{name}: {answer:?}");
        answer.gateway_error();
    }
    assert_eq!(upstream.completed(), 0);
    // Without a body there is nothing to name.
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
}

#[test]
fn a_second_model_late_in_a_large_body_never_completes() {
    let (upstream, gateway) = gateway(Tenant::acme().models(&["o3"]));
    let large = "x".repeat(3 * 1024 * 1024);
    let body = format!(r#"{{"model":"o3","input":"{large}","model":"gpt-4"}}"#);
    for chunked in [false, true] {
        let request = Request::new("POST", "/v1/responses");
        let request = if chunked {
            request.chunked(&body.as_bytes().chunks(100_000).collect::<Vec<_>>())
        } else {
            request.body(&body)
        };
        let mut client = gateway.client();
        client.try_send(request.bytes());
        let answer = client.read_response();
        assert_eq!(answer.status(), 400, "{answer:?}");
        assert_eq!(upstream.completed(), 0);
    }
}

#[test]
fn a_body_that_explodes_when_decoded_is_refused() {
    let upstream = Upstream::untouched();
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().models(&["o3"]))
        .limit("body_bytes_max", 1_000_000)
        .limit("decoded_body_bytes_max", 2_000_000)
        .limit("retry_body_bytes_max", 100_000);
    let gateway = Gateway::start(&config);
    let bomb = format!(r#"{{"input":"{}","model":"o3"}}"#, " ".repeat(50_000_000));
    for (coding, body) in [
        ("gzip", gzip(bomb.as_bytes())),
        ("zstd", zstd(bomb.as_bytes())),
    ] {
        gateway.write_state("first");
        let before = gateway.anonymous_bytes();
        let request = Request::post("/v1/responses", &body).field("Content-Encoding", coding);
        let answer = gateway.call(&request);
        assert!(matches!(answer.status(), 400 | 413), "{answer:?}");
        assert!(
            gateway.anonymous_bytes() < before + 20_000_000,
            "it was decoded as a whole"
        );
    }
    assert_eq!(upstream.completed(), 0);
}

#[test]
fn models_in_paths() {
    let (upstream, gateway) = gateway(Tenant::acme().models(&["gemini-pro*"]));
    let call = |model: &str| {
        let path = format!("/v1beta/models/{model}:generateContent");
        gateway.call(&Request::post(&path, r#"{"contents":[]}"#))
    };
    assert_model(&call("gemini-pro-3"), true, "covered");
    assert_model(&call("gemini-ultra"), false, "another");
    let encoded = call("gemini%2Dultra");
    assert!(matches!(encoded.status(), 400 | 403), "{encoded:?}");
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn without_a_list_every_model_passes() {
    let (upstream, gateway) = gateway(Tenant::acme());
    for body in [
        "{}",
        r#"{"model":"anything"}"#,
        "not json",
        r#"{"model":1,"model":2}"#,
    ] {
        assert_eq!(
            gateway.call(&Request::post("/v1/responses", body)).status(),
            200,
            "{body}"
        );
    }
    let gzipped = Request::post("/v1/responses", b"not gzip").field("Content-Encoding", "gzip");
    assert_eq!(gateway.call(&gzipped).status(), 200);
    assert_eq!(upstream.completed(), 5);
}

#[test]
fn only_the_upstreams_of_the_tenant() {
    let first = Upstream::answering(response(200, &[], b"first"));
    let second = Upstream::answering(response(200, &[], b"second"));
    let config = Config::simple(first.address())
        .upstream("other", &format!("http://{}", second.address()))
        .account(Account::new("second", "127.0.7.2").upstream("other"))
        .tenant(Tenant::new("beta", "rk-beta-0123456789").upstreams(&["other"]))
        .tenant(Tenant::new("both", "rk-both-0123456789").upstreams(&["other", "openai"]));
    let gateway = Gateway::start(&config);
    for _ in 0..5 {
        assert_eq!(gateway.call(&Request::plain()).payload, b"first");
        assert_eq!(
            gateway
                .call(&Request::plain().key("rk-beta-0123456789"))
                .payload,
            b"second"
        );
        // In the order of its list.
        assert_eq!(
            gateway
                .call(&Request::plain().key("rk-both-0123456789"))
                .payload,
            b"second"
        );
    }
}

#[test]
fn as_many_requests_at_a_time_as_the_tenant_may_have() {
    let (reached, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (reached, go_on) = (reached.clone(), go_on.clone());
        move |exchange| {
            if exchange.request.target == "/v1/held" {
                reached.send();
                go_on.wait();
            }
            exchange.send(openai::plain());
        }
    });
    let config = Config::simple(upstream.address())
        .set("node", "workers", 2)
        .tenant(Tenant::acme().set("limits", "{ concurrent_requests = 2 }"))
        .tenant(Tenant::new("beta", "rk-beta-0123456789"));
    let gateway = Gateway::start(&config);
    let mut held = [gateway.client(), gateway.client()];
    for client in &mut held {
        client.send(Request::get("/v1/held").bytes());
        reached.wait();
    }
    // On both workers.
    for _ in 0..10 {
        let error = gateway
            .call(&Request::plain())
            .assert_refused(429, "tenant_concurrency_exceeded");
        assert!(error.retryable);
    }
    assert_eq!(
        gateway
            .call(&Request::plain().key("rk-beta-0123456789"))
            .status(),
        200
    );
    go_on.send();
    go_on.send();
    for client in &mut held {
        assert_eq!(client.read_response().status(), 200);
    }
    // A place is given back before the answer's last byte is read, or soon after.
    relay_tests::eventually("a free place", || {
        (gateway.call(&Request::plain()).status() == 200).then_some(())
    });
}
