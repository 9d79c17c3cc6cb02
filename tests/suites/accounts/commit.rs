//! The commit point of a stream is its first output: up to there another account takes over, from there on nobody does.

use crate::{config, key, two};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{
    Account, Config, Ending, Exchange, Gateway, RawClient, Request, Response, Signal, Upstream,
    eventually, openai,
};

/// Begins a stream in this way for the first request, and answers all others.
fn beginning_badly(begin: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |exchange| {
        if exchange.request.number == 0 {
            exchange.send(openai::STREAM_HEAD);
            begin(exchange);
        } else {
            exchange.send(openai::stream(&["good"]));
        }
    })
}

/// The client has seen the second account's stream, and nothing of the first one's.
fn assert_taken_over(upstream: &Upstream, answer: &Response, name: &str) {
    assert_eq!(answer.status(), 200, "{name}: {answer:?}");
    assert_eq!(answer.ending, Ending::Complete, "{name}");
    let good = [
        openai::created(),
        openai::delta("good"),
        openai::completed(),
    ];
    assert_eq!(answer.payload, good.concat(), "{name}");
    assert_eq!(answer.head.value("x-relay-attempts"), Some("2"), "{name}");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2, "{name}");
    assert_ne!(key(&requests[0]), key(&requests[1]), "{name}");
}

fn failed(code: &str) -> Vec<u8> {
    format!(
        "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":\
         {{\"error\":{{\"code\":\"{code}\",\"message\":\"from the provider\"}}}}}}\n\n"
    )
    .into_bytes()
}

/// As long as the operator may want it, so that no test depends on its end.
fn patient(upstream: &Upstream) -> Config {
    config(upstream, two()).timeout("commit", "60s")
}

#[test]
fn an_overload_behind_events_without_output_is_another_accounts_turn() {
    for (code, at_once) in [
        ("server_is_overloaded", true),
        ("server_is_overloaded", false),
        ("slow_down", true),
        ("server_error", true),
        ("rate_limit_exceeded", true),
        ("insufficient_quota", true),
    ] {
        let upstream = beginning_badly(move |exchange| {
            let events = [openai::created(), failed(code)];
            if at_once {
                exchange.send(chunk(&events.concat()));
            } else {
                exchange.send_bytewise(events.map(|event| chunk(&event)).concat());
            }
            exchange.send(LAST_CHUNK);
        });
        let gateway = Gateway::start(&patient(&upstream));
        assert_taken_over(&upstream, &gateway.call(&Request::streamed()), code);
    }
}

#[test]
fn a_cut_behind_events_without_output_is_another_accounts_turn() {
    type End = fn(&mut Exchange);
    let ends: [(&str, End); 3] = [
        ("closed", Exchange::close),
        ("reset", Exchange::reset),
        ("ended as if it were complete", |exchange| {
            exchange.send(LAST_CHUNK);
        }),
    ];
    for (name, end) in ends {
        let upstream = beginning_badly(move |exchange| {
            exchange.send(chunk(&openai::created()));
            end(exchange);
        });
        let gateway = Gateway::start(&patient(&upstream));
        assert_taken_over(&upstream, &gateway.call(&Request::streamed()), name);
    }
}

#[test]
fn a_cut_without_an_alternative_is_told_as_what_it_is() {
    let upstream = Upstream::start(|exchange| {
        exchange.send([openai::STREAM_HEAD, &chunk(&openai::created())[..]].concat());
        exchange.close();
    });
    let gateway = Gateway::start(&patient(&upstream));
    let answer = gateway.call(&Request::streamed());
    answer.assert_refused(502, "upstream_stream_incomplete");
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn a_failure_of_the_requests_own_passes_with_what_was_held_back() {
    let upstream = beginning_badly(|exchange| {
        exchange.send(chunk(&openai::created()));
        exchange.send(chunk(&failed("context_length_exceeded")));
        exchange.send(LAST_CHUNK);
    });
    let gateway = Gateway::start(&patient(&upstream));
    let answer = gateway.call(&Request::streamed());
    assert_eq!(answer.ending, Ending::Complete);
    let told = [openai::created(), failed("context_length_exceeded")].concat();
    assert_eq!(answer.payload, told);
    assert_eq!(upstream.completed(), 1);
}

/// What was held back passes while the provider waits; then comes an overload, which is the client's now.
fn assert_committed_before_output(configure: fn(Config) -> Config, before: &[u8]) {
    let arrived = Signal::new();
    let upstream = beginning_badly({
        let (arrived, before) = (arrived.clone(), before.to_owned());
        move |exchange| {
            exchange.send(chunk(&before));
            arrived.wait();
            exchange.send(chunk(&failed("server_is_overloaded")));
            exchange.send(LAST_CHUNK);
        }
    });
    let gateway = Gateway::start(&configure(patient(&upstream)));
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    assert_eq!(client.begin_response().status(), 200);
    assert!(client.read_payload(before.len()) == before, "not the same");
    arrived.send();
    let (rest, ending) = client.finish_response();
    assert_eq!(
        (rest, ending),
        (failed("server_is_overloaded"), Ending::Complete)
    );
    assert_eq!(upstream.completed(), 1);
}

#[test]
fn nothing_is_held_back_for_longer_than_the_operator_wants() {
    assert_committed_before_output(|config| config.timeout("commit", "0s"), &openai::created());
    assert_committed_before_output(
        |config| config.timeout("commit", "50ms"),
        &openai::created(),
    );
}

#[test]
fn no_more_is_held_back_than_fits() {
    let event = |bytes: usize| {
        format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"r\",\"instructions\":\"{}\"}}}}\n\n",
            "x".repeat(bytes)
        )
        .into_bytes()
    };
    assert_committed_before_output(|config| config, &event(300_000));
    assert_committed_before_output(|config| config, &event(1_000).repeat(300));
}

#[test]
fn what_slow_clients_have_not_taken_yet_counts_as_held_back() {
    let event = |bytes: usize| {
        let more = "x".repeat(bytes);
        format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"more\":\"{more}\"}}\n\n"
        )
        .into_bytes()
    };
    let upstream = Upstream::start(move |exchange| {
        exchange.send(openai::STREAM_HEAD);
        if exchange.request.target == "/v1/responses?slow" {
            exchange.send(chunk(&event(200_000)));
            exchange.send(chunk(&openai::delta("a")));
        } else {
            exchange.send(chunk(&event(100_000)));
        }
        // The stream goes on for as long as the gateway keeps its connection.
    });
    let gateway = Gateway::start(&patient(&upstream).limit("held_body_bytes_max", 1 << 20));
    let body = br#"{"model":"gpt-5","stream":true,"input":"x"}"#;
    let slow: Vec<RawClient> = (0..8)
        .map(|_| {
            let mut client = RawClient::connect_narrow(gateway.address(), 4096);
            client.send(Request::post("/v1/responses?slow", body).bytes());
            assert_eq!(client.begin_response().status(), 200);
            client
        })
        .collect();
    // Of a stream without output nothing can be held back beside theirs.
    let mut client = gateway.client();
    client.send(Request::streamed().bytes());
    assert_eq!(client.begin_response().status(), 200);
    drop(slow);
}

#[test]
fn what_was_held_back_arrives_as_it_was_sent() {
    // Longer than several buffers, but not too long to be held.
    let long = format!(
        "event: response.in_progress\ndata: {{\"type\":\"response.in_progress\",\"response\":{{\"instructions\":\"{}\"}}}}\n\n",
        "x\u{e4}\u{20ac}".repeat(15_000)
    )
    .into_bytes();
    for piece_bytes in [333, 5_000, 200_000] {
        let long = long.clone();
        let sent = [
            openai::created(),
            long,
            openai::delta("a"),
            openai::completed(),
        ]
        .concat();
        let upstream = beginning_badly({
            let sent = sent.clone();
            move |exchange| {
                for piece in sent.chunks(piece_bytes) {
                    exchange.send(chunk(piece));
                }
                exchange.send(LAST_CHUNK);
            }
        });
        let one = config(&upstream, [Account::first()]).timeout("commit", "60s");
        let gateway = Gateway::start(&one);
        let mut client = gateway.client();
        let answer = client.call(&Request::streamed().id("held"));
        assert_eq!(answer.ending, Ending::Complete);
        assert!(answer.payload == sent, "in pieces of {piece_bytes}");
        let line = gateway.logged("held");
        assert_eq!(
            (&line["events"], &line["attempts"]),
            (&4.into(), &1.into()),
            "{line}"
        );
        // The connection is as good as any other.
        assert_eq!(client.call(&Request::streamed()).status(), 200);
        assert_eq!(upstream.connection_count(), 1);
    }
}

#[test]
fn what_an_error_answer_says_is_read_to_its_end_and_its_connection_kept() {
    let upstream = Upstream::start(|exchange| {
        if exchange.request.number == 0 {
            exchange.send(openai::error(503, "some_code", &[]));
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 503);
    // Whether it is asked again at once or a little later is its health's business.
    eventually("an answer", || {
        (client.call(&Request::plain()).status() == 200).then_some(())
    });
    assert_eq!(upstream.connection_count(), 1);
}
