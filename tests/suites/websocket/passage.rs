//! What either side says arrives as it was said.

use super::{config, echo, provider};
use relay_tests::request::HOST;
use relay_tests::websocket::{
    ClientSocket, Message, WebSocket, closed, next, open, over, switch, switching, upgrade,
};
use relay_tests::{
    Authority, Config, Exchange, Gateway, ListenerTls, Signal, TlsClient, TlsServer, Upstream,
    Wire, eventually,
};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn messages_of_all_sizes_come_back_as_they_were() {
    let upstream = provider(echo);
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    for length in [0, 1, 125, 126, 1000, 65_535, 65_536, 3_000_000] {
        let text = "ä".repeat(length / 2) + &"x".repeat(length % 2);
        socket.send(Message::text(text.clone())).unwrap();
        assert_eq!(next(&mut socket), Message::text(text), "{length}");
        let binary: Vec<u8> = (0..length).map(|index| index as u8).collect();
        socket.send(Message::binary(binary.clone())).unwrap();
        assert_eq!(next(&mut socket), Message::binary(binary), "{length}");
    }
    socket.close(None).unwrap();
    assert_eq!(closed(&mut socket), None);
}

#[test]
fn pings_and_pongs_go_from_end_to_end() {
    let upstream = provider(|socket| {
        socket
            .send(Message::Ping("from the provider".into()))
            .unwrap();
        loop {
            match socket.read() {
                Ok(Message::Pong(payload)) => {
                    let text = format!("pong: {}", String::from_utf8_lossy(&payload));
                    socket.send(Message::text(text)).unwrap();
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    socket
        .send(Message::Ping("from the client".into()))
        .unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let message = socket.read().unwrap();
        socket.flush().unwrap();
        heard.push(message);
    }
    assert!(
        heard.contains(&Message::Ping("from the provider".into())),
        "{heard:?}"
    );
    assert!(
        heard.contains(&Message::Pong("from the client".into())),
        "{heard:?}"
    );
    assert!(
        heard.contains(&Message::text("pong: from the provider")),
        "{heard:?}"
    );
}

/// A frame of a client's, masked with zeroes, and one of a provider's.
fn frames(first: u8, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    assert!(payload.len() < 126);
    let length = payload.len() as u8;
    let client = [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat();
    let provider = [&[first, length], payload].concat();
    (client, provider)
}

#[test]
fn frames_pass_as_they_are_however_they_come() {
    // A message in three parts, with a ping between them, as no library would send it.
    let parts: [(u8, &[u8]); 5] = [
        (0x01, b"{\"type\":"),
        (0x89, b"between"),
        (0x00, b""),
        (0x80, b"\"response.cancel\"}"),
        (0x88, b"\x03\xe8bye"),
    ];
    let from_client: Vec<u8> = parts
        .iter()
        .flat_map(|(first, payload)| frames(*first, payload).0)
        .collect();
    let from_provider: Vec<u8> = parts
        .iter()
        .flat_map(|(first, payload)| frames(*first, payload).1)
        .collect();
    let upstream = {
        let from_provider = from_provider.clone();
        Upstream::start(move |exchange: &mut Exchange| {
            let head = switching(exchange, &[]);
            exchange.send(&head);
            exchange.send_bytewise(&from_provider);
            exchange.wait_closed();
        })
    };
    let gateway = Gateway::start(&config(upstream.address()));
    for pieces in [1, 3, 1000] {
        let wire = Wire::connect(gateway.address());
        let (_, mut wire, mut heard) = switch(wire, &upgrade().bytes());
        for piece in from_client.chunks(pieces) {
            wire.write_all(piece).unwrap();
        }
        wire.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, from_provider, "in pieces of {pieces}");
    }
    for index in 0..3 {
        upstream.wait_ended(index);
        let received = upstream.connections()[index].received.clone();
        assert!(received.ends_with(&from_client), "{index}");
    }
}

#[test]
fn what_comes_right_behind_either_head_is_not_lost() {
    let upstream = Upstream::start(|exchange: &mut Exchange| {
        let mut head = switching(exchange, &[]);
        head.extend(frames(0x81, b"early bird").1);
        exchange.websocket_with(&head, |socket| {
            let heard = next(socket);
            socket.send(heard).unwrap();
            let _ = socket.read();
        });
    });
    let gateway = Gateway::start(&config(upstream.address()));
    let mut bytes = upgrade().bytes();
    bytes.extend(frames(0x82, b"impatient").0);
    let (_, mut socket) = over(Wire::connect(gateway.address()), &bytes);
    assert_eq!(next(&mut socket), Message::text("early bird"));
    assert_eq!(next(&mut socket), Message::binary(&b"impatient"[..]));
}

/// More than all buffers on the way hold.
const MUCH: u32 = 1200;
/// Until nobody can be thought to take any more.
const PATIENCE: Duration = Duration::from_millis(400);

fn big(number: u32) -> Message {
    Message::binary(vec![number as u8; 64 * 1024])
}

/// Sends until nothing more is taken, and says how many messages that were; the last one is not all out.
fn send_until_stalled(socket: &mut WebSocket<impl Read + Write>) -> u32 {
    let stalled = (0..MUCH).find(|number| socket.send(big(*number)).is_err());
    stalled.expect("everything was taken though nobody reads")
}

/// Sends the rest.
fn send_on(socket: &mut WebSocket<impl Read + Write>, stalled: u32) {
    eventually("room again", || socket.flush().is_ok().then_some(()));
    for number in stalled + 1..MUCH {
        socket.send(big(number)).expect("an open WebSocket");
    }
}

#[test]
fn a_client_that_does_not_read_stops_its_provider_and_nothing_is_lost() {
    let (stalled, go) = (Signal::new(), Signal::new());
    let upstream = {
        let (stalled, go) = (stalled.clone(), go.clone());
        provider(move |socket| {
            socket.get_ref().set_write_patience(Some(PATIENCE));
            let last = send_until_stalled(socket);
            stalled.send();
            // The other way is not held up by that.
            assert_eq!(next(socket), Message::text("still talking"));
            go.send();
            socket.get_ref().set_write_patience(None);
            send_on(socket, last);
            let _ = socket.read();
        })
    };
    let gateway = Gateway::start(&config(upstream.address()));
    let before = gateway.anonymous_bytes();
    let (_, mut socket) = open(gateway.address(), &upgrade());
    stalled.wait();
    let memory = gateway.anonymous_bytes().saturating_sub(before);
    assert!(
        memory < 2 * 1024 * 1024,
        "{memory} bytes wait in the gateway"
    );
    socket.send(Message::text("still talking")).unwrap();
    go.wait();
    for number in 0..MUCH {
        assert_eq!(next(&mut socket), big(number));
    }
}

#[test]
fn a_provider_that_does_not_read_stops_its_client_and_nothing_is_lost() {
    let go = Signal::new();
    let upstream = {
        let go = go.clone();
        provider(move |socket| {
            socket.send(Message::text("still talking")).unwrap();
            go.wait();
            for number in 0..MUCH {
                assert_eq!(next(socket), big(number));
            }
            socket.send(Message::text("all of it")).unwrap();
            let _ = socket.read();
        })
    };
    let gateway = Gateway::start(&config(upstream.address()));
    let (_, mut socket) = open(gateway.address(), &upgrade());
    let patience = |socket: &ClientSocket, patience| {
        socket
            .get_ref()
            .socket()
            .set_write_timeout(patience)
            .unwrap();
    };
    patience(&socket, Some(PATIENCE));
    let stalled = send_until_stalled(&mut socket);
    go.send();
    patience(&socket, None);
    assert_eq!(next(&mut socket), Message::text("still talking"));
    send_on(&mut socket, stalled);
    assert_eq!(next(&mut socket), Message::text("all of it"));
}

#[test]
fn over_tls_on_both_sides_and_to_a_provider_that_would_rather_speak_http2() {
    let authority = Authority::default();
    let identity = authority.server(&[HOST, "127.0.0.1"]);
    let server = TlsServer::new(&identity).alpn(&["h2", "http/1.1"]);
    for protocol in ["http1", "http2", "auto"] {
        let upstream = Upstream::secure(&server, |exchange: &mut Exchange| {
            exchange.websocket(&[], echo);
        });
        let config = Config::simple_secure(upstream.address(), &authority)
            .protocol("openai", protocol)
            .websocket()
            .tls(ListenerTls::new(&identity));
        let gateway = Gateway::start(&config);
        let client = TlsClient::trusting(&authority).alpn(&["http/1.1"]);
        let wire = client.connect(gateway.address(), HOST).unwrap();
        let (_, mut socket) = over(wire, &upgrade().bytes());
        for length in [1, 1000, 300_000] {
            let message = Message::binary(vec![7; length]);
            socket.send(message.clone()).unwrap();
            assert_eq!(next(&mut socket), message, "{protocol}");
        }
        socket.close(None).unwrap();
        assert_eq!(closed(&mut socket), None, "{protocol}");
    }
}

#[test]
fn a_hundred_at_a_time() {
    let upstream = provider(echo);
    let config = config(upstream.address()).set("node", "workers", 2);
    let gateway = Gateway::start(&config);
    let mut sockets: Vec<_> = (0..100)
        .map(|_| open(gateway.address(), &upgrade()).1)
        .collect();
    for round in 0..3 {
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket
                .send(Message::binary(format!("{number} {round}").into_bytes()))
                .unwrap();
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            let wanted = Message::binary(format!("{number} {round}").into_bytes());
            assert_eq!(next(socket), wanted);
        }
    }
    assert_eq!(
        gateway.metric("relay_tenant_websockets", &["tenant=\"acme\""]),
        100.0
    );
    drop(sockets);
    eventually("an end of all", || {
        let open = gateway.metric("relay_tenant_requests_in_flight", &["tenant=\"acme\""]);
        (open == 0.0).then_some(())
    });
    assert_eq!(
        gateway.metric("relay_tenant_websockets", &["tenant=\"acme\""]),
        0.0
    );
}
