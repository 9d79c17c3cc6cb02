//! What is charged: what the provider has counted, response by response, once.

use super::{config, provider};
use relay_tests::websocket::{
    Message, ProviderSocket, completed, create, created, ended, next, open, respond, response,
    upgrade,
};
use relay_tests::{Gateway, Upstream, eventually};
use serde_json::Value;

/// The records of responses in the WebSocket of this name, once there are so many and its own.
fn records(gateway: &Gateway, id: &str, count: usize) -> Vec<Value> {
    gateway.log().wait_for(id, |lines| {
        let lines = lines.iter().map(|line| &line.json);
        let of_it: Vec<Value> = lines
            .filter(|line| line["request_id"] == id)
            .cloned()
            .collect();
        let (whole, responses): (Vec<_>, Vec<_>) =
            of_it.into_iter().partition(|line| line["status"] == 101);
        (whole.len() == 1 && responses.len() == count).then_some(responses)
    })
}

fn tokens(record: &Value) -> [u64; 4] {
    let of = |name: &str| {
        record[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {record}"))
    };
    [
        of("input_tokens"),
        of("cached_tokens"),
        of("output_tokens"),
        of("reasoning_tokens"),
    ]
}

fn start(talk: impl Fn(&mut ProviderSocket<'_>) + Send + Sync + 'static) -> (Upstream, Gateway) {
    let upstream = provider(talk);
    let config = config(upstream.address()).price(&["gpt-5"], "input = 1, output = 10");
    let gateway = Gateway::start(&config);
    (upstream, gateway)
}

#[test]
fn each_response_is_charged_once_as_the_provider_has_counted_it() {
    let (_upstream, gateway) = start(respond);
    let (_, mut socket) = open(gateway.address(), &upgrade().id("talk"));
    for number in 1..=3 {
        socket.send(create("gpt-5")).unwrap();
        for event in response(&format!("resp_{number}"), 7) {
            assert_eq!(next(&mut socket), Message::text(event));
        }
    }
    // What asks for nothing costs nothing.
    socket
        .send(Message::text(r#"{"type":"response.cancel"}"#))
        .unwrap();
    socket.send(Message::text("not JSON")).unwrap();
    socket.close(None).unwrap();
    ended(&mut socket);
    for record in records(&gateway, "talk", 3) {
        assert_eq!(tokens(&record), [11, 3, 7, 2], "{record}");
        assert_eq!(record["known"], "final", "{record}");
        assert_eq!(record["model"], "gpt-5", "{record}");
        assert_eq!(
            (&record["status"], &record["ended"]),
            (&200.into(), &"complete".into())
        );
        assert_eq!(
            (&record["tenant"], &record["account"]),
            (&"acme".into(), &"first".into())
        );
        assert_eq!(record["events"], 3, "{record}");
    }
    for (kind, count) in [("input", 33.0), ("output", 21.0)] {
        let labels = ["tenant=\"acme\"", &format!("kind=\"{kind}\"")];
        eventually(kind, || {
            (gateway.metric("relay_tokens_total", &labels) == count).then_some(())
        });
    }
    let whole = gateway.log().wait_for("the whole", |lines| {
        let mut lines = lines.iter().map(|line| &line.json);
        lines.find(|line| line["status"] == 101).cloned()
    });
    assert_eq!(whole["input_tokens"], Value::Null, "{whole}");
    let passed = |name: &str| whole[name].as_u64().unwrap();
    assert!(
        passed("bytes_in") > 250 && passed("bytes_out") > 900,
        "{whole}"
    );
}

#[test]
fn what_was_cut_is_estimated() {
    let (_upstream, gateway) = start(|socket| {
        next(socket);
        for _ in 0..5 {
            let delta = r#"{"type":"response.output_text.delta","delta":"x"}"#;
            socket.send(Message::text(delta)).unwrap();
        }
        let _ = socket.read();
    });
    let (_, mut socket) = open(gateway.address(), &upgrade().id("cut"));
    socket.send(create("gpt-5")).unwrap();
    for _ in 0..5 {
        next(&mut socket);
    }
    drop(socket);
    let record = records(&gateway, "cut", 1).remove(0);
    assert_eq!(
        (&record["known"], &record["ended"]),
        (&"estimated".into(), &"client_gone".into())
    );
    let asked = create("gpt-5").into_text().unwrap().len() as u64;
    assert_eq!(tokens(&record), [asked.div_ceil(4), 0, 5, 0], "{record}");
}

#[test]
fn what_the_provider_has_refused_costs_nothing() {
    let (_upstream, gateway) = start(|socket| {
        let error =
            r#"{"type":"error","status":400,"error":{"code":"invalid_prompt","message":"no"}}"#;
        next(socket);
        socket.send(Message::text(error)).unwrap();
        // While one is being made another one is refused; that one goes on.
        next(socket);
        socket.send(Message::text(created("resp_1"))).unwrap();
        next(socket);
        socket.send(Message::text(error)).unwrap();
        socket.send(Message::text(completed("resp_1", 7))).unwrap();
        let _ = socket.read();
    });
    let (_, mut socket) = open(gateway.address(), &upgrade().id("refused"));
    socket.send(create("gpt-5")).unwrap();
    next(&mut socket);
    socket.send(create("gpt-5")).unwrap();
    next(&mut socket);
    socket.send(create("gpt-5")).unwrap();
    next(&mut socket);
    next(&mut socket);
    drop(socket);
    let mut records = records(&gateway, "refused", 3);
    // What was refused is only known for certain when something else is asked for.
    records.sort_by_key(|record| std::cmp::Reverse(record["status"].as_u64()));
    let statuses: Vec<_> = records
        .iter()
        .map(|record| record["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [400, 400, 200]);
    assert_eq!(tokens(&records[2]), [11, 3, 7, 2]);
    for record in &records[..2] {
        assert_eq!(record["input_tokens"], Value::Null, "{record}");
    }
}

const ERROR: &str =
    r#"{"type":"error","status":400,"error":{"code":"invalid_value","message":"no"}}"#;

/// Sends these messages, reads so many and leaves; says what is on record of responses, in order.
fn told(gateway: &Gateway, asked: &[Message], heard: usize, count: usize) -> Vec<Value> {
    let (_, mut socket) = open(gateway.address(), &upgrade().id("told"));
    for message in asked {
        socket.send(message.clone()).unwrap();
    }
    for _ in 0..heard {
        next(&mut socket);
    }
    drop(socket);
    records(gateway, "told", count)
}

#[test]
fn an_error_about_another_message_makes_no_response_free() {
    let cancel = Message::text(r#"{"type":"response.cancel","response_id":"nonsense"}"#);
    let (_upstream, gateway) = start(|socket| {
        next(socket);
        next(socket);
        socket.send(Message::text(ERROR)).unwrap();
        for event in response("resp_1", 7) {
            socket.send(Message::text(event)).unwrap();
        }
        let _ = socket.read();
    });
    let record = told(&gateway, &[create("gpt-5"), cancel], 4, 1).remove(0);
    assert_eq!(
        (&record["status"], tokens(&record)),
        (&200.into(), [11, 3, 7, 2])
    );
    assert_eq!(record["model"], "gpt-5", "{record}");
}

#[test]
fn what_nobody_is_known_to_have_asked_for_is_charged() {
    let odd = Message::text(r#"{"type":"session.go_on","model":"cheap"}"#);
    let (_upstream, gateway) = start(respond_to_all);
    let records = told(&gateway, &[create("gpt-5"), odd], 6, 2);
    for record in records {
        assert_eq!(tokens(&record), [11, 3, 7, 2], "{record}");
        assert_eq!(record["model"], "gpt-5", "{record}");
    }
}

/// A response for each message.
fn respond_to_all(socket: &mut ProviderSocket<'_>) {
    let mut number = 0;
    while let Ok(Message::Text(_)) = socket.read() {
        number += 1;
        for event in response(&format!("resp_{number}"), 7) {
            let _ = socket.send(Message::text(event));
        }
    }
}

#[test]
fn a_response_is_charged_to_what_has_asked_for_it() {
    let upstream = provider(|socket| {
        next(socket);
        next(socket);
        next(socket);
        // The first ends in a way that nobody knows; of the second the provider names the model.
        let named = completed("resp_2", 7).replace(r#""id""#, r#""model":"dear-2026","id""#);
        for event in [
            created("resp_1"),
            r#"{"type":"response.output_text.delta","delta":"hi"}"#.to_owned(),
            r#"{"type":"response.cancelled","response":{"id":"resp_1"}}"#.to_owned(),
            created("resp_2"),
            named,
        ] {
            socket.send(Message::text(event)).unwrap();
        }
        let _ = socket.read();
    });
    let config = config(upstream.address())
        .price(&["dear*"], "input = 10, output = 100")
        .price(&["*"], "input = 1, output = 10");
    let gateway = Gateway::start(&config);
    let odd = Message::text(r#"{"type":"session.update","model":"cheap"}"#);
    let asked = [odd, create("cheap"), create("cheap")];
    let records = told(&gateway, &asked, 5, 2);
    assert_eq!(
        (&records[0]["known"], &records[0]["output_tokens"]),
        (&"estimated".into(), &1.into())
    );
    assert_eq!(
        (&records[1]["known"], tokens(&records[1])),
        (&"final".into(), [11, 3, 7, 2])
    );
    // Of a model that costs ten times as much.
    let costs = [&records[0]["cost"], &records[1]["cost"]];
    assert_eq!(costs, ["0.000029", "0.00081"]);
}

#[test]
fn messages_in_any_form_are_read() {
    let (_upstream, gateway) = start(respond);
    let (_, socket) = open(gateway.address(), &upgrade().id("odd"));
    let mut wire = socket.into_inner();
    // In fragments, with a mask, a ping between them, byte by byte.
    let text = create("gpt-5").into_text().unwrap();
    let (first, second) = text.as_bytes().split_at(60);
    let frame = |opcode: u8, payload: &[u8]| {
        let key = [0x11, 0xa2, 0x33, 0xc4];
        let masked = payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key);
        let head = [&[opcode, 0x80 | payload.len() as u8], &key[..]].concat();
        head.into_iter().chain(masked).collect::<Vec<u8>>()
    };
    let mut bytes = frame(0x01, first);
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x80, second));
    for byte in bytes {
        std::io::Write::write_all(&mut wire, &[byte]).unwrap();
    }
    let role = relay_tests::websocket::Role::Client;
    let mut socket = relay_tests::websocket::WebSocket::from_raw_socket(wire, role, None);
    for event in response("resp_1", 7) {
        assert_eq!(next(&mut socket), Message::text(event));
    }
    socket.close(None).unwrap();
    ended(&mut socket);
    let record = records(&gateway, "odd", 1).remove(0);
    assert_eq!(
        (tokens(&record), &record["model"]),
        ([11, 3, 7, 2], &"gpt-5".into())
    );
}
