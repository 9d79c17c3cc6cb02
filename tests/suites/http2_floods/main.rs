//! HTTP/2 clients that mean harm (RFC 9113, section 10.5): each is shown the door at once, takes hardly any memory, and others
//! are served meanwhile.

mod attacker;
mod blocks;
mod control;
mod held;
mod streams;

use attacker::Attacker;
use relay_tests::http2::{Frame, hpack};
use relay_tests::{Config, Gateway, Request, Upstream, eventually, openai};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What one attacker may cost in memory.
const MEMORY_BYTES_MAX: u64 = 4 << 20;

/// Between two calls of a bystander. Thousands a second take megabytes for what is observed of them, which are not the attacker's.
const BYSTANDER_PAUSE: Duration = Duration::from_millis(2);

/// One at a time: they measure memory, and need the machine for themselves.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gateway with one worker, so that attackers and others share everything, before a provider that answers at once.
struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    memory_bytes: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    fn new() -> Self {
        Self::with(|config| config)
    }

    fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let turn = alone();
        let upstream = Upstream::answering(openai::plain());
        let config = Config::simple(upstream.address())
            .http2(true)
            .set("log", "requests", false);
        let gateway = Gateway::start(&change(config));
        // Pools, tables and the allocator take what they need for anybody.
        gateway.write_state("first");
        for _ in 0..50 {
            assert_eq!(gateway.call(&Request::plain()).status(), 200);
        }
        let mut guest = Attacker::connect(&gateway);
        guest.send(&[get(1)]);
        guest.leave();
        let memory_bytes = gateway.anonymous_bytes();
        Self {
            upstream,
            gateway,
            memory_bytes,
            _turn: turn,
        }
    }

    /// How much memory the gateway has taken since its start.
    fn grown_bytes(&self) -> u64 {
        let bytes = self.gateway.anonymous_bytes();
        bytes.saturating_sub(self.memory_bytes)
    }

    fn assert_small(&self, what: &str) {
        let grown_bytes = self.grown_bytes();
        assert!(
            grown_bytes <= MEMORY_BYTES_MAX,
            "{what}: {grown_bytes} bytes of memory"
        );
    }

    /// Sends `flood` again and again on a connection that `opening` has begun, until that is ended: with this error code, at a small
    /// price, and unnoticed by somebody else.
    fn assert_ended(&self, what: &str, codes: &[u32], opening: &[Frame], flood: impl Flood) {
        self.bystander(|_| {
            let mut attacker = Attacker::connect(&self.gateway);
            attacker.send(opening);
            let end = attacker.flood(flood);
            let code = end.goaway;
            assert!(
                code.is_some_and(|code| codes.contains(&code)),
                "{what}: GOAWAY with {code:?} after {} rounds",
                end.rounds
            );
            self.assert_small(what);
        });
    }

    /// Attacks while somebody else calls again and again, and is answered well each time: before, also at its end, and wherever
    /// the attack asks for it.
    fn bystander(&self, attack: impl FnOnce(&Others)) {
        let others = Others::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = self.gateway.client();
                while !others.is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.call(&Request::plain()).status(), 200);
                    others.served.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(BYSTANDER_PAUSE);
                }
            });
            let _ends = SetOnDrop(&others.is_over);
            others.wait_served();
            attack(&others);
            others.wait_served();
        });
    }
}

/// Somebody else, who is served meanwhile.
#[derive(Default)]
struct Others {
    is_over: AtomicBool,
    served: AtomicU64,
}

impl Others {
    /// Waits until a request has been answered that was sent after now.
    fn wait_served(&self) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("somebody else is served", || {
            // The first of them may have been sent before.
            (self.served.load(Ordering::Relaxed) >= before + 2).then_some(())
        });
    }
}

/// Lets the bystander leave, also where the attack has failed its test.
struct SetOnDrop<'f>(&'f AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The frames of one round, of which there are as many as it takes.
trait Flood: FnMut(u32) -> Vec<Frame> {}

impl<F: FnMut(u32) -> Vec<Frame>> Flood for F {}

/// The same in each round.
fn always(frame: Frame) -> impl Flood {
    move |_| vec![frame.clone(); 50]
}

/// The stream of this number: 1, 3, 5 and so on.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// Asks for something that only those with a key may have, so that the answer is short.
fn get(stream: u32) -> Frame {
    Frame::headers(stream, block("GET", &[]), true)
}

/// Begins a request with a body.
fn post(stream: u32) -> Frame {
    Frame::headers(stream, block("POST", &[]), false)
}

fn block(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "gateway.test"),
        (":path", "/v1/models"),
    ];
    hpack::block(&[&fields[..], more].concat())
}
