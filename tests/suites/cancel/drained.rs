//! Clients that leave an answer which is read to its end all the same: `cancelled_streams = "drain"`.

use crate::{Leaving, leave};
use relay_tests::config::{Account, Tenant};
use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{
    Config, Ending, Exchange, Gateway, RawClient, Request, Signal, Upstream, eventually, openai,
};
use serde_json::Value;

/// Deltas of the streams here.
const DELTAS: usize = 20;

/// One account with one place, of a tenant whose streams are drained.
fn config(upstream: &Upstream) -> Config {
    Config::for_upstream(upstream.address())
        .tenant(Tenant::acme().set("cancelled_streams", "\"drain\""))
        .account(Account::first().set("max_concurrent", 1))
}

/// An upstream that sends `head` of each answer, and `rest` of it when the signal comes.
fn in_two(head: Vec<u8>, rest: Vec<u8>, go_on: &Signal) -> Upstream {
    let go_on = go_on.clone();
    Upstream::start(move |exchange| {
        if exchange.request.target == "/v1/next" {
            exchange.send(openai::plain());
            return;
        }
        exchange.send(&head);
        go_on.wait();
        exchange.send(&rest);
    })
}

/// A stream, cut behind so many of its deltas.
fn cut_behind(deltas: usize) -> (Vec<u8>, Vec<u8>) {
    let delta = chunk(&openai::delta("a"));
    let head = [
        openai::STREAM_HEAD,
        &chunk(&openai::created()),
        &delta.repeat(deltas),
    ];
    let rest = [
        &delta.repeat(DELTAS - deltas),
        &chunk(&openai::completed()),
        LAST_CHUNK,
    ];
    (head.concat(), rest.concat())
}

/// Leaves, and returns when the gateway has noticed.
fn leave_and_be_missed(mut client: RawClient) {
    client.half_close();
    client.read_to_end();
}

/// The log's line of the request named `left`: its client has left, and its usage is the provider's last word.
fn assert_metered(gateway: &Gateway, ended: &str) -> Value {
    let line = gateway.logged("left");
    assert_eq!(line["ended"], ended, "{line}");
    let tokens = ["input", "cached", "output", "reasoning"].map(|kind| {
        let tokens = &line[format!("{kind}_tokens")];
        tokens.as_u64().unwrap_or_else(|| panic!("{kind}: {line}"))
    });
    assert_eq!(tokens, [11, 3, 7, 2], "{line}");
    assert_eq!(line["known"], "final", "{line}");
    line
}

fn assert_place_is_free(gateway: &Gateway) {
    eventually("a free place at the account", || {
        (gateway.call(&Request::get("/v1/next")).status() == 200).then_some(())
    });
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric("relay_account_requests_in_flight", &[])
}

#[test]
fn a_stream_is_read_to_its_end_wherever_it_is_left() {
    for deltas in 1..=DELTAS {
        let go_on = Signal::new();
        let (head, rest) = cut_behind(deltas);
        let upstream = in_two(head, rest, &go_on);
        let gateway = Gateway::start(&config(&upstream));
        let mut client = gateway.client();
        client.send(Request::streamed().id("left").bytes());
        client.begin_response();
        let sent_bytes = openai::created().len() + deltas * openai::delta("a").len();
        client.read_payload(sent_bytes);
        leave_and_be_missed(client);
        // The place is taken for as long as the provider is busy.
        assert_eq!(in_flight(&gateway), 1.0);
        go_on.send();
        let line = assert_metered(&gateway, "client_gone");
        assert_eq!(line["bytes_out"], sent_bytes, "{line}");
        assert_eq!(line["events"], DELTAS + 2, "{line}");
        assert_place_is_free(&gateway);
        // Nothing of the answer is left on the connection, so it serves the next request.
        assert_eq!(upstream.connection_count(), 1);
    }
}

#[test]
fn a_client_that_is_missed_when_it_is_sent_something() {
    let upstream = Upstream::start(|exchange| {
        exchange.send(openai::STREAM_HEAD);
        let delta = chunk(&openai::delta(&"x".repeat(10_000)));
        // More than all buffers on the way take.
        for _ in 0..2_000 {
            exchange.send(&delta);
        }
        exchange.send([chunk(&openai::completed()), LAST_CHUNK.to_vec()].concat());
    });
    for how in [Leaving::Fin, Leaving::Reset] {
        let gateway = Gateway::start(&config(&upstream));
        let mut client = RawClient::connect_narrow(gateway.address(), 4096);
        client.send(Request::streamed().id("left").bytes());
        client.begin_response();
        client.read_payload(100_000);
        leave(client, how);
        let line = assert_metered(&gateway, "client_gone");
        assert_eq!(line["events"], 2_001, "{line}");
    }
}

#[test]
fn a_document_is_read_to_its_end() {
    let plain = openai::plain();
    for unread_bytes in [1, 100, openai::PLAIN_BODY.len() - 1] {
        let go_on = Signal::new();
        let (head, rest) = plain.split_at(plain.len() - unread_bytes);
        let upstream = in_two(head.to_vec(), rest.to_vec(), &go_on);
        let gateway = Gateway::start(&config(&upstream));
        let mut client = gateway.client();
        client.send(Request::plain().id("left").bytes());
        client.begin_response();
        client.read_payload(openai::PLAIN_BODY.len() - unread_bytes);
        leave_and_be_missed(client);
        go_on.send();
        assert_metered(&gateway, "client_gone");
        assert_place_is_free(&gateway);
    }
}

#[test]
fn a_client_that_takes_nothing_is_left_and_the_stream_is_not() {
    let sent = Signal::new();
    let upstream = Upstream::start({
        let sent = sent.clone();
        move |exchange| {
            exchange.send(openai::STREAM_HEAD);
            let delta = chunk(&openai::delta(&"x".repeat(10_000)));
            for _ in 0..2_000 {
                exchange.send(&delta);
            }
            exchange.send([chunk(&openai::completed()), LAST_CHUNK.to_vec()].concat());
            sent.send();
        }
    });
    let gateway = Gateway::start(&config(&upstream).timeout("write_stall", "200ms"));
    let mut client = RawClient::connect_narrow(gateway.address(), 4096);
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    sent.wait();
    assert_metered(&gateway, "client_stalled");
    // What it reads later is seen not to be all.
    assert_eq!(client.finish_response().1, Ending::Truncated);
}

#[test]
fn behind_the_last_event_there_is_nothing_to_wait_for() {
    let reached = Signal::new();
    let upstream = Upstream::start({
        let reached = reached.clone();
        move |exchange| {
            exchange.send([openai::STREAM_HEAD, &chunk(&openai::completed())].concat());
            reached.send();
            exchange.wait_closed();
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    client.read_payload(openai::completed().len());
    reached.wait();
    leave(client, Leaving::Fin);
    upstream.wait_ended(0);
    assert_metered(&gateway, "complete");
}

#[test]
fn a_drained_stream_whose_framing_does_not_end_is_over_with_its_last_event() {
    let go_on = Signal::new();
    let (head, _) = cut_behind(1);
    let upstream = in_two(head, chunk(&openai::completed()), &go_on);
    let gateway = Gateway::start(&config(&upstream).timeout("event_idle", "9m"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    client.read_payload(openai::created().len() + openai::delta("a").len());
    leave_and_be_missed(client);
    go_on.send();
    assert_metered(&gateway, "client_gone");
    upstream.wait_ended(0);
    assert_place_is_free(&gateway);
}

/// Each way to end as often as it takes to block an account.
#[test]
fn how_a_drained_stream_ends_counts_at_its_account() {
    type Act = fn(&mut Exchange);
    let finish: Act = |exchange| {
        exchange.send([chunk(&openai::completed()), LAST_CHUNK.to_vec()].concat());
    };
    let break_off: Act = Exchange::reset;
    let stall: Act = |exchange| {
        exchange.wait_closed();
    };
    for (name, act, event_idle, blocked) in [
        ("finished", finish, "9m", None),
        ("broken off", break_off, "9m", Some("broken_streams")),
        ("silent", stall, "1s", Some("time_outs")),
    ] {
        let go_on = Signal::new();
        let upstream = Upstream::start({
            let go_on = go_on.clone();
            move |exchange| {
                exchange.send(cut_behind(1).0);
                go_on.wait();
                act(exchange);
            }
        });
        let config = config(&upstream)
            .timeout("heartbeat", "0s")
            .timeout("event_idle", event_idle);
        let gateway = Gateway::start(&config);
        for number in 0..3 {
            let id = format!("left-{number}");
            let mut client = gateway.client();
            client.send(Request::streamed().id(&id).bytes());
            client.begin_response();
            client.read_payload(openai::created().len() + openai::delta("a").len());
            leave_and_be_missed(client);
            go_on.send();
            assert_eq!(gateway.logged(&id)["ended"], "client_gone", "{name}");
        }
        let account = gateway.admin("/accounts/first").json();
        let (state, reason) = (&account["state"], account["reason"].as_str());
        let wanted = if blocked.is_some() {
            "blocked"
        } else {
            "usable"
        };
        assert_eq!((state.as_str(), reason), (Some(wanted), blocked), "{name}");
    }
}

#[test]
fn nobody_is_waited_for_before_an_answer_has_begun() {
    let reached = Signal::new();
    let upstream = Upstream::start({
        let reached = reached.clone();
        move |exchange| {
            reached.send();
            exchange.wait_closed();
        }
    });
    let gateway = Gateway::start(&config(&upstream));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    reached.wait();
    leave(client, Leaving::Fin);
    upstream.wait_ended(0);
    assert_eq!(gateway.logged("left")["ended"], "client_gone");
}

/// To a client of HTTP/1.0 only a reset tells that this is not the end, and that must come at once.
#[test]
fn a_client_of_the_old_version_takes_the_provider_with_it() {
    let go_on = Signal::new();
    let (head, rest) = cut_behind(1);
    let upstream = in_two(head, rest, &go_on);
    let gateway = Gateway::start(&config(&upstream));
    let mut client = gateway.client();
    client.send(Request::streamed().http10().id("left").bytes());
    client.begin_response();
    client.read_payload(openai::created().len() + openai::delta("a").len());
    leave(client, Leaving::Fin);
    assert_eq!(gateway.logged("left")["ended"], "client_gone");
    go_on.send();
    upstream.wait_ended(0);
}

#[test]
fn the_gateways_own_end_does_not_wait_for_longer_than_for_others() {
    let go_on = Signal::new();
    let (head, rest) = cut_behind(1);
    let upstream = in_two(head, rest, &go_on);
    let mut gateway = Gateway::start(&config(&upstream).timeout("drain", "300ms"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    client.read_payload(openai::created().len() + openai::delta("a").len());
    leave_and_be_missed(client);
    gateway.terminate();
    gateway.wait_exit();
    let line = gateway.logged("left");
    assert_eq!(line["ended"], "client_gone", "{line}");
    go_on.send();
}

/// Whoever is still served may take as long as it likes ("0s"), but that is for those who are there.
#[test]
fn the_gateways_own_end_hardly_waits_for_what_nobody_receives() {
    let go_on = Signal::new();
    let (head, rest) = cut_behind(1);
    let upstream = in_two(head, rest, &go_on);
    let mut gateway = Gateway::start(&config(&upstream).timeout("drain", "0s"));
    let mut client = gateway.client();
    client.send(Request::streamed().id("left").bytes());
    client.begin_response();
    client.read_payload(openai::created().len() + openai::delta("a").len());
    leave_and_be_missed(client);
    gateway.terminate();
    assert!(gateway.wait_exit().success());
    let line = gateway.logged("left");
    assert_eq!(line["ended"], "client_gone", "{line}");
    let lines = gateway.log().lines();
    let told = lines.iter().find(|line| line.event() == "account_state");
    assert!(told.is_none(), "{told:?}");
    go_on.send();
}
