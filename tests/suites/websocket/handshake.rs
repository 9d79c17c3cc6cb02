//! Who gets a WebSocket, what its provider is told, and what everybody else hears.

use super::{config, echo, provider};
use relay_tests::config::{ACCOUNT_KEY, TENANT_KEY};
use relay_tests::dead_end::Refusing;
use relay_tests::http::response;
use relay_tests::websocket::{Message, next, open, switching, upgrade};
use relay_tests::{Account, Config, Exchange, Gateway, Request, Upstream, openai};

#[test]
fn where_none_is_offered_the_answer_is_426_and_the_connection_goes_on() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut client = gateway.client();
    let answer = client.call(&upgrade().id("no-websocket"));
    answer.assert_refused(426, "websocket_not_offered");
    assert_eq!(answer.head.value("upgrade"), Some("HTTP/1.1"));
    assert_eq!(answer.head.value("connection"), Some("upgrade"));
    assert_eq!(client.call(&Request::plain()).status(), 200);
    assert_eq!(upstream.completed(), 1);
    assert_eq!(gateway.logged("no-websocket")["status"], 426);
}

#[test]
fn only_the_responses_api_is_spoken_in_one() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    let upgrade = String::from_utf8(upgrade().bytes()).unwrap();
    for path in [
        "/v1/realtime",
        "/v1/responses/resp_1",
        "/v1/models",
        "/v1/chat/completions",
    ] {
        let mut client = gateway.client();
        client.send(upgrade.replacen("/v1/responses", path, 1));
        client
            .read_response()
            .assert_refused(426, "websocket_not_offered");
    }
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn whoever_is_not_known_hears_that_first() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    let unknown = upgrade().key("rk-nobody");
    gateway
        .call(&unknown)
        .assert_refused(401, "invalid_api_key");
    let without = upgrade().without("Authorization");
    gateway
        .call(&without)
        .assert_refused(401, "missing_api_key");
}

#[test]
fn what_is_not_asked_for_as_it_should_be() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    let key = "Sec-WebSocket-Key";
    for request in [
        upgrade().without("Connection"),
        upgrade()
            .without("Connection")
            .field("Connection", "keep-alive"),
        upgrade().without(key),
        upgrade().without(key).field(key, "too short"),
        upgrade()
            .without(key)
            .field(key, "dGhlIHNhbXBsZSBub25jZQ=!"),
        upgrade().field(key, "dGhlIHNhbXBsZSBub25jZQ=="),
        upgrade().without("Sec-WebSocket-Version"),
        upgrade().field("Sec-WebSocket-Version", "13"),
        upgrade().body("{}"),
    ] {
        gateway.call(&request).assert_refused(400, "bad_request");
    }
    for version in ["12", "8", "13, 8", "0013"] {
        let request = upgrade()
            .without("Sec-WebSocket-Version")
            .field("Sec-WebSocket-Version", version);
        let answer = gateway.call(&request);
        answer.assert_refused(426, "websocket_version_not_supported");
        assert_eq!(answer.head.value("sec-websocket-version"), Some("13"));
        assert_eq!(answer.head.value("upgrade"), Some("websocket"));
    }
    assert_eq!(upstream.connection_count(), 0);
    // Names and tokens are found in any case, and in lists.
    let request = upgrade()
        .without("Connection")
        .field("connection", "keep-alive, UPGRADE")
        .without("Upgrade")
        .field("UPGRADE", "h2c, WebSocket");
    let (_, mut socket) = open(gateway.address(), &request);
    socket.send(Message::text("here")).unwrap();
    assert_eq!(next(&mut socket), Message::text("here"));
}

#[test]
fn upgrade_elsewhere_opens_nothing() {
    let upstream = Upstream::answering(openai::plain());
    let gateway = Gateway::start(&config(upstream.address()));
    let other = upgrade().without("Upgrade").field("Upgrade", "h2c");
    let posted = Request::plain()
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    for request in [other, posted, upgrade().http10()] {
        assert_eq!(gateway.call(&request).status(), 200);
    }
    for received in upstream.requests() {
        for field in [
            "upgrade",
            "connection",
            "sec-websocket-key",
            "sec-websocket-version",
        ] {
            assert_eq!(received.head.value(field), None, "{received:?}");
        }
    }
}

#[test]
fn the_provider_is_asked_with_the_account_s_key_and_the_client_s_handshake() {
    let upstream = Upstream::start(|exchange: &mut Exchange| {
        let fields = [
            ("sec-websocket-protocol", "two"),
            ("x-codex-turn-state", "opaque"),
            ("set-cookie", "no=1"),
            ("content-length", "0"),
        ];
        exchange.websocket(&fields, echo);
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let request = upgrade()
        .field("Sec-WebSocket-Protocol", "one, two")
        .field("session-id", "conversation")
        .field("openai-beta", "responses_websockets=2026-02-06")
        .field("Cookie", "no=1")
        .field("Sec-WebSocket-Extra", "no");
    let (head, mut socket) = open(gateway.address(), &request);
    assert_eq!(head.value("sec-websocket-protocol"), Some("two"));
    assert_eq!(head.value("x-codex-turn-state"), Some("opaque"));
    assert_eq!(head.value("x-relay-attempts"), Some("1"));
    for absent in [
        "set-cookie",
        "content-length",
        "transfer-encoding",
        "sec-websocket-extensions",
    ] {
        assert_eq!(head.value(absent), None, "{head:?}");
    }
    socket.send(Message::text("here")).unwrap();
    assert_eq!(next(&mut socket), Message::text("here"));
    let asked = upstream.only_request();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("GET", "/v1/responses")
    );
    for (name, value) in [
        ("authorization", format!("Bearer {ACCOUNT_KEY}")),
        ("connection", "Upgrade".to_owned()),
        ("upgrade", "websocket".to_owned()),
        ("sec-websocket-version", "13".to_owned()),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
        ("sec-websocket-protocol", "one, two".to_owned()),
        ("session-id", "conversation".to_owned()),
        ("openai-beta", "responses_websockets=2026-02-06".to_owned()),
    ] {
        assert_eq!(asked.head.value(name), Some(value.as_str()), "{asked:?}");
    }
    for absent in ["cookie", "sec-websocket-extra", "content-length"] {
        assert_eq!(asked.head.value(absent), None, "{asked:?}");
    }
    let received = upstream.connections()[0].received.clone();
    let received = String::from_utf8_lossy(&received).into_owned();
    assert!(!received.contains(TENANT_KEY));
}

#[test]
fn extensions_are_never_offered() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    let offer = "permessage-deflate; client_max_window_bits";
    let (head, _socket) = open(
        gateway.address(),
        &upgrade().field("Sec-WebSocket-Extensions", offer),
    );
    assert_eq!(head.value("sec-websocket-extensions"), None);
    let asked = upstream.only_request();
    assert_eq!(asked.head.value("sec-websocket-extensions"), None);
}

#[test]
fn a_provider_that_agrees_to_something_else_is_not_believed() {
    let good = |exchange: &Exchange| String::from_utf8(switching(exchange, &[])).unwrap();
    let spoil: [fn(String) -> String; 9] = [
        |head| head.replace("sec-websocket-accept: ", "sec-websocket-accept: x"),
        |head| head.replace("sec-websocket-accept", "sec-websocket-except"),
        |head| head.replace("connection: Upgrade", "connection: close"),
        |head| head.replace("upgrade: websocket", "upgrade: h2c"),
        |head| head.replace("upgrade: websocket\r\n", ""),
        |head| head.replace("HTTP/1.1 101", "HTTP/1.0 101"),
        |head| {
            head.replace(
                "\r\n\r\n",
                "\r\nsec-websocket-protocol: never-offered\r\n\r\n",
            )
        },
        |head| {
            head.replace(
                "\r\n\r\n",
                "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
            )
        },
        |head| head.replace("\r\n\r\n", "\r\nsec-websocket-accept: x\r\n\r\n"),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let upstream = Upstream::start(move |exchange: &mut Exchange| {
            let head = spoil(good(exchange));
            exchange.send(head);
            exchange.wait_closed();
        });
        let gateway = Gateway::start(&config(upstream.address()));
        let answer = gateway.call(&upgrade().field("Sec-WebSocket-Protocol", "one"));
        let error = answer.gateway_error();
        assert_eq!(
            (answer.status(), error.code.as_str()),
            (502, "upstream_error"),
            "{number}"
        );
        upstream.wait_ended(0);
    }
}

#[test]
fn a_switch_that_nobody_has_asked_for_is_none() {
    let upstream = Upstream::start(|exchange: &mut Exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        );
        exchange.wait_closed();
    });
    let gateway = Gateway::start(&config(upstream.address()));
    for request in [Request::plain(), Request::get("/v1/models")] {
        assert_eq!(gateway.call(&request).status(), 502);
    }
}

#[test]
fn a_provider_that_opens_none_is_no_fault_of_the_account() {
    for status in [200, 400, 401, 403, 404, 405, 426, 501] {
        let upstream = Upstream::start(move |exchange: &mut Exchange| {
            if exchange.request.method == "GET" {
                exchange.send(response(status, &[("content-type", "text/plain")], b"no"));
            } else {
                exchange.send(openai::plain());
            }
        });
        let gateway = Gateway::start(&config(upstream.address()));
        let mut client = gateway.client();
        for _ in 0..5 {
            let answer = client.call(&upgrade());
            answer.assert_refused(426, "websocket_not_offered");
        }
        assert_eq!(client.call(&Request::plain()).status(), 200, "{status}");
        assert_eq!(upstream.requests().len(), 6, "{status}");
    }
}

#[test]
fn another_account_is_asked_before_the_provider_has_agreed() {
    for status in [429, 500, 503] {
        let upstream = Upstream::start(move |exchange: &mut Exchange| {
            if exchange.request.number == 0 {
                exchange.send(openai::error(status, "some_code", &[]));
            } else {
                exchange.websocket(&[], echo);
            }
        });
        let config = Config::for_upstream(upstream.address())
            .account(Account::new("a", "127.0.7.1"))
            .account(Account::new("b", "127.0.7.2"))
            .websocket();
        let gateway = Gateway::start(&config);
        let (head, mut socket) = open(gateway.address(), &upgrade());
        assert_eq!(head.value("x-relay-attempts"), Some("2"), "{status}");
        socket.send(Message::text("here")).unwrap();
        assert_eq!(next(&mut socket), Message::text("here"));
        let asked = upstream.requests();
        let key = |index: usize| asked[index].head.value("authorization").map(str::to_owned);
        assert_ne!(key(0), key(1), "{status}");
    }
}

#[test]
fn nobody_there_is_an_ordinary_refusal() {
    let refusing = Refusing::start();
    let gateway = Gateway::start(&config(refusing.address()).limit("attempts_max", 1));
    gateway
        .call(&upgrade())
        .assert_refused(502, "upstream_error");
}
