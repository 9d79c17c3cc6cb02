//! While all accounts are busy, requests wait: bounded, fairly, and with a sign of life.

use crate::{config, key, two};
use relay_tests::http::response;
use relay_tests::{
    Account, Config, Ending, Exchange, Gateway, RawClient, Request, Signal, Tenant, Upstream,
    eventually, openai,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) const OTHER_KEY: &str = "rk-globex-90d1f2b34c5a67e8b1c2d3e4f5061728";

/// One account with one place.
fn narrow(upstream: &Upstream) -> Config {
    config(
        upstream,
        [Account::new("only", "127.0.7.1").set("max_concurrent", 1)],
    )
}

/// Answers one request each time it is told to.
pub(crate) fn on_order(go_on: &Signal) -> impl Fn(&mut Exchange) + Send + Sync + 'static {
    let go_on = go_on.clone();
    move |exchange| {
        go_on.wait();
        if exchange
            .request
            .body
            .windows(13)
            .any(|bytes| bytes == b"\"stream\":true")
        {
            exchange.send(openai::stream(&["a"]));
        } else {
            exchange.send(openai::plain());
        }
    }
}

pub(crate) fn begun(gateway: &Gateway, request: &Request) -> RawClient {
    let mut client = gateway.client();
    client.send(request.bytes());
    client
}

pub(crate) fn wait_until_queued(gateway: &Gateway, count: usize) {
    eventually("requests that wait", || {
        (gateway.metric("relay_queue_waiting", &["openai"]) == count as f64).then_some(())
    });
}

#[test]
fn a_request_waits_for_a_place_and_is_served() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let gateway = Gateway::start(&narrow(&upstream));
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut second = begun(&gateway, &Request::plain().id("waited"));
    wait_until_queued(&gateway, 1);
    assert_eq!(upstream.completed(), 1);
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
    go_on.send();
    assert_eq!(second.read_response().status(), 200);
    wait_until_queued(&gateway, 0);
    let line = gateway.logged("waited");
    assert!(
        line["queued_ms"]
            .as_f64()
            .is_some_and(|waited| waited > 0.0),
        "{line}"
    );
}

#[test]
fn nobody_waits_for_ever_and_no_more_than_there_is_room_for() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let config = narrow(&upstream)
        .timeout("queue", "300ms")
        .limit("queue_max", 2)
        .limit("queue_per_tenant_max", 2);
    let gateway = Gateway::start(&config);
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut waiting = [(); 2].map(|()| begun(&gateway, &Request::plain()));
    wait_until_queued(&gateway, 2);
    gateway
        .call(&Request::plain())
        .assert_refused(503, "no_account_available");
    for client in &mut waiting {
        client
            .read_response()
            .assert_refused(503, "no_account_available");
    }
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn a_tenant_with_many_waiting_requests_does_not_hold_up_another() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let config = narrow(&upstream).tenant(Tenant::new("globex", OTHER_KEY));
    let gateway = Gateway::start(&config);
    let mut running = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut many: Vec<RawClient> = Vec::new();
    for count in 1..=8 {
        many.push(begun(&gateway, &Request::plain()));
        wait_until_queued(&gateway, count);
    }
    let other = Request::post(
        "/v1/responses",
        r#"{"model":"gpt-5","input":"of the other"}"#,
    );
    let mut other = begun(&gateway, &other.key(OTHER_KEY));
    wait_until_queued(&gateway, 9);
    for _ in 0..10 {
        go_on.send();
    }
    assert_eq!(running.read_response().status(), 200);
    assert_eq!(other.read_response().status(), 200);
    for client in &mut many {
        assert_eq!(client.read_response().status(), 200);
    }
    let bodies: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    let position = bodies
        .iter()
        .position(|body| body.ends_with(b"of the other\"}"));
    // The one that was running, and at most one of the many that was on its turn.
    assert!(
        position.is_some_and(|position| position <= 2),
        "{position:?}"
    );
}

#[test]
fn a_client_that_leaves_gives_its_place_in_the_queue_back() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let gateway = Gateway::start(&narrow(&upstream));
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let second = begun(&gateway, &Request::plain());
    wait_until_queued(&gateway, 1);
    drop(second);
    wait_until_queued(&gateway, 0);
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn a_short_block_by_the_provider_is_waited_for() {
    let upstream = Upstream::start(|exchange| {
        if exchange.request.number == 0 {
            exchange.send(openai::error(
                429,
                "rate_limit_exceeded",
                &[("retry-after", "1")],
            ));
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&narrow(&upstream));
    let answer = gateway.call(&Request::plain());
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.head.value("x-relay-attempts"), Some("2"));
    assert_eq!(key(&upstream.requests()[0]), key(&upstream.requests()[1]));
}

const HEARTBEAT: &[u8] = b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";

#[test]
fn who_waits_for_long_hears_that_the_gateway_is_alive() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let gateway = Gateway::start(&narrow(&upstream).timeout("heartbeat", "100ms"));
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut second = begun(&gateway, &Request::streamed().id("early"));
    let head = second.begin_response();
    assert_eq!(head.status(), 200);
    assert_eq!(head.value("content-type"), Some("text/event-stream"));
    assert_eq!(head.value("x-request-id"), Some("early"));
    for _ in 0..2 {
        assert_eq!(second.read_payload(HEARTBEAT.len()), HEARTBEAT);
    }
    assert_eq!(upstream.completed(), 1, "it still waits");
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
    go_on.send();
    let (payload, ending) = second.finish_response();
    assert_eq!(ending, Ending::Complete);
    let whole = [openai::created(), openai::delta("a"), openai::completed()].concat();
    assert!(
        payload.ends_with(&whole),
        "{}",
        String::from_utf8_lossy(&payload)
    );
    let before = &payload[..payload.len() - whole.len()];
    assert!(
        before
            .chunks(HEARTBEAT.len())
            .all(|event| event == HEARTBEAT),
        "only heartbeats before"
    );
}

#[test]
fn who_has_waited_in_vain_sees_a_stream_that_failed() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let config = narrow(&upstream)
        .timeout("heartbeat", "100ms")
        .timeout("queue", "500ms");
    let gateway = Gateway::start(&config);
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut second = begun(&gateway, &Request::streamed().id("in-vain"));
    assert_eq!(second.begin_response().status(), 200);
    let (payload, ending) = second.finish_response();
    assert_eq!(
        ending,
        Ending::Truncated,
        "a refusal must not look complete"
    );
    let text = String::from_utf8(payload).expect("UTF-8");
    assert!(text.contains("event: error\n"), "{text}");
    assert!(text.contains("\"no_account_available\""), "{text}");
    let line = gateway.logged("in-vain");
    assert_eq!(
        (&line["status"], &line["code"]),
        (&200.into(), &"no_account_available".into()),
        "the status that the client saw: {line}"
    );
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
}

#[test]
fn an_early_stream_that_then_meets_an_error_of_the_provider_shows_it() {
    let go_on = Signal::new();
    let upstream = Upstream::start({
        let go_on = go_on.clone();
        move |exchange| {
            go_on.wait();
            if exchange.request.number == 0 {
                exchange.send(openai::plain());
            } else {
                exchange.send(openai::error(400, "invalid_value", &[]));
            }
        }
    });
    let gateway = Gateway::start(&narrow(&upstream).timeout("heartbeat", "100ms"));
    let mut first = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let mut second = begun(&gateway, &Request::streamed().id("replaced"));
    assert_eq!(second.begin_response().status(), 200);
    go_on.send();
    assert_eq!(first.read_response().status(), 200);
    go_on.send();
    let (payload, ending) = second.finish_response();
    assert_eq!(ending, Ending::Truncated);
    let text = String::from_utf8(payload).expect("UTF-8");
    assert!(text.contains("event: error\n"), "{text}");
    let line = gateway.logged("replaced");
    assert_eq!(
        (&line["status"], &line["failed_status"]),
        (&200.into(), &400.into()),
        "the client saw one status, the provider said another: {line}"
    );
}

#[test]
fn who_has_no_place_in_the_queue_does_not_pass_those_who_wait() {
    let go_on = Signal::new();
    let upstream = Upstream::start(on_order(&go_on));
    let config = narrow(&upstream)
        .limit("queue_per_tenant_max", 1)
        .timeout("queue", "60s")
        .tenant(Tenant::new("globex", OTHER_KEY));
    let gateway = Gateway::start(&config);
    let mut running = begun(&gateway, &Request::plain());
    upstream.wait_for("the first request", |record| {
        (record.completed == 1).then_some(())
    });
    let of_other = Request::post(
        "/v1/responses",
        r#"{"model":"gpt-5","input":"of the other"}"#,
    );
    let mut other = begun(&gateway, &of_other.key(OTHER_KEY));
    wait_until_queued(&gateway, 1);
    let mut own = begun(&gateway, &Request::plain());
    wait_until_queued(&gateway, 2);
    let flood_is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !flood_is_over.load(Ordering::SeqCst) {
                    client
                        .call(&Request::plain())
                        .assert_refused(503, "no_account_available");
                }
            });
        }
        go_on.send();
        assert_eq!(running.read_response().status(), 200);
        let second = upstream.wait_for("the second request", |record| {
            record.requests.get(1).map(|request| request.body.clone())
        });
        flood_is_over.store(true, Ordering::SeqCst);
        assert!(second.ends_with(b"of the other\"}"), "{second:?}");
    });
    for client in [&mut other, &mut own] {
        go_on.send();
        assert_eq!(client.read_response().status(), 200);
    }
}

/// How the two accounts of [`limited_and_ill`] answer.
const ALL_WELL: usize = 0;
const FIRST_LIMITED: usize = 1;
const SECOND_ILL_TOO: usize = 2;

/// Names the account in the response's ID; then the first is limited by the provider for a while, and the second fails.
fn limited_and_ill(mode: &Arc<AtomicUsize>) -> Upstream {
    let mode = Arc::clone(mode);
    Upstream::start(move |exchange| {
        let account = key(&exchange.request);
        let is_first = account == two()[0].key();
        match mode.load(Ordering::SeqCst) {
            FIRST_LIMITED | SECOND_ILL_TOO if is_first => {
                exchange.send(openai::error(
                    429,
                    "rate_limit_exceeded",
                    &[("retry-after", "50")],
                ));
            }
            SECOND_ILL_TOO => {
                exchange.send(openai::error(500, "server_error", &[]));
            }
            _ => {
                let json = format!(r#"{{"id":"resp_{account}","object":"response","output":[]}}"#);
                let fields = [("content-type", "application/json")];
                exchange.send(response(200, &fields, json.as_bytes()));
            }
        }
    })
}

#[test]
fn who_waits_for_one_account_in_particular_holds_up_nobody() {
    let mode = Arc::new(AtomicUsize::new(ALL_WELL));
    let upstream = limited_and_ill(&mode);
    let config = config(&upstream, two())
        .timeout("queue", "60s")
        .set("limits", "retry_pause", "\"1ms\"")
        .set("health", "backoff_min", "\"5m\"")
        .set("health", "backoff_max", "\"5m\"");
    let gateway = Gateway::start(&config);
    let id = format!("resp_{}", two()[0].key());
    eventually("the first account has answered", || {
        (gateway.call(&Request::plain()).json()["id"] == id).then_some(())
    });
    let stands = |name: &str| gateway.admin(&format!("/accounts/{name}")).json()["state"].clone();
    mode.store(SECOND_ILL_TOO, Ordering::SeqCst);
    let mut waiting = Vec::new();
    eventually("nobody is well", || {
        if stands("second") != "blocked" || stands("first") != "blocked" {
            waiting.push(begun(&gateway, &Request::plain()));
            return None;
        }
        Some(())
    });
    drop(waiting);
    wait_until_queued(&gateway, 0);
    mode.store(FIRST_LIMITED, Ordering::SeqCst);
    let body = format!(r#"{{"model":"gpt-5","previous_response_id":"{id}","input":"go on"}}"#);
    let _particular = begun(&gateway, &Request::post("/v1/responses", body));
    wait_until_queued(&gateway, 1);
    let answer = gateway.call(&Request::plain().id("passes"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    let line = gateway.logged("passes");
    assert_eq!(line["chosen"], "panic", "{line}");
    assert!(line["queued_ms"].is_null(), "{line}");
    wait_until_queued(&gateway, 1);
}
