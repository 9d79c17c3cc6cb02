//! How a WebSocket ends: each side hears of it, nothing of it is left, and the connection serves nobody else.

use super::{config, echo, provider};
use relay_tests::websocket::{
    ClientSocket, CloseCode, CloseFrame, Error, Message, ProviderSocket, closed, completed, create,
    created, ended, next, open, respond, upgrade,
};
use relay_tests::{Exchange, Gateway, Request, Signal, Upstream, eventually, openai};
use serde_json::Value;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Says how the gateway has closed the provider's end.
type Heard = mpsc::Receiver<Option<(u16, String)>>;

/// A provider that reports the close that it gets; `None`: it got none.
fn listening(talk: impl Fn(&mut ProviderSocket<'_>) + Send + Sync + 'static) -> (Upstream, Heard) {
    let (sender, heard) = mpsc::channel();
    let upstream = provider(move |socket| {
        talk(socket);
        let close = loop {
            match socket.read() {
                Ok(Message::Close(frame)) => {
                    let _ = socket.flush();
                    break frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        let _ = sender.send(close);
    });
    (upstream, heard)
}

fn heard_code(heard: &Heard) -> Option<u16> {
    let close = heard.recv_timeout(relay_tests::DEADLINE).expect("an end");
    close.map(|(code, _)| code)
}

/// Nothing is in flight any more, no place is taken, and the next one is on a connection of its own.
fn assert_nothing_left(gateway: &Gateway) {
    for (metric, label) in [
        ("relay_tenant_requests_in_flight", "tenant=\"acme\""),
        ("relay_tenant_websockets", "tenant=\"acme\""),
        ("relay_account_requests_in_flight", "account=\"first\""),
        ("relay_streams_open", ""),
        ("relay_upstream_connections_idle", ""),
    ] {
        let labels: &[&str] = if label.is_empty() { &[] } else { &[label] };
        eventually(metric, || {
            (gateway.metric(metric, labels) == 0.0).then_some(())
        });
    }
}

/// The record of the WebSocket itself.
fn record(gateway: &Gateway, id: &str) -> Value {
    gateway.log().wait_for(id, |lines| {
        let mut lines = lines.iter().map(|line| &line.json);
        lines
            .find(|line| line["request_id"] == id && line["status"] == 101)
            .cloned()
    })
}

fn assert_closed_by(record: &Value, by: &str, code: u16) {
    let found = (
        &record["closed_by"],
        &record["close_code"],
        &record["ended"],
    );
    assert_eq!(
        found,
        (&by.into(), &code.into(), &"complete".into()),
        "{record}"
    );
}

#[test]
fn a_close_goes_from_end_to_end_whoever_begins() {
    let frame = || CloseFrame {
        code: CloseCode::from(3001),
        reason: "enough".into(),
    };
    let (upstream, heard) = listening(|_| {});
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade().id("by-client"));
    socket.close(Some(frame())).unwrap();
    let answer = closed(&mut socket);
    assert_eq!(answer.map(|(code, _)| code), Some(3001));
    ended(&mut socket);
    assert_eq!(heard.recv().unwrap(), Some((3001, "enough".to_owned())));
    assert_closed_by(&record(&gateway, "by-client"), "client", 3001);
    assert_nothing_left(&gateway);

    let (upstream, heard) = listening(move |socket| socket.close(Some(frame())).unwrap());
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade().id("by-provider"));
    assert_eq!(closed(&mut socket), Some((3001, "enough".to_owned())));
    ended(&mut socket);
    assert_eq!(heard_code(&heard), Some(3001));
    assert_closed_by(&record(&gateway, "by-provider"), "provider", 3001);
    assert_nothing_left(&gateway);
}

#[test]
fn no_connection_is_used_again() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    for number in 1..=3 {
        let (_, mut socket) = open(gateway.address(), &upgrade());
        socket.close(None).unwrap();
        ended(&mut socket);
        assert_eq!(upstream.connection_count(), number);
        assert_nothing_left(&gateway);
    }
}

#[test]
fn a_client_that_is_gone_is_told_to_its_provider() {
    // Many leave without a word when they have what they wanted.
    for (resets, asks, wanted) in [
        (false, false, "complete"),
        (true, false, "complete"),
        (false, true, "client_gone"),
        (true, true, "client_gone"),
    ] {
        let (upstream, heard) = listening(move |socket| {
            if asks {
                next(socket);
                socket.send(Message::text(created("resp_1"))).unwrap();
            }
        });
        let gateway = Gateway::start(&config(upstream.address()));
        let (_, mut socket) = open(gateway.address(), &upgrade().id("gone"));
        if asks {
            socket.send(create("gpt-5")).unwrap();
            next(&mut socket);
        }
        let wire = socket.into_inner();
        if resets {
            wire.reset_on_drop();
        }
        drop(wire);
        upstream.wait_ended(0);
        assert_eq!(heard_code(&heard), Some(1001));
        let record = record(&gateway, "gone");
        assert_eq!(
            (&record["ended"], &record["closed_by"]),
            (&wanted.into(), &Value::Null)
        );
        assert_nothing_left(&gateway);
    }
}

#[test]
fn a_client_that_leaves_while_its_provider_takes_nothing_is_noticed() {
    let over = Signal::new();
    let upstream = {
        let over = over.clone();
        // It reads nothing as long as anybody looks.
        provider(move |_| over.wait())
    };
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade().id("gone"));
    socket
        .get_ref()
        .socket()
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    while socket.send(Message::binary(vec![0; 64 * 1024])).is_ok() {}
    // An end in order would come behind what cannot be sent.
    socket.get_ref().reset_on_drop();
    drop(socket);
    assert_eq!(record(&gateway, "gone")["ended"], "client_gone");
    assert_nothing_left(&gateway);
    over.send();
}

#[test]
fn a_provider_that_is_gone_is_told_to_its_client() {
    for resets in [false, true] {
        let upstream = Upstream::start(move |exchange: &mut Exchange| {
            let head = relay_tests::websocket::switching(exchange, &[]);
            exchange.send(&head);
            if resets {
                exchange.reset();
            } else {
                exchange.close();
            }
        });
        let gateway = Gateway::start(&config(upstream.address()));
        let (_, mut socket) = open(gateway.address(), &upgrade().id("broken"));
        assert_eq!(closed(&mut socket).map(|(code, _)| code), Some(1011));
        ended(&mut socket);
        assert_eq!(record(&gateway, "broken")["ended"], "upstream_broken");
        assert_nothing_left(&gateway);
    }
}

#[test]
fn a_client_that_breaks_the_protocol_is_closed_and_so_is_its_provider() {
    let too_long = [&[0x82, 0xfe, 0x04, 0x01, 0, 0, 0, 0][..], &[0; 1025]].concat();
    for (bytes, code) in [
        (&b"\x81\x02hi"[..], 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\x81\x82\x00\x00\x00\x00hi\x00\x80\x00\x00\x00\x00", 1002),
        (b"\xc1\x80\x00\x00\x00\x00", 1002),
        (b"\x88\x82\x00\x00\x00\x00\x03\xed", 1002),
        (&too_long, 1009),
    ] {
        let (upstream, heard) = listening(|_| {});
        let config = config(upstream.address()).limit("websocket_message_bytes_max", 1024);
        let gateway = Gateway::start(&config);
        let (_, mut socket) = open(gateway.address(), &upgrade().id("broken"));
        socket.get_mut().write_all(bytes).unwrap();
        assert_eq!(
            closed(&mut socket).map(|(code, _)| code),
            Some(code),
            "{bytes:x?}"
        );
        assert_eq!(heard_code(&heard), Some(code), "{bytes:x?}");
        let record = record(&gateway, "broken");
        assert_eq!(record["ended"], "refused", "{record}");
        assert_eq!(record["closed_by"], "gateway", "{record}");
        assert_eq!(record["close_code"], code, "{record}");
        assert!(
            record["code"].as_str().unwrap().starts_with("websocket_"),
            "{record}"
        );
        assert_nothing_left(&gateway);
    }
}

#[test]
fn a_provider_that_breaks_the_protocol_is_closed_and_so_is_its_client() {
    for (bytes, code) in [
        (&b"\x81\x82\x00\x00\x00\x00hi"[..], 1002),
        (b"\x83\x00", 1002),
        (b"\x81\x7e\x00\x02hi", 1002),
        (b"\x81\x7e\x04\x01", 1009),
    ] {
        let upstream = Upstream::start(move |exchange: &mut Exchange| {
            let head = relay_tests::websocket::switching(exchange, &[]);
            exchange.send(&head);
            exchange.send(bytes);
            exchange.wait_closed();
        });
        let config = config(upstream.address()).limit("websocket_message_bytes_max", 1024);
        let gateway = Gateway::start(&config);
        let (_, mut socket) = open(gateway.address(), &upgrade());
        assert_eq!(
            closed(&mut socket).map(|(code, _)| code),
            Some(code),
            "{bytes:x?}"
        );
        upstream.wait_ended(0);
        let received = upstream.connections()[0].received.clone();
        let close = received
            .windows(2)
            .rposition(|pair| pair[0] == 0x88 && pair[1] & 0x80 != 0);
        assert!(close.is_some(), "no close with a mask");
        assert_nothing_left(&gateway);
    }
}

#[test]
fn silence_and_age_end_it() {
    let (upstream, heard) = listening(|_| {});
    let idle = config(upstream.address()).timeout("websocket_idle", "300ms");
    let gateway = Gateway::start(&idle);
    let (_, mut socket) = open(gateway.address(), &upgrade().id("idle"));
    assert_eq!(closed(&mut socket).map(|(code, _)| code), Some(1001));
    assert_eq!(heard_code(&heard), Some(1001));
    assert_eq!(record(&gateway, "idle")["ended"], "idle_timeout");
    assert_nothing_left(&gateway);

    let (upstream, heard) = listening(|_| {});
    let old = config(upstream.address())
        .timeout("websocket_idle", "600ms")
        .timeout("websocket_total", "900ms");
    let gateway = Gateway::start(&old);
    let began_at = Instant::now();
    let (_, mut socket) = open(gateway.address(), &upgrade().id("old"));
    socket.get_ref().set_patience(Duration::from_millis(50));
    let close = loop {
        match socket.read() {
            Ok(Message::Close(frame)) => break frame,
            Ok(_) => {}
            Err(Error::Io(_)) => {
                // It is never silent for long.
                let _ = socket.send(Message::Ping("still here".into()));
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(close.map(|frame| frame.code.into()), Some(1001_u16));
    assert!(began_at.elapsed() >= Duration::from_millis(900));
    assert_eq!(heard_code(&heard), Some(1001));
    assert_eq!(record(&gateway, "old")["ended"], "total_timeout");
    assert_nothing_left(&gateway);
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let upstream = provider(
        |socket| {
            while socket.send(Message::binary(vec![0; 64 * 1024])).is_ok() {}
        },
    );
    let gateway = Gateway::start(&config(upstream.address()).timeout("write_stall", "500ms"));
    let (_, _socket) = open(gateway.address(), &upgrade().id("stalled"));
    assert_eq!(record(&gateway, "stalled")["ended"], "client_stalled");
    assert_nothing_left(&gateway);
}

fn read_close(socket: &mut ClientSocket) -> Option<u16> {
    closed(socket).map(|(code, _)| code)
}

#[test]
fn a_gateway_that_ends_closes_those_where_nothing_is_asked_for() {
    let (upstream, heard) = listening(|_| {});
    let mut gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade().id("idle"));
    gateway.terminate();
    assert_eq!(read_close(&mut socket), Some(1001));
    assert_eq!(heard_code(&heard), Some(1001));
    assert!(gateway.wait_exit().success());
    assert_eq!(record(&gateway, "idle")["ended"], "shutdown");
}

#[test]
fn a_gateway_that_ends_lets_a_response_come_to_its_end() {
    let go_on = Signal::new();
    let (upstream, heard) = {
        let go_on = go_on.clone();
        listening(move |socket| {
            next(socket);
            socket.send(Message::text(created("resp_1"))).unwrap();
            go_on.wait();
            socket.send(Message::text(completed("resp_1", 7))).unwrap();
        })
    };
    let mut gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    socket.send(create("gpt-5")).unwrap();
    assert_eq!(next(&mut socket), Message::text(created("resp_1")));
    gateway.terminate();
    gateway.log().wait_event("draining");
    go_on.send();
    assert_eq!(next(&mut socket), Message::text(completed("resp_1", 7)));
    assert_eq!(read_close(&mut socket), Some(1001));
    assert_eq!(heard_code(&heard), Some(1001));
    assert!(gateway.wait_exit().success());
}

#[test]
fn the_end_of_the_drain_ends_what_still_runs() {
    let (upstream, _heard) = listening(|socket| {
        next(socket);
        socket.send(Message::text(created("resp_1"))).unwrap();
    });
    let config = config(upstream.address()).timeout("drain", "500ms");
    let mut gateway = Gateway::start(&config);
    let (_, mut socket) = open(gateway.address(), &upgrade().id("running"));
    socket.send(create("gpt-5")).unwrap();
    assert_eq!(next(&mut socket), Message::text(created("resp_1")));
    gateway.terminate();
    assert_eq!(read_close(&mut socket), Some(1001));
    gateway.wait_exit();
    assert_eq!(record(&gateway, "running")["ended"], "shutdown");
}

#[test]
fn what_is_behind_it_is_an_ordinary_gateway() {
    let upstream = Upstream::start(|exchange: &mut Exchange| {
        if exchange.request.method == "GET" {
            exchange.websocket(&[], respond);
        } else {
            exchange.send(openai::plain());
        }
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut client = gateway.client();
    assert_eq!(client.call(&Request::plain()).status(), 200);
    let (_, mut socket) = open(gateway.address(), &upgrade());
    socket.send(create("gpt-5")).unwrap();
    assert_eq!(next(&mut socket), Message::text(created("resp_1")));
    assert_eq!(client.call(&Request::plain()).status(), 200);
    drop(socket);
    assert_eq!(client.call(&Request::plain()).status(), 200);
}
