//! Requests that share a connection.

use super::{EVENTS, JSON, config};
use relay_tests::http2::{Http2Upstream, Options, Peer, ReceivedStream, code, setting};
use relay_tests::openai::{PLAIN_BODY, created};
use relay_tests::{
    Account, Authority, Config, Ending, Gateway, RawClient, Request, Tenant, TlsServer,
};
use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};

/// Answers the requests of a connection when so many of them have come there.
fn answering_together(options: Options, count: usize) -> Http2Upstream {
    let waiting: Mutex<BTreeMap<usize, Vec<u32>>> = Mutex::default();
    Http2Upstream::with(options, move |peer, request| {
        if request.value(":path") == Some("/v1/first") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        let mut waiting = waiting.lock().expect("no holder panics");
        let streams = waiting.entry(request.connection).or_default();
        streams.push(request.stream);
        if streams.len() == count {
            for stream in streams.drain(..) {
                peer.answer(stream, 200, JSON, PLAIN_BODY);
            }
        }
    })
}

fn send_at_once(gateway: &Gateway, count: usize) -> Vec<RawClient> {
    let clients = (0..count).map(|_| {
        let mut client = gateway.client();
        client.send(Request::plain().bytes());
        client
    });
    clients.collect()
}

fn assert_answered(clients: Vec<RawClient>) {
    for mut client in clients {
        let answer = client.read_response();
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    }
}

#[test]
fn those_that_come_before_there_is_one_wait_for_the_same() {
    let upstream = answering_together(Options::default(), 8);
    let gateway = Gateway::start(&config(upstream.address()));
    assert_answered(send_at_once(&gateway, 8));
    assert_eq!(upstream.connections().len(), 1);
    assert_answered(send_at_once(&gateway, 8));
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn a_connection_carries_no_more_than_either_side_allows() {
    for (ours, theirs) in [(2, 100), (32, 2)] {
        let options = Options {
            settings: vec![(setting::MAX_CONCURRENT_STREAMS, theirs)],
            ..Options::default()
        };
        let upstream = answering_together(options, 2);
        let config = config(upstream.address()).limit("upstream_http2_streams_max", ours);
        let gateway = Gateway::start(&config);
        // So that it is known what the provider allows.
        assert_eq!(gateway.call(&Request::get("/v1/first")).status(), 200);
        assert_answered(send_at_once(&gateway, 4));
        assert_eq!(upstream.connections().len(), 2, "{ours} and {theirs}");
    }
}

#[test]
fn a_client_that_does_not_read_stops_nobody_else() {
    const HEALTHY: usize = 31;
    const ENDLESS_BYTES: usize = 16 << 20;
    let upstream = Http2Upstream::start(|peer, request| {
        let body = match request.value(":path") {
            Some("/v1/frozen") => vec![b'x'; ENDLESS_BYTES],
            _ => vec![b'y'; 300_000],
        };
        peer.answer(request.stream, 200, JSON, &body);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut frozen = RawClient::connect_narrow(gateway.address(), 4096);
    frozen.send(Request::get("/v1/frozen").bytes());
    assert_eq!(
        frozen.begin_response().value("content-type"),
        Some("application/json")
    );
    for _ in 0..3 {
        assert_answered(send_at_once(&gateway, HEALTHY));
    }
    assert_eq!(upstream.connections().len(), 1);
    // It was not forgotten either.
    let (payload, ending) = frozen.finish_response();
    assert_eq!((payload.len(), ending), (ENDLESS_BYTES, Ending::Complete));
}

#[test]
fn a_client_that_leaves_takes_its_own_stream_along() {
    let upstream = Http2Upstream::start(|peer: &mut Peer, request: &ReceivedStream| {
        if request.value(":path") != Some("/v1/responses") {
            return peer.answer(request.stream, 200, JSON, PLAIN_BODY);
        }
        peer.answer_head(request.stream, 200, EVENTS, false);
        peer.queue(request.stream, &created(), false);
        peer.queue(request.stream, &relay_tests::openai::delta("one"), false);
        let reset = peer.wait("a reset", |peer| peer.incoming(request.stream).reset);
        assert_eq!(reset, code::CANCEL);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for _ in 0..3 {
        let mut client = gateway.client();
        client.send(Request::streamed().bytes());
        client.begin_response();
        client.read_payload(created().len());
        drop(client);
        let answer = gateway.call(&Request::get("/v1/models"));
        assert_eq!((answer.status(), answer.ending), (200, Ending::Complete));
    }
    assert_eq!(upstream.connections().len(), 1);
    assert!(!upstream.connections()[0].is_over);
}

#[test]
fn one_that_is_idle_or_old_ends_in_order() {
    let upstream = Http2Upstream::answering("application/json", PLAIN_BODY);
    let config = config(upstream.address())
        .timeout("pool_idle", "1s")
        .timeout("pool_age", "1s");
    let gateway = Gateway::start(&config);
    // Never idle for so long.
    relay_tests::eventually("the first one is too old", || {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
        (upstream.connections().len() > 1).then_some(())
    });
    upstream.wait_for("both end", |record| {
        let mut all = record.connections.iter();
        all.all(|connection| connection.is_over).then_some(())
    });
    assert_eq!(gateway.call(&Request::plain()).status(), 200);
    assert_eq!(upstream.connections().len(), 3);
}

#[test]
fn its_place_counts_once_for_the_account() {
    let upstream = answering_together(Options::default(), 4);
    let account = Account::first().set("max_connections", 1);
    let config = Config::for_upstream(upstream.address()).protocol("openai", "http2");
    let gateway = Gateway::start(&config.account(account));
    for _ in 0..2 {
        assert_answered(send_at_once(&gateway, 4));
    }
    assert_eq!(upstream.connections().len(), 1);
    let labels = ["account=\"first\""];
    assert_eq!(gateway.metric("relay_account_connections", &labels), 1.0);
}

#[test]
fn so_it_does_where_the_provider_has_chosen_http_2() {
    let authority = Authority::default();
    let options = Options {
        tls: Some(TlsServer::new(&authority.server(&["127.0.0.1"])).alpn(&["h2", "http/1.1"])),
        ..Options::default()
    };
    let upstream = answering_together(options, 4);
    let config = Config::bare()
        .upstream("openai", &format!("https://{}", upstream.address()))
        .trust("openai", &authority)
        .protocol("openai", "auto")
        .tenant(Tenant::acme())
        .account(Account::first().set("max_connections", 1));
    let gateway = Gateway::start(&config);
    // At first nobody knows what it will choose.
    for _ in 0..2 {
        assert_answered(send_at_once(&gateway, 4));
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn an_idle_one_makes_room_for_another_address() {
    let upstream = Http2Upstream::answering("application/json", PLAIN_BODY);
    let account = Account::first()
        .egress("127.0.7.2")
        .set("max_connections", 1);
    let config = Config::for_upstream(upstream.address()).protocol("openai", "http2");
    let gateway = Gateway::start(&config.account(account));
    // Each of them goes from the other address than the one before.
    for _ in 0..6 {
        assert_eq!(gateway.call(&Request::plain()).status(), 200);
    }
    assert_eq!(upstream.connections().len(), 6);
}

#[test]
fn no_more_idle_ones_are_kept_than_is_wanted() {
    let both = Barrier::new(2);
    let upstream = Http2Upstream::start(move |peer, request| {
        if request.value(":path") == Some("/v1/responses") {
            both.wait();
        }
        peer.answer(request.stream, 200, JSON, PLAIN_BODY);
    });
    let config = config(upstream.address())
        .limit("upstream_http2_streams_max", 1)
        .limit("pool_idle_max", 1);
    let gateway = Gateway::start(&config);
    assert_answered(send_at_once(&gateway, 2));
    upstream.wait_for("one of them ends", |record| {
        let over = record.connections.iter().filter(|one| one.is_over);
        (over.count() == 1).then_some(())
    });
    assert_eq!(gateway.call(&Request::get("/v1/models")).status(), 200);
    assert_eq!(upstream.connections().len(), 2);
}
