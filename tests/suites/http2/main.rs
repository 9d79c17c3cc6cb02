//! HTTP/2 as RFC 9113 and RFC 7541 want it, by prior knowledge: each case breaks one rule (or keeps to it in an odd way) on a connection
//! of its own.
//!
//! Where the RFC leaves a choice, or where the library below chooses otherwise in a way that harms nobody, the case names all that is
//! taken, and why. No case takes silence for an error, or an answer to a malformed request.

mod concurrency;
mod continuation;
mod fields;
mod flow_control;
mod frames;
mod hpack;
mod messages;
mod preface;
mod sections;
mod settings;
mod states;

use relay_tests::config::TENANT_KEY;
use relay_tests::http2::{Frame, Peer, code, hpack::block};
use relay_tests::{Config, Gateway, Request, Upstream, Wire, http, openai};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Streams that may be open at a time; small, so that a test soon has too many.
const STREAMS_MAX: u32 = 8;

/// The body of `/v1/long`: more than two windows.
const LONG_BYTES: usize = 200_000;

/// One rule.
struct Case {
    /// Where the rule is.
    section: &'static str,
    name: String,
    check: Box<dyn Fn(&mut Peer) + Send + Sync>,
    /// The test exchanges preface and settings itself.
    from_the_start: bool,
}

fn case(
    section: &'static str,
    name: impl Into<String>,
    check: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> Case {
    Case {
        section,
        name: name.into(),
        check: Box::new(check),
        from_the_start: false,
    }
}

/// The same on a connection on which nothing was sent yet.
fn from_the_start(
    section: &'static str,
    name: impl Into<String>,
    check: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> Case {
    Case {
        from_the_start: true,
        ..case(section, name, check)
    }
}

/// The provider: what it does is in the path.
fn provider() -> Upstream {
    Upstream::start(|exchange| match exchange.request.target.as_str() {
        "/v1/echo" => {
            let body = exchange.request.body.clone();
            exchange.send(http::response(
                200,
                &[("content-type", "text/plain")],
                &body,
            ));
        }
        "/v1/long" => {
            let body = vec![b'x'; LONG_BYTES];
            exchange.send(http::response(
                200,
                &[("content-type", "text/plain")],
                &body,
            ));
        }
        "/v1/held" => drop(exchange.wait_closed()),
        _ => drop(exchange.send(openai::plain())),
    })
}

fn config(upstream: &Upstream) -> Config {
    Config::simple(upstream.address())
        .http2(true)
        .limit("http2_streams_max", STREAMS_MAX.into())
}

/// Every case, on four threads: most of the time of one is waiting for the other side.
fn failures(cases: &[Case], address: SocketAddr) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = outcome(case, address) {
                        let failure = format!("{} {}: {why}", case.section, case.name);
                        failures.lock().expect("no holder panics").push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no holder panics")
}

fn outcome(case: &Case, address: SocketAddr) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let wire = Wire::connect(address);
        let mut peer = match case.from_the_start {
            true => Peer::silent_client(wire),
            false => Peer::client(wire),
        };
        (case.check)(&mut peer);
    }));
    outcome.map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        why.unwrap_or_default()
    })
}

#[test]
fn every_rule() {
    let upstream = provider();
    let gateway = Gateway::start(&config(&upstream));
    let cases: Vec<Case> = [
        preface::cases(),
        frames::cases(),
        sections::cases(),
        continuation::cases(),
        states::cases(),
        settings::cases(),
        flow_control::cases(),
        hpack::cases(),
        messages::cases(),
        fields::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let failures = failures(&cases, gateway.address());
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    // What was malformed has reached nobody; a good request is the fence.
    let mut peer = Peer::client(Wire::connect(gateway.address()));
    assert_eq!(peer.call(&Request::get("/v1/fence")).status(), 200);
    let requests = upstream.requests();
    let malformed = requests.iter().filter(|one| one.target.contains(MALFORMED));
    let malformed: Vec<_> = malformed.map(|one| &one.head).collect();
    assert!(malformed.is_empty(), "forwarded: {malformed:#?}");
    let fragments = requests.iter().filter(|one| one.target.contains('#'));
    assert_eq!(fragments.count(), 0, "a fragment was forwarded");
    assert!(cases.len() >= 140, "only {} cases", cases.len());
}

/// In the path of every request that must not be forwarded.
const MALFORMED: &str = "malformed";

type Field = (String, String);

/// Makes a frame of a stream.
type FrameOf = fn(u32) -> Frame;

/// Brings a stream into a state, and says which stream it is.
type Opened = fn(&mut Peer) -> u32;

fn field(name: &str, value: &str) -> Field {
    (name.to_owned(), value.to_owned())
}

/// The head of a request to this path.
fn head(method: &str, path: &str) -> Vec<Field> {
    vec![
        field(":method", method),
        field(":scheme", "http"),
        field(":authority", "gateway.test"),
        field(":path", path),
        field("authorization", &format!("Bearer {TENANT_KEY}")),
    ]
}

/// The block of a GET.
fn get(path: &str) -> Vec<u8> {
    block(&head("GET", path))
}

/// The block of a POST.
fn post(path: &str) -> Vec<u8> {
    block(&head("POST", path))
}

/// A stream whose request is complete and whose answer never comes.
fn held(peer: &mut Peer) -> u32 {
    peer.open_with(get("/v1/held"), true)
}

/// A stream whose request is still to be completed.
fn unfinished(peer: &mut Peer) -> u32 {
    peer.open_with(post("/v1/echo"), false)
}

/// A stream that has gone its way.
fn finished(peer: &mut Peer) -> u32 {
    let stream = peer.open_with(get("/v1/plain"), true);
    expect_answer(peer, stream);
    stream
}

/// The provider's plain answer is there, whole.
fn expect_answer(peer: &mut Peer, stream: u32) {
    let answer = peer.response(stream);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.payload, openai::PLAIN_BODY);
}

/// The connection serves on.
fn expect_service(peer: &mut Peer) {
    peer.expect_alive();
    finished(peer);
}

/// The connection ends with GOAWAY and this code, or with PROTOCOL_ERROR: that is what the library says for nearly every error that
/// the codec finds, be it of a frame's size, of compression or of a value. What counts is that the connection ends, and
/// says that the client is to blame; no client does anything different for another code.
fn expect_connection_error(peer: &mut Peer, code: u32) -> u32 {
    peer.expect_goaway(&[code, code::PROTOCOL_ERROR])
}

/// The same of a frame with a length beyond all measure: who watches for floods sees it before the codec does, and takes it for one
/// (RFC 9113, section 10.5, leaves that to the server).
fn expect_oversized_refused(peer: &mut Peer) {
    peer.expect_goaway(&[
        code::FRAME_SIZE_ERROR,
        code::PROTOCOL_ERROR,
        code::ENHANCE_YOUR_CALM,
    ]);
}

/// As `expect_malformed`, or an error of the connection: the library makes that of names, values and pseudo-headers that it
/// cannot even represent. RFC 9113, section 5.4.1, lets an endpoint do so with any error of a stream, and no honest client
/// sends any of them.
fn expect_unspeakable(peer: &mut Peer, stream: u32) {
    peer.wait("RST_STREAM, GOAWAY or 400", |peer| {
        (peer.is_over() || peer.incoming(stream).is_over()).then_some(())
    });
    if peer.is_over() {
        assert_eq!(peer.incoming(stream).heads.len(), 0, "an answer");
        peer.expect_goaway(&[code::PROTOCOL_ERROR]);
    } else {
        expect_malformed(peer, stream);
    }
}

/// RFC 9113, section 8.1.1: a stream error of type PROTOCOL_ERROR, before which an answer may tell more. The gateway's is a 400.
fn expect_malformed(peer: &mut Peer, stream: u32) {
    peer.wait("RST_STREAM or 400", |peer| {
        assert!(
            !peer.is_over(),
            "the connection ended: {:?}",
            peer.goaways()
        );
        peer.incoming(stream).is_over().then_some(())
    });
    let incoming = peer.incoming(stream).clone();
    if incoming.is_complete {
        peer.response(stream).assert_refused(400, "bad_request");
    } else {
        assert_eq!(incoming.reset, Some(code::PROTOCOL_ERROR), "{incoming:?}");
    }
    expect_service(peer);
}

/// A frame on a stream that is closed (RFC 9113, section 5.1): an error of the stream or the connection, or nothing.
fn expect_nothing_of(peer: &mut Peer, stream: u32) {
    let before = peer.incoming(stream).clone();
    peer.try_frame(&Frame::ping(*b"anything"));
    while !peer.is_over() && !peer.has_pong(*b"anything") {
        peer.step();
    }
    let after = peer.incoming(stream).clone();
    assert_eq!(
        after.heads.len(),
        before.heads.len(),
        "an answer: {after:?}"
    );
    if peer.is_over() {
        peer.expect_goaway(&[code::STREAM_CLOSED, code::PROTOCOL_ERROR]);
    } else if let (None, Some(reset)) = (before.reset, after.reset) {
        assert_eq!(reset, code::STREAM_CLOSED);
    }
}
