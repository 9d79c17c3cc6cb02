//! Connections from a tenant's clients: counted from the first request whose key is known, until they close.

use crate::capped;
use relay_tests::config::TENANT_KEY;
use relay_tests::http::chunk;
use relay_tests::{
    Account, Ending, Gateway, Mode, RawClient, Request, Response, Tenant, Upstream, eventually,
    in_each_mode, openai,
};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};

in_each_mode! {
    of_many_that_ask_at_once_as_many_pass_as_may,
    whoever_leaves_makes_room_however_they_leave,
    a_connection_moves_to_the_tenant_of_its_last_key,
    a_connection_without_a_key_is_nobodys,
    without_a_cap_there_may_be_any_number,
    a_refusal_is_on_record,
}

fn assert_refused(answer: &Response, client: &mut RawClient) {
    let error = answer.assert_refused(429, "tenant_connection_limit");
    assert_eq!(error.kind, "rate_limit_error");
    assert!(error.retryable);
    assert_eq!(answer.head.value("retry-after"), Some("1"));
    assert_eq!(answer.head.value("connection"), Some("close"));
    client.assert_closed();
}

fn of_many_that_ask_at_once_as_many_pass_as_may(mode: &Mode) {
    const CAP: usize = 5;
    const CLIENTS: usize = 40;
    let upstream = Upstream::answering(openai::plain());
    let config = capped(&upstream, CAP).account(Account::first());
    let gateway = mode.gateway(&config);
    let clients: Vec<_> = (0..CLIENTS).map(|_| gateway.client()).collect();
    let all_are_there = Barrier::new(CLIENTS);
    let answered: Vec<_> = thread::scope(|scope| {
        let ask = |mut client: RawClient| {
            let all_are_there = &all_are_there;
            scope.spawn(move || {
                all_are_there.wait();
                let answer = client.call(&Request::plain());
                // Kept, so that nobody makes room for another.
                (answer, client)
            })
        };
        let asking: Vec<_> = clients.into_iter().map(ask).collect();
        let done = asking.into_iter().map(ScopedJoinHandle::join);
        done.map(|done| done.expect("an answer")).collect()
    });
    let (passed, mut refused): (Vec<_>, Vec<_>) = answered
        .into_iter()
        .partition(|(answer, _)| answer.status() == 200);
    assert_eq!(passed.len(), CAP);
    for (answer, client) in &mut refused {
        assert_refused(answer, client);
    }
    // Those who have a place keep it.
    for (_, mut client) in passed {
        assert_eq!(client.call(&Request::plain()).status(), 200);
    }
}

/// As many clients as there is room for, and no more.
fn fill(gateway: &Gateway, cap: usize) -> Vec<RawClient> {
    let clients = (0..cap).map(|_| {
        eventually("room for another client", || {
            let mut client = gateway.client();
            let answer = client.call(&Request::plain());
            (answer.status() == 200).then_some(client)
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut one_more = gateway.client();
    assert_refused(&one_more.call(&Request::plain()), &mut one_more);
    clients
}

fn whoever_leaves_makes_room_however_they_leave(mode: &Mode) {
    const CAP: usize = 4;
    let begin_stream = |client: &mut RawClient| {
        client.send(Request::streamed().bytes());
        assert_eq!(client.begin_response().status(), 200);
        client.read_payload(openai::delta("a").len());
    };
    let ways: [(&str, &dyn Fn(RawClient)); 8] = [
        ("close", &|client| drop(client)),
        ("reset", &|client| client.reset()),
        ("say that nothing more comes", &|mut client| {
            client.half_close();
            client.assert_closed();
        }),
        ("close within a head", &|mut client| {
            client.send("GET / HTTP/1.1\r\nhost: ");
        }),
        ("reset within a body", &|mut client| {
            let request = Request::new("POST", "/v1/responses").body(b"0123456789");
            client.send(&request.bytes()[..request.bytes().len() - 5]);
            client.reset();
        }),
        ("close within a stream", &|mut client| {
            begin_stream(&mut client);
        }),
        ("reset within a stream", &|mut client| {
            begin_stream(&mut client);
            client.reset();
        }),
        ("be sent away", &|mut client| {
            client.send("GET / HTTP/1.1\r\nno field\r\n\r\n");
            assert_eq!(client.read_response().status(), 400);
            drop(client);
        }),
    ];
    let upstream = Upstream::start(|exchange| {
        if exchange.request.body == Request::plain().body_bytes() {
            exchange.send(openai::plain());
        } else {
            exchange.send(openai::STREAM_HEAD);
            exchange.send(chunk(&openai::delta("a")));
            exchange.wait_closed();
        }
    });
    let gateway = mode.gateway(&capped(&upstream, CAP).account(Account::first()));
    for (way, leave) in ways {
        let clients = fill(&gateway, CAP);
        eprintln!("{CAP} clients {way}");
        clients.into_iter().for_each(leave);
    }
    fill(&gateway, CAP);
}

const OTHER_KEY: &str = "rk-other-5d0e8a91b7c24f63";

fn a_connection_moves_to_the_tenant_of_its_last_key(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let other = Tenant::new("other", OTHER_KEY).set("connections", 1);
    let config = capped(&upstream, 1).account(Account::first()).tenant(other);
    let gateway = mode.gateway(&config);
    let call = |client: &mut RawClient, key: &str| client.call(&Request::plain().key(key));

    let (mut first, mut second) = (gateway.client(), gateway.client());
    assert_eq!(call(&mut first, TENANT_KEY).status(), 200);
    assert_eq!(call(&mut first, OTHER_KEY).status(), 200);
    // The place before was given back, the one now is taken.
    assert_eq!(call(&mut second, TENANT_KEY).status(), 200);
    let mut third = gateway.client();
    assert_refused(&call(&mut third, OTHER_KEY), &mut third);
    // A move that fails costs the connection, and with it its place.
    assert_refused(&call(&mut second, OTHER_KEY), &mut second);
    eventually("room for the first connection", || {
        let mut fourth = gateway.client();
        (call(&mut fourth, TENANT_KEY).status() == 200).then_some(())
    });
    assert_eq!(call(&mut first, OTHER_KEY).status(), 200);
}

fn a_connection_without_a_key_is_nobodys(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = mode.gateway(&capped(&upstream, 1).account(Account::first()));
    let mut others: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut others {
        client
            .call(&Request::plain().key("rk-unknown"))
            .assert_refused(401, "invalid_api_key");
        assert_eq!(client.call(&Request::get("/health")).status(), 200);
    }
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 200);
}

fn without_a_cap_there_may_be_any_number(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let other = Tenant::new("other", OTHER_KEY);
    let config = capped(&upstream, 1).account(Account::first()).tenant(other);
    let gateway = mode.gateway(&config);
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut clients {
        let answer = client.call(&Request::plain().key(OTHER_KEY));
        assert_eq!(answer.status(), 200);
    }
}

fn a_refusal_is_on_record(mode: &Mode) {
    let upstream = Upstream::answering(openai::plain());
    let gateway = mode.gateway(&capped(&upstream, 1).account(Account::first()));
    let _full = fill(&gateway, 1);
    let mut client = gateway.client();
    // Its body is not even waited for.
    let body = Request::post("/v1/responses", vec![b' '; 100_000]).id("one-too-many");
    client.send(body.head_bytes());
    let answer = client.read_response();
    assert_eq!(answer.ending, Ending::Complete);
    answer.assert_refused(429, "tenant_connection_limit");
    let logged = gateway.logged("one-too-many");
    assert_eq!(logged["code"], "tenant_connection_limit");
    assert_eq!(logged["status"], 429);
    assert_eq!(logged["tenant"], "acme");
    assert_eq!(upstream.completed(), 1);
}
