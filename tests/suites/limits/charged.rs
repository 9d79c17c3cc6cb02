//! What tenants and their keys may use: what is refused and how, what is charged, and what they are told of it.

use relay_tests::config::TENANT_KEY;
use relay_tests::http::{chunk, response};
use relay_tests::{Config, Gateway, Request, Response, Signal, Tenant, Upstream, openai};
use serde_json::{Value, json};

const OTHER_KEY: &str = "rk-acme-other-0123456789";

fn gateway(tenant: Tenant) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()).tenant(tenant));
    (upstream, gateway)
}

fn field<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.head.value(name)
}

fn error(answer: &Response) -> Value {
    answer.gateway_error();
    answer.json()["error"].clone()
}

fn own_usage(gateway: &Gateway) -> Value {
    let answer = gateway.call(&Request::get("/v1/relay/usage"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

#[test]
fn the_tenant_sees_how_its_own_limits_stand() {
    let fields = [
        ("content-type", "application/json"),
        ("x-ratelimit-limit-requests", "9000"),
        ("x-ratelimit-reset-tokens", "7s"),
    ];
    let upstream = Upstream::answering(response(200, &fields, openai::PLAIN_BODY));
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().limits("requests_per_minute = 2, tokens_per_minute = 100_000"))
        .tenant(Tenant::new("beta", "rk-beta-0123456789"));
    let gateway = Gateway::start(&config);

    let first = gateway.call(&Request::plain());
    assert_eq!(first.status(), 200);
    assert_eq!(field(&first, "x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(field(&first, "x-ratelimit-remaining-requests"), Some("1"));
    assert_eq!(field(&first, "x-ratelimit-limit-tokens"), Some("100000"));
    let reset = field(&first, "x-ratelimit-reset-tokens").unwrap();
    assert_ne!(reset, "7s", "the provider's");
    let fields = first.head.fields.iter();
    assert_eq!(
        fields
            .filter(|(name, _)| name.starts_with("x-ratelimit-"))
            .count(),
        6
    );

    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let refused = gateway.call(&Request::plain());
    refused.assert_refused(429, "tenant_rate_limited");
    let told = error(&refused);
    assert_eq!(
        (&told["limit"], &told["scope"]),
        (&json!("requests_per_minute"), &json!("tenant"))
    );
    assert_eq!(field(&refused, "x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(field(&refused, "x-ratelimit-remaining-requests"), Some("0"));
    let after: u64 = field(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert_eq!(upstream.completed(), 2);

    // Who has no limits sees what the provider says.
    let other = gateway.call(&Request::plain().key("rk-beta-0123456789"));
    assert_eq!(field(&other, "x-ratelimit-limit-requests"), Some("9000"));
    assert_eq!(field(&other, "x-ratelimit-reset-tokens"), Some("7s"));
}

#[test]
fn a_key_that_has_used_up_its_month_leaves_its_tenant_the_rest() {
    let tenant = Tenant::acme()
        .key_with_limits(OTHER_KEY, "requests_per_month = 1")
        .limits("requests_per_month = 100");
    let (upstream, gateway) = gateway(tenant);
    let other = Request::plain().key(OTHER_KEY);
    assert_eq!(gateway.call(&other).status(), 200);
    let refused = gateway.call(&other.clone().id("used-up"));
    refused.assert_refused(429, "tenant_quota_exceeded");
    let told = error(&refused);
    assert_eq!(told["type"], "usage_limit_reached");
    assert_eq!(
        (&told["limit"], &told["scope"]),
        (&json!("requests_per_month"), &json!("key"))
    );
    let left = told["resets_in_seconds"].as_u64().unwrap();
    assert!(
        (1..=31 * 86_400).contains(&left) && told["resets_at"].is_u64(),
        "{told}"
    );
    assert!(
        field(&refused, "retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            <= 120
    );
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    assert_eq!(upstream.completed(), 2);

    let line = gateway.logged("used-up");
    assert_eq!(
        (&line["limit"], &line["limit_of"]),
        (&json!("requests_per_month"), &json!("key"))
    );
    // It may still look at what it has used.
    let usage = gateway
        .call(&Request::get("/v1/relay/usage").key(OTHER_KEY))
        .json();
    assert_eq!(usage["limits"]["key"][0]["remaining"], 0);
    assert_eq!(usage["limits"]["tenant"][0]["used"], 2);
    assert_eq!(usage["key_month"]["requests"], 1);
}

#[test]
fn what_was_set_aside_is_replaced_by_what_was_used() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().limits("tokens_per_month = 1_000, budget_per_month = 1"))
        .price(&["gpt-5"], "input = 1, cached_input = 0.1, output = 8")
        .usage("output_tokens_assumed", 900);
    let gateway = Gateway::start(&config);
    // Each sets 900 aside, and uses 18.
    for request in ["one", "two", "three"] {
        assert_eq!(gateway.call(&Request::plain().id(request)).status(), 200);
        let line = gateway.logged(request);
        assert_eq!(
            (&line["known"], &line["cost"]),
            (&json!("final"), &json!("0.0000643"))
        );
    }
    let usage = own_usage(&gateway);
    let month = &usage["month"];
    assert_eq!(
        *month,
        json!({
            "requests": 3, "input_tokens": 33, "cached_tokens": 9, "output_tokens": 21,
            "reasoning_tokens": 6, "cost": "0.0001929",
        })
    );
    assert_eq!(month, &usage["key_month"]);
    let limits = usage["limits"]["tenant"].as_array().unwrap();
    assert_eq!(
        (&limits[0]["limit"], &limits[0]["used"]),
        (&json!("tokens_per_month"), &json!(54))
    );
    assert_eq!(limits[1]["remaining"], "0.9998071");

    let body = r#"{"model":"gpt-5","input":"hi","max_output_tokens":5000}"#;
    let refused = gateway.call(&Request::post("/v1/responses", body));
    let told = refused.assert_refused(429, "tenant_quota_exceeded");
    assert!(
        !told.retryable && told.message.contains("alone"),
        "{told:?}"
    );
    assert_eq!(field(&refused, "x-should-retry"), Some("false"));
    assert_eq!(upstream.completed(), 3);
}

#[test]
fn with_a_budget_the_price_must_be_known() {
    let upstream = Upstream::answering(openai::plain());
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().limits("budget_per_month = 1"))
        .price(&["gpt-5"], "input = 1, output = 8");
    let gateway = Gateway::start(&config);
    let post = |body: &str| gateway.call(&Request::post("/v1/responses", body));
    assert_eq!(post(r#"{"model":"gpt-5","input":"hi"}"#).status(), 200);
    post(r#"{"model":"gpt-6","input":"hi"}"#).assert_refused(403, "model_not_priced");
    post(r#"{"input":"hi"}"#).assert_refused(400, "model_required");
    // More than the budget, if all of it is written.
    post(r#"{"model":"gpt-5","max_output_tokens":125000}"#)
        .assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(upstream.completed(), 1);
    // What asks no model for anything costs nothing.
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    let count = Request::post("/v1/responses/input_tokens", r#"{"model":"gpt-6"}"#);
    assert_eq!(gateway.call(&count).status(), 200);
}

#[test]
fn with_a_budget_nothing_is_served_of_which_nobody_knows_that_it_is_free() {
    let upstream = Upstream::untouched();
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().limits("budget_per_month = 1"))
        .price(&["gpt-5"], "input = 1, output = 8");
    let gateway = Gateway::start(&config);
    let batch = r#"{"requests":[{"custom_id":"1","params":{"model":"gpt-5"}}]}"#;
    for (method, target, body, status, code) in [
        (
            "POST",
            "/v1/completions",
            r#"{"model":"gpt-6"}"#,
            403,
            "model_not_priced",
        ),
        (
            "PUT",
            "/v1/completions",
            r#"{"model":"gpt-6"}"#,
            403,
            "model_not_priced",
        ),
        (
            "POST",
            "/v1/embeddings",
            r#"{"model":"gpt-6"}"#,
            403,
            "model_not_priced",
        ),
        (
            "POST",
            "/anything/new",
            r#"{"model":"gpt-6"}"#,
            403,
            "model_not_priced",
        ),
        ("POST", "/v1/messages/batches", batch, 400, "model_required"),
        (
            "POST",
            "/v1/batches",
            r#"{"input_file_id":"f"}"#,
            400,
            "model_required",
        ),
    ] {
        let request = Request::new(method, target).field("Content-Type", "application/json");
        gateway
            .call(&request.body(body))
            .assert_refused(status, code);
    }
}

#[test]
fn what_the_provider_does_not_count_is_charged_by_its_length() {
    let vector = "0.5,".repeat(100);
    let body = format!(r#"{{"data":[[{vector}1]]}}"#);
    let length = body.len() as u64;
    for content_type in ["application/json", "application/octet-stream"] {
        let fields = [("content-type", content_type)];
        let upstream = Upstream::answering(response(200, &fields, body.as_bytes()));
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let request = Request::post("/v1/embeddings", r#"{"model":"m","input":"hi"}"#);
        assert_eq!(gateway.call(&request.clone().id("counted")).status(), 200);
        let line = gateway.logged("counted");
        let input_tokens = (request.body_bytes().len() as u64).div_ceil(4);
        assert_eq!(line["known"], "estimated", "{line}");
        assert_eq!(line["input_tokens"], input_tokens, "{line}");
        assert_eq!(line["output_tokens"], length / 4, "{line}");
    }
}

#[test]
fn what_runs_in_the_background_is_charged_when_it_is_asked_for() {
    let queued = br#"{"id":"resp_1","object":"response","status":"queued","usage":null}"#;
    let fields = [("content-type", "application/json")];
    let upstream = Upstream::answering(response(200, &fields, queued));
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let body = r#"{"model":"gpt-5","background":true,"max_output_tokens":700,"input":"hi"}"#;
    let request = Request::post("/v1/responses", body).id("background");
    assert_eq!(gateway.call(&request).status(), 200);
    let line = gateway.logged("background");
    assert_eq!(line["known"], "estimated", "{line}");
    assert_eq!(line["output_tokens"], 700, "{line}");
    let fetched = Request::get("/v1/responses/resp_1").id("fetched");
    assert_eq!(gateway.call(&fetched).status(), 200);
    assert!(gateway.logged("fetched").get("known").is_none());
}

#[test]
fn a_request_that_is_refused_has_its_model_on_record() {
    let tenant = Tenant::acme()
        .limits("requests_per_day = 1, requests_per_month = 1, shadow = [\"requests_per_day\"]")
        .models(&["gpt-5"]);
    let (_upstream, gateway) = gateway(tenant);
    let other = Request::post("/v1/responses", r#"{"model":"gpt-6"}"#);
    let refused = gateway.call(&other.id("not-allowed"));
    refused.assert_refused(403, "model_not_allowed");
    assert_eq!(gateway.logged("not-allowed")["model"], "gpt-6");
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    let refused = gateway.call(&Request::plain().id("used-up"));
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(gateway.logged("used-up")["model"], "gpt-5");
}

#[test]
fn what_is_refused_behind_a_shadow_tells_of_the_shadow() {
    let tenant = Tenant::acme()
        .limits("requests_per_day = 1, tokens_per_day = 30, shadow = [\"requests_per_day\"]");
    let (_upstream, gateway) = gateway(tenant);
    let modest = r#"{"model":"gpt-5","max_output_tokens":1,"input":"hi"}"#;
    let modest = Request::post("/v1/responses", modest);
    assert_eq!(gateway.call(&modest).status(), 200);
    let refused = gateway.call(&modest.id("refused"));
    refused.assert_refused(429, "tenant_quota_exceeded");
    assert_eq!(gateway.logged("refused")["shadowed"], "requests_per_day");
}

#[test]
fn the_model_of_gemini_stands_in_the_path_alone() {
    let upstream = Upstream::untouched();
    let config = Config::simple(upstream.address()).tenant(Tenant::acme().models(&["gpt-5"]));
    let gateway = Gateway::start(&config);
    let body = r#"{"model":"gpt-5"}"#;
    let post = |target: &str| gateway.call(&Request::post(target, body));
    post("/v1beta/models/gemini-3:generateContent").assert_refused(403, "model_not_allowed");
    post("/v1beta/models/tuned%2Fgemini:generateContent").assert_refused(400, "model_required");
}

#[test]
fn a_shadow_refuses_nothing_and_is_told() {
    let tenant = Tenant::acme().limits(
        "requests_per_minute = 1, requests_per_month = 1, \
             shadow = [\"requests_per_minute\", \"requests_per_month\"]",
    );
    let (upstream, gateway) = gateway(tenant);
    for id in ["first", "second"] {
        let answer = gateway.call(&Request::plain().id(id));
        assert_eq!(answer.status(), 200);
        assert_eq!(field(&answer, "x-ratelimit-limit-requests"), None);
    }
    assert!(gateway.logged("first").get("shadowed").is_none());
    assert_eq!(
        gateway.logged("second")["shadowed"],
        "requests_per_minute,requests_per_month"
    );
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn what_is_refused_later_on_takes_nothing_from_the_quota() {
    let tenant = Tenant::acme()
        .limits("requests_per_month = 1")
        .models(&["gpt-5"]);
    let (_upstream, gateway) = gateway(tenant);
    let other = Request::post("/v1/responses", r#"{"model":"gpt-6"}"#);
    for _ in 0..3 {
        gateway
            .call(&other)
            .assert_refused(403, "model_not_allowed");
    }
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    gateway
        .call(&Request::plain())
        .assert_refused(429, "tenant_quota_exceeded");
}

#[test]
fn a_stream_is_charged_by_its_last_word_and_a_cut_one_by_its_length() {
    let left = Signal::new();
    let upstream = Upstream::start({
        let left = left.clone();
        move |exchange| {
            if exchange.request.head.value("x-client-request-id").is_none() {
                exchange.send(openai::stream(&["a", "b"]));
                return;
            }
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::created()));
            for text in ["a", "b", "c"] {
                exchange.send(chunk(&openai::delta(text)));
            }
            left.wait();
        }
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    gateway.call(&Request::streamed().id("whole"));
    let line = gateway.logged("whole");
    assert_eq!(
        (&line["known"], &line["output_tokens"]),
        (&json!("final"), &json!(7))
    );

    let request = Request::streamed()
        .id("cut")
        .field("X-Client-Request-Id", "1");
    let mut client = gateway.client();
    client.send(request.bytes());
    client.begin_response();
    let bytes: usize = [
        openai::created(),
        openai::delta("a"),
        openai::delta("b"),
        openai::delta("c"),
    ]
    .iter()
    .map(Vec::len)
    .sum();
    client.read_payload(bytes);
    client.reset();
    let line = gateway.logged("cut");
    left.send();
    assert_eq!(
        (&line["known"], &line["ended"]),
        (&json!("estimated"), &json!("client_gone"))
    );
    assert_eq!(line["output_tokens"], 3);
    let input_tokens = (request.body_bytes().len() as u64).div_ceil(4);
    assert_eq!(line["input_tokens"], input_tokens);
    let month = &own_usage(&gateway)["month"];
    assert_eq!(
        (&month["requests"], &month["output_tokens"]),
        (&json!(2), &json!(10))
    );
}

#[test]
fn errors_of_the_provider_are_charged_as_requests_without_tokens() {
    let body = br#"{"error":{"message":"no"},"usage":{"input_tokens":5,"output_tokens":5}}"#;
    let json = [("content-type", "application/json")];
    let upstream = Upstream::answering(response(400, &json, body));
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    assert_eq!(gateway.call(&Request::plain().id("bad")).status(), 400);
    assert!(gateway.logged("bad").get("known").is_none());
    let month = &own_usage(&gateway)["month"];
    assert_eq!(
        (&month["requests"], &month["input_tokens"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn own_usage_is_answered_by_the_gateway_alone() {
    let upstream = Upstream::untouched();
    let config = Config::simple(upstream.address())
        .tenant(Tenant::acme().limits("concurrent_requests = 1, tokens_per_month = 5"));
    let gateway = Gateway::start(&config);
    let get = Request::get("/v1/relay/usage");
    gateway
        .call(&get.clone().without("Authorization"))
        .assert_refused(401, "missing_api_key");
    gateway
        .call(&get.clone().key("rk-wrong"))
        .assert_refused(401, "invalid_api_key");
    let posted = gateway.call(&Request::post("/v1/relay/usage", "{}"));
    posted.assert_refused(405, "method_not_allowed");
    assert_eq!(field(&posted, "allow"), Some("GET, HEAD"));
    let answer = gateway.call(&get.id("own"));
    assert_eq!(field(&answer, "cache-control"), Some("no-store"));
    let usage = answer.json();
    assert_eq!(usage["object"], "relay.usage");
    assert_eq!(
        (&usage["tenant"], &usage["time_zone"]),
        (&json!("acme"), &json!("UTC"))
    );
    assert!(
        !answer
            .payload
            .windows(8)
            .any(|part| part == &TENANT_KEY.as_bytes()[..8])
    );
    let limits = usage["limits"]["tenant"].as_array().unwrap();
    let names: Vec<_> = limits.iter().map(|limit| &limit["limit"]).collect();
    assert_eq!(names, ["concurrent_requests", "tokens_per_month"]);
    assert!(limits[1]["resets_at"].is_u64() && limits[0].get("resets_at").is_none());
    assert_eq!(usage["limits"]["key"], json!([]));
    let head = gateway.call(&Request::new("HEAD", "/v1/relay/usage"));
    assert_eq!((head.status(), head.payload.len()), (200, 0));
    let line = gateway.logged("own");
    assert_eq!(
        (&line["status"], &line["attempts"]),
        (&json!(200), &json!(0))
    );
    assert_eq!(own_usage(&gateway)["month"]["requests"], 0);
}
