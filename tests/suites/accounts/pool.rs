//! Connections that are kept for the next request.

use crate::config;
use relay_tests::http::{LAST_CHUNK, chunk, response};
use relay_tests::{Account, Exchange, Gateway, Request, Signal, Upstream, openai};

#[test]
fn a_connection_that_the_upstream_closed_meanwhile_is_no_error() {
    for reset in [false, true] {
        let upstream = Upstream::start(move |exchange| {
            exchange.send(openai::plain());
            // Nothing in the answer announces it.
            if reset {
                exchange.reset();
            } else {
                exchange.close();
            }
        });
        let gateway = Gateway::start(&config(&upstream, [Account::first()]));
        let mut client = gateway.client();
        for _ in 0..50 {
            let answer = client.call(&Request::plain());
            assert_eq!(answer.payload, openai::PLAIN_BODY);
        }
        assert_eq!(upstream.connection_count(), 50);
    }
}

#[test]
fn a_connection_that_the_upstream_closes_as_the_request_arrives_is_no_error() {
    for reset in [false, true] {
        let upstream =
            Upstream::start(
                move |exchange| match (exchange.request.number_on_connection, reset) {
                    (0, _) => drop(exchange.send(openai::plain())),
                    (_, true) => exchange.reset(),
                    (_, false) => exchange.close(),
                },
            );
        let gateway = Gateway::start(&config(&upstream, [Account::first()]));
        let mut client = gateway.client();
        for number in 0..20 {
            let id = format!("kept-{number}");
            let answer = client.call(&Request::plain().id(&id));
            assert_eq!(answer.payload, openai::PLAIN_BODY, "{answer:?}");
        }
        // The same request, byte for byte, on the new connection.
        let body = Request::plain();
        assert!(
            upstream
                .requests()
                .iter()
                .all(|request| request.body == body.body_bytes())
        );
    }
}

#[test]
fn a_fresh_connection_that_breaks_is_an_error() {
    let upstream = Upstream::start(Exchange::close);
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    gateway
        .call(&Request::plain())
        .assert_refused(502, "upstream_error");
    assert_eq!(
        upstream.connection_count(),
        1,
        "it was tried again without an alternative"
    );
}

#[test]
fn a_kept_connection_that_breaks_inside_the_answer_is_an_error() {
    let upstream = Upstream::start(|exchange| {
        if exchange.request.number_on_connection == 0 {
            exchange.send(openai::plain());
        } else {
            exchange.send(b"HTTP/1.1 200 O");
            exchange.close();
        }
    });
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 200);
    client
        .call(&Request::plain())
        .assert_refused(502, "upstream_error");
    assert_eq!(upstream.completed(), 2);
}

#[test]
fn connections_are_kept_after_every_kind_of_whole_answer() {
    let answers = [
        openai::plain(),
        [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            &chunk(b"hello")[..],
            LAST_CHUNK,
        ]
        .concat(),
        openai::stream(&["a"]),
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        response(404, &[], b"not found"),
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        openai::plain(),
    ];
    let count = answers.len();
    let upstream = Upstream::start(move |exchange| {
        exchange.send(&answers[exchange.request.number]);
    });
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    for _ in 0..count {
        // Even for clients that come and go.
        gateway.call(&Request::plain());
    }
    assert_eq!(
        (upstream.completed(), upstream.connection_count()),
        (count, 1)
    );
}

#[test]
fn connections_are_not_kept_where_the_upstream_says_so() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: foo, CLOSE\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ];
    let upstream = Upstream::start(move |exchange| {
        exchange.send(answers[exchange.request.number]);
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    let mut client = gateway.client();
    for index in 0..answers.len() {
        let answer = client.call(&Request::plain());
        assert_eq!(answer.payload, b"ok");
        assert_eq!(
            answer.head.value("connection"),
            None,
            "that is the upstream's affair"
        );
        upstream.wait_ended(index);
    }
    assert_eq!(upstream.connection_count(), answers.len());
}

#[test]
fn concurrent_requests_have_connections_of_their_own() {
    let (reached, go_on) = (Signal::new(), Signal::new());
    let upstream = Upstream::start({
        let (reached, go_on) = (reached.clone(), go_on.clone());
        move |exchange| {
            reached.send();
            go_on.wait();
            let target = exchange.request.target.clone();
            exchange.send(response(200, &[], target.as_bytes()));
        }
    });
    let gateway = Gateway::start(&config(&upstream, [Account::first()]));
    for _ in 0..3 {
        let mut clients: Vec<_> = (0..10)
            .map(|number| {
                let mut client = gateway.client();
                client.send(Request::get(&format!("/v1/number/{number}")).bytes());
                reached.wait();
                client
            })
            .collect();
        (0..10).for_each(|_| go_on.send());
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(
                client.read_response().payload,
                format!("/v1/number/{number}").as_bytes()
            );
        }
        assert_eq!(
            upstream.connection_count(),
            10,
            "all are kept and used again"
        );
    }
}
