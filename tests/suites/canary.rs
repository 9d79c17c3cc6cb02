//! A string that stands for every secret and for every text of a conversation is found in nothing that the gateway keeps or says
//! of its own: log, metrics, admin API, journal, state, reports, commands, errors.

use relay_tests::http::{chunk, find, response};
use relay_tests::{Account, Config, Gateway, Request, Tenant, Upstream, eventually, openai};
use std::fs;
use std::path::{Path, PathBuf};

/// In the tenant's key.
const TENANT: &str = "rk-canary7f3a-tenant";
/// In what the client sends: prompt, conversation, session, user, fields that pass and fields that do not.
const CLIENT: &str = "canary7f3a";
/// In the provider's key.
const ACCOUNT_NAME: &str = "careful";
const MARK: &str = "canary7f3a";

fn request(target: &str, stream: bool) -> Request {
    let body = format!(
        r#"{{"model":"gpt-5","stream":{stream},"input":"say {CLIENT}","prompt_cache_key":"{CLIENT}","user":"{CLIENT}","metadata":{{"{CLIENT}":"{CLIENT}"}},"previous_response_id":null}}"#
    );
    Request::post(target, body)
        .key(TENANT)
        .field("Session-Id", CLIENT)
        .field("User-Agent", CLIENT)
        .field("Cookie", CLIENT)
        .field("X-Forwarded-For", CLIENT)
        .field("X-Codex-Turn", CLIENT)
}

/// A provider that quotes what it was sent, credential included, wherever it can.
fn upstream() -> Upstream {
    Upstream::start(|exchange| {
        let authorization = exchange.request.head.value("authorization");
        let quoted = format!("{MARK} {}", authorization.unwrap_or_default());
        match exchange.request.number % 6 {
            0 => {
                let body = openai::PLAIN_BODY.to_vec();
                let fields = [
                    ("content-type", "application/json"),
                    ("x-provider", quoted.as_str()),
                    ("openai-organization", quoted.as_str()),
                ];
                exchange.send(response(200, &fields, &body));
            }
            1 => {
                exchange.send(openai::STREAM_HEAD);
                exchange.send(chunk(&openai::created()));
                exchange.send(chunk(&openai::delta(&quoted)));
                exchange.send(chunk(&openai::completed()));
                exchange.send(relay_tests::http::LAST_CHUNK);
            }
            // A stream that breaks off.
            2 => {
                exchange.send(openai::STREAM_HEAD);
                exchange.send(chunk(&openai::delta(&quoted)));
                exchange.reset();
            }
            3 => {
                let body = format!(
                    r#"{{"error":{{"message":"{quoted}","code":"{MARK}","type":"{MARK}"}}}}"#
                );
                let fields = [("content-type", "application/json"), ("x-request-id", MARK)];
                exchange.send(response(500, &fields, body.as_bytes()));
            }
            4 => {
                let body =
                    format!(r#"{{"error":{{"message":"{quoted}","code":"invalid_api_key"}}}}"#);
                let fields = [("content-type", "application/json"), ("retry-after", MARK)];
                exchange.send(response(401, &fields, body.as_bytes()));
            }
            // Not an answer at all.
            _ => {
                exchange.send(format!("{quoted}\r\n\r\n"));
                exchange.close();
            }
        }
    })
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn assert_clean(what: &str, bytes: &[u8]) {
    if let Some(at) = find(bytes, MARK.as_bytes()) {
        let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 200)];
        panic!("in {what}: {}", relay_tests::http::lossy(around));
    }
}

#[test]
fn no_secret_and_no_text_is_kept_or_told() {
    let upstream = upstream();
    let tenant = Tenant::new("acme", TENANT).set(
        "limits",
        "{ requests_per_day = 1000, tokens_per_day = 1000000, budget_per_month = 5 }",
    );
    let account = Account::new(ACCOUNT_NAME, "127.0.7.1").secret(&format!("sk-{MARK}-account"));
    let reports = tempfile::tempdir().expect("a directory");
    let config = Config::bare()
        .upstream("openai", &format!("http://{}", upstream.address()))
        .account(account)
        .tenant(tenant)
        .limit("attempts_max", 2)
        .set("health", "failures_max", 1_000)
        .set("health", "failure_percent_max", 100)
        .set("[price]", "models", "[\"*\"]")
        .set("[price]", "input", 1)
        .set("[price]", "output", 1)
        .set("usage", "report_directory", format!("{:?}", reports.path()));
    let mut gateway = Gateway::start(&config);
    let mut requests = 0;
    for round in 0..18 {
        let target = format!("/v1/responses?token={MARK}");
        let mut client = gateway.client();
        client.send(request(&target, round % 2 == 1).bytes());
        if round % 7 == 3 {
            client.reset();
        } else if client.try_begin_response(false).is_some() {
            client.finish_response();
        }
        requests += 1;
    }
    // What the gateway itself refuses.
    let refused = [
        request("/v1/responses", false).key(&format!("rk-{MARK}-unknown")),
        request("/v1/responses", false).without("Authorization"),
        Request::new("TRACE", &format!("/{MARK}")).key(TENANT),
        Request::post("/v1/responses", format!("{{\"{MARK}\":")).key(TENANT),
        request("/v1/responses", false).field("Content-Length", MARK),
        Request::get(&format!("/v1/responses/{MARK}")).key(TENANT),
    ];
    for request in &refused {
        let answer = gateway.call(request);
        if answer.head.value("x-relay-error-source") == Some("gateway") {
            assert_clean("an error", &answer.payload);
            assert_clean(
                "the head of an error",
                format!("{:?}", answer.head).as_bytes(),
            );
        }
        requests += 1;
    }
    let own = gateway.call(&Request::get("/v1/relay/usage").key(TENANT));
    assert_eq!(own.status(), 200);
    assert_clean("the tenant's use", &own.payload);

    gateway.log().wait_requests(requests);
    eventually("the journal has them", || {
        let records = gateway.metric("relay_journal_records_total", &[]);
        (records >= requests as f64).then_some(())
    });
    for page in [
        "/metrics",
        "/accounts",
        "/ready",
        &format!("/accounts/{ACCOUNT_NAME}"),
    ] {
        assert_clean(page, &gateway.admin(page).payload);
    }
    for arguments in [
        &["audit", "query", "--format", "json", "--limit", "1000"][..],
        &["audit", "query", "--limit", "1000"],
        &["usage"],
    ] {
        let done = gateway.command(arguments);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.output.lines().count() >= 2, "{done:?}");
        assert_clean(&arguments.join(" "), done.output.as_bytes());
    }
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    assert_clean("the log", gateway.log().text().as_bytes());
    assert_clean("standard error", gateway.errors().text().as_bytes());
    let mut files = Vec::new();
    files_below(&gateway.directory().join("state"), &mut files);
    files_below(reports.path(), &mut files);
    let is_journal = |path: &&PathBuf| path.extension().is_some_and(|end| end == "seg");
    assert!(files.iter().any(|path| is_journal(&path)), "{files:?}");
    for file in &files {
        assert_clean(
            &file.display().to_string(),
            &fs::read(file).expect("a file"),
        );
        assert_clean("a name", file.display().to_string().as_bytes());
    }
}
