//! Which fields pass, in both directions.

use relay_tests::config::{ACCOUNT_KEY, TENANT_KEY};
use relay_tests::http::{find, response};
use relay_tests::{Config, Gateway, Request, Upstream, openai};

fn echo() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    (upstream, gateway)
}

#[test]
fn what_the_provider_needs_arrives_unchanged() {
    let (upstream, gateway) = echo();
    let fields = [
        ("originator", "codex_cli_rs"),
        (
            "user-agent",
            "codex_cli_rs/0.169.0 (Debian 13; x86_64) xterm-256color",
        ),
        ("session-id", "0199e1a2-7b3c-7d4e-8f90-a1b2c3d4e5f6"),
        ("session_id", "0199e1a2-7b3c-7d4e-8f90-a1b2c3d4e5f6"),
        ("thread-id", "thread-1"),
        ("x-client-request-id", "client-request-1"),
        ("x-codex-turn-metadata", r#"{"turn_id":"1","cwd":"/x"}"#),
        ("x-codex-beta-features", "a,b"),
        ("x-codex-anything-new", "\u{e4}\u{20ac}"),
        ("openai-beta", "responses=experimental, other=v2"),
        ("version", "0.169.0"),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "text/event-stream"),
    ];
    let mut request = Request::new("POST", "/v1/responses").body(r#"{"model":"gpt-5"}"#);
    for (name, value) in fields {
        request = request.field(name, value);
    }
    assert_eq!(gateway.call(&request).status(), 200);
    let head = upstream.only_request().head;
    for (name, value) in fields {
        assert_eq!(head.value(name), Some(value), "{name}");
    }
}

#[test]
fn fields_may_come_in_any_case_and_more_than_once() {
    let (upstream, gateway) = echo();
    let request = Request::plain()
        .field("ORIGINATOR", "x")
        .field("X-Codex-List", "one")
        .field("x-codex-list", "two")
        .field("X-Codex-Empty", "");
    assert_eq!(gateway.call(&request).status(), 200);
    let head = upstream.only_request().head;
    assert_eq!(head.value("originator"), Some("x"));
    assert_eq!(head.values("x-codex-list"), [b"one", b"two"]);
    assert_eq!(head.value("x-codex-empty"), Some(""));
}

/// Fields that tell who or where the client is, that belong to the tenant, or that are meant for one hop.
#[rustfmt::skip]
const STOPPED: &[&str] = &[
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
    "X-Forwarded-Prefix", "X-Forwarded", "Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Client-IP",
    "Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "X-Originating-IP", "X-Remote-IP",
    "X-Remote-Addr", "X-ProxyUser-Ip", "WL-Proxy-Client-IP", "Fastly-Client-IP", "Fly-Client-IP",
    "Fly-Forwarded-Port", "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-IPCountry", "CF-Ray",
    "CF-Visitor", "CF-Worker", "CDN-Loop", "X-Appengine-Country", "X-Appengine-City",
    "CloudFront-Viewer-Country", "CloudFront-Viewer-Address", "X-Vercel-IP-Country", "X-Geo-Country",
    "X-Country-Code", "X-Azure-ClientIP", "X-Envoy-External-Address", "X-Amzn-Trace-Id", "Cookie",
    "Cookie2", "Proxy-Authorization", "X-API-Key", "api-key", "x-goog-api-key", "OpenAI-Organization",
    "OpenAI-Project", "Referer", "Origin", "From", "Accept-Language", "Sec-Fetch-Site", "Sec-CH-UA",
    "Proxy-Connection", "Keep-Alive", "TE", "Trailer", "X-Custom", "Max-Forwards", "X-Original-URL",
    "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Relay-Attempts", "Priority", "DNT",
];

#[test]
fn what_tells_about_the_client_stops() {
    let (upstream, gateway) = echo();
    for half in STOPPED.chunks(30) {
        let mut request = Request::plain();
        for name in half {
            // The tenant's key is in all of them; in the fields for keys it has to be.
            request = request.field(name, TENANT_KEY);
        }
        assert_eq!(gateway.call(&request).status(), 200);
    }
    for request in upstream.requests() {
        for name in STOPPED {
            assert_eq!(request.head.value(name), None, "{name} passed");
        }
    }
    for connection in upstream.connections() {
        assert_eq!(
            find(&connection.received, TENANT_KEY.as_bytes()),
            None,
            "the tenant's key passed"
        );
    }
}

#[test]
fn nothing_of_the_tenants_key_passes() {
    let (upstream, gateway) = echo();
    let bearer = format!("Bearer {TENANT_KEY}");
    let fields = [
        ("X-API-Key", TENANT_KEY),
        ("Authorization", &bearer),
        ("api-key", TENANT_KEY),
        ("x-goog-api-key", TENANT_KEY),
    ];
    for (name, value) in fields {
        let request = Request::plain().without("Authorization").field(name, value);
        // Whatever the others hold stops too.
        let request =
            fields
                .iter()
                .filter(|other| other.0 != name)
                .fold(request, |request, other| {
                    request.field(
                        other.0,
                        if name == "X-API-Key" {
                            "dummy"
                        } else {
                            TENANT_KEY
                        },
                    )
                });
        assert_eq!(gateway.call(&request).status(), 200, "{name}");
    }
    for request in upstream.requests() {
        let authorization = format!("Bearer {ACCOUNT_KEY}");
        assert_eq!(
            request.head.value("authorization"),
            Some(authorization.as_str())
        );
        for name in ["x-api-key", "api-key", "x-goog-api-key"] {
            assert_eq!(request.head.value(name), None);
        }
    }
    for connection in upstream.connections() {
        assert_eq!(find(&connection.received, TENANT_KEY.as_bytes()), None);
        assert_eq!(find(&connection.received, b"dummy"), None);
    }
    assert_eq!(
        find(gateway.log().text().as_bytes(), TENANT_KEY.as_bytes()),
        None,
        "in the log"
    );
    assert_eq!(
        find(gateway.log().text().as_bytes(), ACCOUNT_KEY.as_bytes()),
        None,
        "in the log"
    );
    let metrics = gateway.admin("/metrics").payload;
    assert_eq!(
        find(&metrics, TENANT_KEY.as_bytes()),
        None,
        "in the metrics"
    );
    assert_eq!(
        find(&metrics, ACCOUNT_KEY.as_bytes()),
        None,
        "in the metrics"
    );
}

#[test]
fn what_the_connection_field_names_stops() {
    let (upstream, gateway) = echo();
    let requests = [
        Request::plain().field("Connection", "keep-alive, X-Codex-Hop, originator"),
        Request::plain()
            .field("Connection", "x-codex-hop")
            .field("Connection", " ORIGINATOR "),
        Request::plain().field("Connection", "X-Codex-Hop,,originator,"),
    ];
    let mut client = gateway.client();
    for request in requests {
        let request = request
            .field("X-Codex-Hop", "a")
            .field("Originator", "b")
            .field("Version", "c");
        assert_eq!(client.call(&request).status(), 200);
    }
    for request in upstream.requests() {
        for name in ["x-codex-hop", "originator", "connection"] {
            assert!(
                request
                    .head
                    .values(name)
                    .iter()
                    .all(|value| *value == b"keep-alive"),
                "{name} passed"
            );
        }
        assert_eq!(request.head.value("version"), Some("c"));
    }
}

#[test]
fn the_connection_field_cannot_take_away_what_the_gateway_says() {
    let (upstream, gateway) = echo();
    let request = Request::plain().field(
        "Connection",
        "Authorization, Host, Content-Length, Content-Type, X-API-Key",
    );
    assert_eq!(gateway.call(&request).status(), 200);
    let received = upstream.only_request();
    assert_eq!(received.body, Request::plain().body_bytes());
    assert_eq!(
        received.head.value("authorization"),
        Some(format!("Bearer {ACCOUNT_KEY}").as_str())
    );
    assert_eq!(
        received.head.value("host"),
        Some(upstream.address().to_string().as_str())
    );
}

#[test]
fn host_is_the_upstreams_own() {
    let (upstream, gateway) = echo();
    for host in ["gateway.test", "gateway.test:8080", "[::1]:80"] {
        let request = Request::plain().without("Host").field("Host", host);
        assert_eq!(gateway.call(&request).status(), 200);
    }
    for request in upstream.requests() {
        assert_eq!(
            request.head.value("host"),
            Some(upstream.address().to_string().as_str())
        );
    }
}

#[test]
fn a_base_url_may_have_a_path() {
    let upstream = Upstream::answering(openai::plain());
    let base_url = format!("http://{}/some/prefix", upstream.address());
    let config = Config::bare()
        .upstream("openai", &base_url)
        .account(relay_tests::Account::first())
        .tenant(relay_tests::Tenant::acme());
    let gateway = Gateway::start(&config);
    gateway.call(&Request::plain());
    gateway.call(&Request::get("/v1/models?limit=1&after=%2F"));
    let targets: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        targets,
        [
            "/some/prefix/v1/responses",
            "/some/prefix/v1/models?limit=1&after=%2F"
        ]
    );
}

#[test]
fn of_an_answer_only_what_the_client_needs_passes() {
    let passing = [
        ("content-type", "application/json; charset=utf-8"),
        ("retry-after", "3"),
        ("retry-after-ms", "2500"),
        ("x-should-retry", "true"),
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-tokens", "99"),
        ("x-ratelimit-reset-requests", "1s"),
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "12"),
        ("openai-model", "gpt-5"),
        ("x-codex-primary-used-percent", "12"),
        ("x-codex-credits-balance", "5"),
    ];
    let stopped = [
        ("set-cookie", "__cf_bm=secret; path=/"),
        ("openai-organization", "org-secret"),
        ("openai-project", "proj-secret"),
        ("OpenAI-Organization", "org-secret"),
        ("server", "cloudflare-secret"),
        ("via", "1.1 secret"),
        ("cf-ray", "secret"),
        ("alt-svc", "h3=\":443\"; secret"),
        ("strict-transport-security", "max-age=1; secret"),
        ("x-powered-by", "secret"),
        ("x-internal-host", "secret"),
        ("keep-alive", "timeout=5, secret"),
        ("proxy-authenticate", "Basic secret"),
        ("www-authenticate", "Bearer secret"),
        ("connection", "x-codex-hop"),
        ("x-codex-hop", "secret"),
        ("x-relay-attempts", "77"),
        ("x-relay-overhead-us", "secret"),
        ("x-relay-error-source", "secret"),
    ];
    let all: Vec<(&str, &str)> = passing.iter().chain(&stopped).copied().collect();
    for status in [200, 400] {
        let upstream = Upstream::answering(response(status, &all, b"{}"));
        let gateway = Gateway::start(&Config::simple(upstream.address()));
        let answer = gateway.call(&Request::plain());
        assert_eq!(
            (answer.status(), answer.payload.as_slice()),
            (status, &b"{}"[..])
        );
        for (name, value) in passing {
            assert_eq!(answer.head.value(name), Some(value), "{name} of a {status}");
        }
        for (name, value) in &answer.head.fields {
            assert!(
                find(value, b"secret").is_none(),
                "{name} of a {status} passed"
            );
        }
        assert_eq!(answer.head.value("x-relay-attempts"), Some("1"));
        let source = (status == 400).then_some("upstream");
        assert_eq!(answer.head.value("x-relay-error-source"), source);
    }
}

#[test]
fn an_encoded_answer_says_so() {
    let body = b"\x1f\x8b not really gzip";
    let fields = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let upstream = Upstream::answering(response(200, &fields, body));
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let answer = gateway.call(&Request::plain());
    assert_eq!(answer.payload, body);
    assert_eq!(answer.head.value("content-encoding"), Some("gzip"));
}

#[test]
fn streams_are_not_asked_to_be_compressed() {
    let (upstream, gateway) = echo();
    let request = Request::streamed().field("Accept-Encoding", "gzip, br, zstd");
    assert_eq!(gateway.call(&request).status(), 200);
    let head = upstream.only_request().head;
    assert!(matches!(
        head.value("accept-encoding"),
        None | Some("identity")
    ));
}

#[test]
fn the_request_id_is_echoed() {
    let (_upstream, gateway) = echo();
    let answer = gateway.call(&Request::plain().id("my-id_1.2:3"));
    assert_eq!(answer.head.value("x-request-id"), Some("my-id_1.2:3"));
    assert_eq!(gateway.logged("my-id_1.2:3")["status"], 200);
    let refused = gateway.call(&Request::plain().key("rk-unknown").id("refused-id"));
    assert_eq!(refused.head.value("x-request-id"), Some("refused-id"));
    let own = gateway.call(&Request::plain());
    let own = own.head.value("x-request-id").expect("an id");
    let other = gateway.call(&Request::plain());
    assert!(
        !own.is_empty() && other.head.value("x-request-id") != Some(own),
        "not one of its own"
    );
    gateway.logged(own);
}

#[test]
fn request_ids_are_capped_and_cannot_forge_a_log_line() {
    let (_upstream, gateway) = echo();
    let long = "x".repeat(5000);
    let answer = gateway.call(&Request::plain().id(&long));
    let id = answer.head.value("x-request-id").expect("an id");
    assert!(!id.is_empty() && id.len() <= 256, "{} bytes", id.len());
    gateway.logged(id);
    for odd in [
        r#"","event":"ready","x":""#,
        "\u{e4}\u{1f600}",
        "a\tb",
        "<script>",
        "",
        "\\",
        "${jndi:x}",
    ] {
        let answer = gateway.call(&Request::plain().id(odd));
        assert_eq!(answer.status(), 200);
        let id = answer.head.value("x-request-id").expect("an id");
        assert!(!id.is_empty());
        gateway.logged(id);
    }
    let two = gateway.call(&Request::plain().id("one").id("two"));
    assert!(
        two.head
            .value("x-request-id")
            .is_some_and(|id| !id.contains(','))
    );
    for line in gateway.log().lines() {
        assert!(line.json.is_object(), "not JSON: {}", line.text);
    }
    let ready = gateway
        .log()
        .lines()
        .iter()
        .filter(|line| line.event() == "ready")
        .count();
    assert_eq!(ready, 1);
}

#[test]
fn the_gateway_says_what_it_added() {
    let (_upstream, gateway) = echo();
    for request in [
        Request::plain(),
        Request::streamed(),
        Request::plain().key("rk-unknown"),
    ] {
        let answer = gateway.call(&request);
        let overhead = answer
            .head
            .value("x-relay-overhead-us")
            .expect("the overhead");
        assert!(overhead.parse::<u64>().is_ok(), "{overhead:?}");
        let attempts = if answer.status() == 200 { "1" } else { "0" };
        assert_eq!(
            answer.head.value("x-relay-attempts").unwrap_or("0"),
            attempts
        );
        assert!(answer.head.value("x-request-id").is_some());
    }
}

#[test]
fn a_key_in_the_query_stops_here() {
    let (upstream, gateway) = echo();
    let path = "/v1beta/models/gemini-pro:streamGenerateContent";
    for (query, passed) in [
        ("?key=SECRET&alt=sse", "?alt=sse"),
        ("?alt=sse&key=SECRET", "?alt=sse"),
        ("?key=SECRET&alt=sse&key=SECRET", "?alt=sse"),
        ("?key=SECRET", ""),
    ] {
        let request = Request::post(&format!("{path}{query}"), "{}");
        assert_eq!(gateway.call(&request).status(), 200, "{query}");
        let request = upstream.requests().pop().expect("a request");
        assert_eq!(request.target, format!("{path}{passed}"), "{query}");
    }
    for connection in upstream.connections() {
        assert_eq!(find(&connection.received, b"SECRET"), None);
    }
    assert!(!gateway.log().text().contains("SECRET"));
}
