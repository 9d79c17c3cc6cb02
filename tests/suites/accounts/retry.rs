//! What is tried again, with which account, how often; and what is not.

use crate::{config, key, source, two};
use relay_tests::dead_end::Refusing;
use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::{
    Account, Config, Ending, Exchange, Gateway, Request, Response, Upstream, openai,
};
use std::collections::BTreeSet;

/// Fails the first request in this way and answers all others.
fn failing_once(fail: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |exchange| {
        if exchange.request.number == 0 {
            fail(exchange);
        } else {
            exchange.send(openai::plain());
        }
    })
}

/// Two requests, the same but for the account, and an answer that says so.
fn assert_retried(upstream: &Upstream, answer: &Response, name: &str) {
    assert_eq!(answer.status(), 200, "{name}: {answer:?}");
    assert_eq!(answer.head.value("x-relay-attempts"), Some("2"), "{name}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2, "{name}");
    assert_ne!(
        key(&requests[0]),
        key(&requests[1]),
        "{name}: the same account"
    );
    assert_ne!(
        source(&requests[0]),
        source(&requests[1]),
        "{name}: the same address"
    );
    assert!(requests[0].body == requests[1].body, "{name}: another body");
    let without_key = |index: usize| {
        let fields = requests[index].head.fields.iter().cloned();
        fields
            .filter(|field| field.0 != "authorization")
            .collect::<Vec<_>>()
    };
    assert_eq!(without_key(0), without_key(1), "{name}: other fields");
}

#[test]
fn what_may_work_with_another_account_is_tried_again() {
    for status in [401, 403, 429, 500, 502, 503, 504, 529] {
        let upstream = failing_once(move |exchange| {
            exchange.send(openai::error(status, "some_code", &[]));
        });
        let gateway = Gateway::start(&config(&upstream, two()));
        let answer = gateway.call(&Request::plain().id("retried"));
        assert_retried(&upstream, &answer, &status.to_string());
        let line = gateway.logged("retried");
        assert_eq!(
            (&line["attempts"], &line["status"]),
            (&2.into(), &200.into()),
            "{line}"
        );
    }
}

#[test]
fn connections_that_break_before_the_answer_are_tried_again() {
    type Fail = fn(&mut Exchange);
    let breaks: [(&str, Fail); 3] = [
        ("closed", Exchange::close),
        ("reset", Exchange::reset),
        ("reset after a 103", |exchange| {
            exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            exchange.reset();
        }),
    ];
    for (name, fail) in breaks {
        let upstream = failing_once(fail);
        let gateway = Gateway::start(&config(&upstream, two()));
        assert_retried(&upstream, &gateway.call(&Request::plain()), name);
    }
}

#[test]
fn an_upstream_that_refuses_connections_is_passed_over() {
    let dead = Refusing::start();
    let upstream = Upstream::answering(openai::plain());
    let tenant = relay_tests::Tenant::acme().upstreams(&["dead", "openai"]);
    let config = Config::simple(upstream.address())
        .upstream("dead", &format!("http://{}", dead.address()))
        .account(Account::new("of-the-dead", "127.0.7.9").upstream("dead"))
        .tenant(tenant);
    let gateway = Gateway::start(&config);
    let answer = gateway.call(&Request::plain());
    assert_eq!(
        (answer.status(), answer.head.value("x-relay-attempts")),
        (200, Some("2"))
    );
    assert_eq!(source(&upstream.only_request()), "127.0.7.1");
}

#[test]
fn a_refused_connection_without_an_alternative() {
    let dead = Refusing::start();
    let gateway = Gateway::start(&Config::simple(dead.address()));
    let error = gateway
        .call(&Request::plain())
        .assert_refused(502, "upstream_error");
    assert!(error.retryable);
    assert!(
        !error.message.contains(&dead.address().to_string()),
        "{error:?}"
    );
}

#[test]
fn a_stream_that_begins_with_an_overload_is_tried_again() {
    let failures: [&[u8]; 2] = [
        b"event: error\ndata: {\"type\":\"error\",\"code\":\"server_is_overloaded\",\"message\":\"x\"}\n\n",
        b"event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n",
    ];
    for failure in failures {
        let upstream = Upstream::start(move |exchange| {
            if exchange.request.number == 0 {
                let bytes = [openai::STREAM_HEAD, &chunk(failure)[..], LAST_CHUNK].concat();
                exchange.send(bytes);
            } else {
                exchange.send(openai::stream(&["a"]));
            }
        });
        let gateway = Gateway::start(&config(&upstream, two()));
        let answer = gateway.call(&Request::streamed());
        assert_eq!(answer.ending, Ending::Complete);
        assert_eq!(
            answer.payload,
            [openai::created(), openai::delta("a"), openai::completed()].concat()
        );
        assert_retried(&upstream, &answer, "a failure first");
    }
}

/// Six accounts at an upstream that always gives the same answer.
fn always(answer: Vec<u8>, configure: fn(Config) -> Config) -> (Upstream, Response) {
    let upstream = Upstream::answering(answer);
    let accounts =
        (1..=6).map(|number| Account::new(&format!("ours-{number}"), &format!("127.0.7.{number}")));
    let gateway = Gateway::start(&configure(config(&upstream, accounts)));
    let answer = gateway.call(&Request::plain());
    for secret in [
        "127.0.7.",
        "sk-provider",
        "ours-",
        "some_code",
        "from the provider",
    ] {
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    (upstream, answer)
}

#[test]
fn three_attempts_are_the_most() {
    for (status, refused, code) in [
        (500, 502, "upstream_error"),
        (502, 502, "upstream_error"),
        (503, 503, "upstream_overloaded"),
        (429, 429, "upstream_rate_limited"),
        (401, 503, "no_account_available"),
        (403, 503, "no_account_available"),
    ] {
        let (upstream, answer) = always(openai::error(status, "some_code", &[]), |config| config);
        let error = answer.assert_refused(refused, code);
        assert!(error.retryable, "{status}");
        assert_eq!(answer.head.value("x-relay-attempts"), Some("3"), "{status}");
        let keys: BTreeSet<_> = upstream.requests().iter().map(key).collect();
        assert_eq!((upstream.completed(), keys.len()), (3, 3), "{status}");
    }
}

#[test]
fn fewer_attempts_if_the_operator_says_so() {
    let answer = openai::error(500, "some_code", &[]);
    let (upstream, answer) = always(answer, |config| config.limit("attempts_max", 1));
    answer.assert_refused(502, "upstream_error");
    assert_eq!(upstream.completed(), 1);
}

/// Two accounts that answer in this way, asked once each at most.
fn both_limited(answer: Vec<u8>, attempts_max: u64) -> Response {
    let upstream = Upstream::answering(answer);
    let config = config(&upstream, two()).timeout("queue", "0s");
    let gateway = Gateway::start(&config.limit("attempts_max", attempts_max));
    gateway.call(&Request::plain())
}

#[test]
fn what_the_provider_says_about_waiting_is_passed_on_if_nobody_is_free_before() {
    for (stated, attempts_max, told) in [
        ("7", 2, "7"),
        ("3600", 2, "120"),
        // The other account has not been asked.
        ("7", 1, "1"),
        ("3600", 1, "1"),
    ] {
        let limited = openai::error(429, "some_code", &[("retry-after", stated)]);
        let answer = both_limited(limited, attempts_max);
        answer.assert_refused(429, "upstream_rate_limited");
        let name = format!("{stated} {attempts_max}");
        assert_eq!(answer.head.value("retry-after"), Some(told), "{name}");
    }
}

#[test]
fn a_used_up_quota_is_told_in_the_form_that_clients_show() {
    let resets_at = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        + 5 * 3600;
    let body = format!(
        r#"{{"error":{{"type":"usage_limit_reached","message":"from the provider","resets_at":{resets_at}}}}}"#
    );
    let fields = [("content-type", "application/json")];
    let answer = both_limited(response(429, &fields, body.as_bytes()), 2);
    let error = answer.assert_refused(429, "upstream_quota_exhausted");
    assert!(!error.retryable, "nobody waits for five hours");
    assert_eq!(answer.head.value("retry-after"), Some("120"));
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "usage_limit_reached");
    let told = error["resets_at"].as_u64().expect("when");
    assert!(told.abs_diff(resets_at) <= 1, "{told}, {resets_at}");
    let partly = openai::error(429, "insufficient_quota", &[]);
    both_limited(partly, 1).assert_refused(429, "upstream_rate_limited");
}

#[test]
fn what_one_upstream_is_spared_another_is_asked_for() {
    let failing = Upstream::answering(openai::error(500, "some_code", &[]));
    let upstream = Upstream::answering(openai::plain());
    let tenant = relay_tests::Tenant::acme().upstreams(&["failing", "openai"]);
    let config = Config::simple(upstream.address())
        .upstream("failing", &format!("http://{}", failing.address()))
        .account(Account::new("one", "127.0.7.8").upstream("failing"))
        .account(Account::new("two", "127.0.7.9").upstream("failing"))
        .tenant(tenant)
        .set("limits", "retry_pause", "\"1ms\"")
        .limit("retry_budget_percent", 0)
        .limit("retry_budget_per_second_min", 0);
    let gateway = Gateway::start(&config);
    let answer = gateway.call(&Request::plain());
    let attempts = answer.head.value("x-relay-attempts");
    assert_eq!((answer.status(), attempts), (200, Some("2")), "{answer:?}");
    assert_eq!(failing.completed(), 1);
}

#[test]
fn the_clients_own_mistakes_are_not_tried_again() {
    for status in [400, 404, 409, 413, 422, 501, 505] {
        let upstream = Upstream::answering(openai::error(status, "some_code", &[]));
        let gateway = Gateway::start(&config(&upstream, two()));
        let answer = gateway.call(&Request::plain());
        assert_eq!(answer.status(), status);
        assert_eq!(
            answer.json()["error"]["code"],
            "some_code",
            "the provider's own words"
        );
        assert_eq!(answer.head.value("x-relay-error-source"), Some("upstream"));
        assert_eq!(upstream.completed(), 1);
    }
}

#[test]
fn an_answer_that_is_not_http_is_not_tried_again() {
    let upstream = Upstream::answering(
        &b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"[..],
    );
    let gateway = Gateway::start(&config(&upstream, two()));
    gateway
        .call(&Request::plain())
        .assert_refused(502, "upstream_error");
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn a_body_that_is_kept_is_sent_again_as_it_was() {
    let text = "x\u{e4}\\\"".repeat(180_000);
    let body = format!(
        r#"{{"model":"gpt-5","input":"{}"}}"#,
        text.replace('"', "'")
    );
    assert!((900_000..1_048_576).contains(&body.len()));
    for chunked in [false, true] {
        let upstream = failing_once(|exchange| {
            exchange.send(openai::error(503, "x", &[]));
        });
        let gateway = Gateway::start(&config(&upstream, two()));
        let request =
            Request::new("POST", "/v1/responses").field("Content-Type", "application/json");
        let request = if chunked {
            request.chunked(&body.as_bytes().chunks(1234).collect::<Vec<_>>())
        } else {
            request.body(&body)
        };
        assert_retried(&upstream, &gateway.call(&request), "kept");
        assert!(upstream.requests()[1].body == body.as_bytes());
    }
}

#[test]
fn a_body_that_is_too_long_to_be_kept_is_sent_once() {
    for chunked in [false, true] {
        let upstream = failing_once(|exchange| {
            exchange.send(openai::error(500, "x", &[]));
        });
        let config = config(&upstream, two()).limit("retry_body_bytes_max", 100_000);
        let gateway = Gateway::start(&config);
        let body = format!(r#"{{"model":"gpt-5","input":"{}"}}"#, "x".repeat(300_000));
        let request = Request::new("POST", "/v1/responses");
        let request = if chunked {
            request.chunked(&body.as_bytes().chunks(1234).collect::<Vec<_>>())
        } else {
            request.body(&body)
        };
        let answer = gateway.call(&request);
        answer.assert_refused(502, "upstream_error");
        assert_eq!(answer.head.value("x-relay-attempts"), Some("1"));
        assert!(upstream.only_request().body == body.as_bytes());
    }
}

#[test]
fn nothing_is_tried_again_after_the_first_output() {
    let starts: [Vec<u8>; 3] = [
        [openai::STREAM_HEAD, &chunk(&openai::delta("a"))[..]].concat(),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\"".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"".to_vec(),
    ];
    for start in starts {
        for reset in [false, true] {
            let start = start.clone();
            let upstream = Upstream::start(move |exchange| {
                exchange.send(&start);
                if reset {
                    exchange.reset();
                } else {
                    exchange.close();
                }
            });
            let gateway = Gateway::start(&config(&upstream, two()));
            let answer = gateway.call(&Request::streamed());
            if answer.status() == 200 {
                assert_eq!(answer.ending, Ending::Truncated);
            } else {
                // The reset may have come before anything of the answer was passed on.
                answer.gateway_error();
                assert!(reset);
            }
            assert!(
                upstream.completed() == 1 || reset && answer.status() != 200,
                "tried again"
            );
        }
    }
}

#[test]
fn a_retried_request_counts_once_for_its_account() {
    // With one place each, a place that was not given back would end this early.
    let upstream = Upstream::start(|exchange| {
        if exchange.request.number % 2 == 0 {
            exchange.send(openai::error(500, "x", &[]));
        } else {
            exchange.send(openai::plain());
        }
    });
    let accounts = two().map(|account| account.set("max_concurrent", 1));
    // Half of all attempts fail, which is more than an upstream is usually spared.
    let config = config(&upstream, accounts)
        .set("limits", "retry_pause", "\"1ms\"")
        .limit("retry_budget_percent", 100);
    let gateway = Gateway::start(&config);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
    assert_eq!(upstream.completed(), 40);
}

#[test]
fn a_failure_of_the_requests_own_is_passed_on_as_the_provider_told_it() {
    let failure: &[u8] =
        b"event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":\
        {\"error\":{\"code\":\"context_length_exceeded\"}}}\n\n";
    let upstream = Upstream::start(move |exchange| {
        exchange.send([openai::STREAM_HEAD, &chunk(failure)[..], LAST_CHUNK].concat());
    });
    let gateway = Gateway::start(&config(&upstream, two()));
    let answer = gateway.call(&Request::streamed());
    assert_eq!(answer.ending, Ending::Complete);
    assert_eq!(answer.payload, failure);
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn a_slow_failure_is_not_what_the_gateway_added() {
    // Where the machine is busy, the gateway is not held up in one of several attempts.
    assert!((0..10).any(|_| overhead_us_of_slow_failure() < 100_000));
}

fn overhead_us_of_slow_failure() -> u64 {
    let upstream = failing_once(|exchange| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        exchange.send(openai::error(500, "some_code", &[]));
    });
    let gateway = Gateway::start(&config(&upstream, two()));
    let answer = gateway.call(&Request::plain().id("slow"));
    assert_retried(&upstream, &answer, "slow");
    let told = answer.head.value("x-relay-overhead-us");
    let told: u64 = told.expect("the overhead").parse().expect("a number");
    assert_eq!(gateway.logged("slow")["overhead_us"], told);
    told
}
