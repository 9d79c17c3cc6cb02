//! Names and values of requests: what may not be there makes a request malformed, and nobody gets it.

use crate::{Case, Field, case, expect_answer, expect_malformed, expect_unspeakable, field, head};
use relay_tests::http2::hpack::{block, literal};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(names());
    cases.extend(values());
    cases.extend(of_connections());
    cases.extend(pseudo_headers());
    cases.extend(targets());
    cases
}

/// A request with one more field.
fn malformed_with(
    section: &'static str,
    what: String,
    name: impl Into<Vec<u8>>,
    value: impl Into<Vec<u8>>,
) -> Case {
    let more = literal(name.into(), value.into());
    case(section, what, move |peer| {
        let block = [block(&head("GET", "/v1/malformed")), more.clone()].concat();
        let stream = peer.open_with(block, true);
        expect_unspeakable(peer, stream);
    })
}

fn names() -> Vec<Case> {
    let names: [&[u8]; 18] = [
        b"X-Upper",
        b"x-uppeR",
        b"HOST",
        b"",
        b"na me",
        b" name",
        b"name ",
        b"na\tme",
        b"na:me",
        b"name:",
        b"na\0me",
        b"na\r\nme",
        b"na\nme",
        b"na\x7fme",
        b"n\xe4me",
        b"na(me",
        b"na\"me",
        b"name\r\nhost: other",
    ];
    let of = |name: &[u8]| {
        malformed_with(
            "9113 8.2.1",
            format!("the name {:?}", name.escape_ascii().to_string()),
            name,
            "x",
        )
    };
    names.iter().map(|name| of(name)).collect()
}

fn values() -> Vec<Case> {
    let values: [&[u8]; 12] = [
        b"a\0b",
        b"a\rb",
        b"a\nb",
        b"a\r\nhost: other",
        b"\0",
        b"\n",
        b" a",
        b"a ",
        b"\ta",
        b"a\t",
        b" ",
        b"a\r\n\r\nGET /v1/malformed HTTP/1.1\r\nhost: gateway.test\r\n\r\n",
    ];
    let mut cases: Vec<Case> = Vec::new();
    for value in values {
        let shown = value.escape_ascii().to_string();
        cases.push(malformed_with(
            "9113 8.2.1",
            format!("the value {shown:?}"),
            "x-odd",
            value,
        ));
    }
    cases.push(case(
        "9113 8.2.1",
        "values with tabs, spaces and bytes above ASCII within",
        |peer| {
            let more = literal("x-odd", b"a \t b\x80\xff".as_slice());
            let stream = peer.open_with([block(&head("GET", "/v1/plain")), more].concat(), true);
            expect_answer(peer, stream);
        },
    ));
    cases
}

fn of_connections() -> Vec<Case> {
    let fields = [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-odd"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, deflate;q=0.5"),
        ("te", ""),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, value) in fields {
        cases.push(case(
            "9113 8.2.2",
            format!("{name}: {value}"),
            move |peer| {
                let mut fields = head("GET", "/v1/malformed");
                fields.push(field(name, value));
                let stream = peer.open(&fields, true);
                expect_malformed(peer, stream);
            },
        ));
    }
    cases.push(case("9113 8.2.2", "te: trailers", |peer| {
        let mut fields = head("GET", "/v1/plain");
        fields.push(field("te", "trailers"));
        let stream = peer.open(&fields, true);
        expect_answer(peer, stream);
    }));
    cases
}

fn malformed(section: &'static str, name: impl Into<String>, fields: Vec<Field>) -> Case {
    case(section, name, move |peer| {
        let stream = peer.open(&fields, true);
        expect_unspeakable(peer, stream);
    })
}

/// The head of a request that must not be forwarded, changed.
fn changed(change: impl FnOnce(&mut Vec<Field>)) -> Vec<Field> {
    let mut fields = head("GET", "/v1/malformed");
    change(&mut fields);
    fields
}

fn pseudo_headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [":method", ":scheme", ":path"] {
        let without = changed(|fields| fields.retain(|field| field.0 != name));
        cases.push(malformed("9113 8.3.1", format!("no {name}"), without));
    }
    for name in [":method", ":scheme", ":path", ":authority"] {
        let twice = changed(|fields| {
            let same = fields.iter().find(|field| field.0 == name).cloned();
            fields.insert(4, same.expect("it is there"));
        });
        cases.push(malformed("9113 8.3", format!("{name} twice"), twice));
        let behind = changed(|fields| {
            let place = fields.iter().position(|field| field.0 == name);
            let last = fields.remove(place.expect("it is there"));
            fields.push(last);
        });
        cases.push(malformed(
            "9113 8.3",
            format!("{name} behind a field"),
            behind,
        ));
        let empty = changed(|fields| {
            let same = fields.iter_mut().find(|field| field.0 == name);
            same.expect("it is there").1.clear();
        });
        cases.push(malformed("9113 8.3.1", format!("an empty {name}"), empty));
    }
    for (name, value) in [
        (":status", "200"),
        (":protocol", "websocket"),
        (":unknown", "1"),
        (":Method", "GET"),
        (":", "x"),
        ("::path", "/"),
    ] {
        let more = changed(|fields| fields.insert(1, field(name, value)));
        cases.push(malformed("9113 8.3", format!("{name} in a request"), more));
    }
    cases
}

/// The values of pseudo-headers.
fn targets() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let values = [
        (":path", "v1/malformed"),
        (":path", "http://gateway.test/v1/malformed"),
        (":path", "/v1/mal formed"),
        (":path", "/v1/malformed HTTP/1.1\r\nhost: other\r\n\r\n"),
        (":path", "/v1/malformed\0"),
        (":path", "*"),
        (":method", "G ET"),
        (":method", "GET\r\n"),
        (":method", "GET /v1/malformed HTTP/1.1\r\n"),
        (":method", "G\0T"),
        (":scheme", "ht tp"),
        (":scheme", "http\r\n"),
        (":authority", "user@gateway.test"),
        (":authority", "user:password@gateway.test"),
        (":authority", "gateway.test\r\nx: y"),
        (":authority", "gateway test"),
        (":authority", "gateway.test/path"),
        (":authority", "gateway.test:port"),
        (":authority", "gateway.test,other"),
    ];
    for (name, value) in values {
        let changed = changed(|fields| {
            let same = fields.iter_mut().find(|field| field.0 == name);
            same.expect("it is there").1 = value.to_owned();
        });
        cases.push(malformed(
            "9113 8.3.1",
            format!("{name} of {value:?}"),
            changed,
        ));
    }
    cases.push(case("9113 8.3.1", ":path with a fragment", |peer| {
        // The library drops it as it splits the target, so that nobody behind it sees any, which is looked at in the end.
        let stream = peer.open(&head("GET", "/v1/plain#fragment"), true);
        expect_answer(peer, stream);
    }));
    let other = changed(|fields| fields.push(field("host", "other.test")));
    cases.push(malformed(
        "9113 8.3.1",
        "a host that is not the authority",
        other,
    ));
    let twice = changed(|fields| {
        fields.retain(|field| field.0 != ":authority");
        fields.extend([field("host", "gateway.test"), field("host", "gateway.test")]);
    });
    cases.push(malformed("9110 7.2", "two hosts", twice));
    let none = changed(|fields| fields.retain(|field| field.0 != ":authority"));
    cases.push(malformed("9113 8.3.1", "neither authority nor host", none));
    cases.push(case("9113 8.3.1", "host alone", |peer| {
        let mut fields = head("GET", "/v1/plain");
        fields.retain(|field| field.0 != ":authority");
        fields.push(field("host", "gateway.test"));
        let stream = peer.open(&fields, true);
        expect_answer(peer, stream);
    }));
    cases.push(case("9113 8.3.1", "a host that is the authority", |peer| {
        let mut fields = head("GET", "/v1/plain");
        fields.push(field("host", "gateway.test"));
        let stream = peer.open(&fields, true);
        expect_answer(peer, stream);
    }));
    cases
}
