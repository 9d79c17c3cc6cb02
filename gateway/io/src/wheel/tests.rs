//! The wheel, turned by hand: no test waits for time to pass.

mod sends;
mod silence;

use super::{SLOTS, Wheel};
use crate::engine::{Engine, pause, run};
use crate::listener::{Listener, bind};
use crate::socket::{Interrupt, Socket, Stream};
use socket2::{Domain, Type};
use std::io::IoSlice;
use std::net::{Ipv4Addr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long something that must happen may take. Only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(60);

/// A second, and the tick that is added because the present one has begun already.
const SECOND_TICKS: u64 = 20 + 1;

/// More than the buffers of both sockets hold together.
const LARGE_BYTES: usize = 24 * 1024 * 1024;

/// Nobody but the test turns this wheel.
struct Bench {
    wheel: Wheel,
    listener: Listener,
    address: std::net::SocketAddr,
}

/// Runs `scene` on a worker of each engine that this kernel allows.
fn on_each_engine(scene: impl AsyncFn(&Bench) + Copy + Send + 'static) {
    let (best, _) = Engine::probe();
    let engines = [best, Engine::Epoll];
    let distinct = if best == Engine::Epoll { 1 } else { 2 };
    for engine in engines.into_iter().take(distinct) {
        eprintln!("on {}", engine.as_str());
        let worker = std::thread::spawn(move || run(engine, play(engine, scene)).unwrap());
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

async fn play(engine: Engine, scene: impl AsyncFn(&Bench)) {
    scene(&Bench::new(Wheel::new(engine))).await;
}

impl Bench {
    fn new(wheel: Wheel) -> Self {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            listener: Listener::adopt(socket, wheel.engine()).unwrap(),
            wheel,
        }
    }

    /// Where there was no descriptor left for what tells of departures.
    fn without_departures(&self) -> Self {
        let mut wheel = Wheel::new(self.wheel.engine());
        Rc::get_mut(&mut wheel.inner).unwrap().departures.epoll = None;
        Self::new(wheel)
    }

    async fn pair(&self) -> (Stream, TcpStream) {
        self.accept(TcpStream::connect(self.address).unwrap()).await
    }

    async fn pair_with_a_small_window(&self) -> (Stream, TcpStream) {
        let peer = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(2048).unwrap();
        peer.connect(&self.address.into()).unwrap();
        self.accept(peer.into()).await
    }

    async fn accept(&self, peer: TcpStream) -> (Stream, TcpStream) {
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let (stream, _) = self.listener.accept(&self.wheel).await.unwrap();
        (stream, peer)
    }

    fn turn_by(&self, ticks: u64) {
        self.wheel.advance(self.wheel.tick() + ticks);
    }

    fn entries(&self) -> usize {
        self.wheel.inner.slots.borrow().iter().map(Vec::len).sum()
    }

    /// The only socket in the wheel that is open.
    fn socket(&self) -> Rc<Socket> {
        let slots = self.wheel.inner.slots.borrow();
        let mut open = slots.iter().flatten().filter_map(|e| e.socket.upgrade());
        open.next().unwrap()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        pause(Duration::from_millis(1)).await;
    }
}

/// Turns the wheel until just before `ticks` from now, and then there.
fn assert_met_after(ticks: u64, bench: &Bench, stream: &Stream) {
    bench.turn_by(ticks - 1);
    assert_eq!(stream.interrupted(), None, "{} ticks", ticks - 1);
    bench.turn_by(1);
    assert_eq!(stream.interrupted(), Some(Interrupt::Deadline));
}

#[test]
fn a_deadline_is_rounded_up_to_ticks_and_the_present_one_does_not_count() {
    let wheel = Wheel::new(Engine::Epoll);
    wheel.advance(1000);
    let ticks_of = |ms| wheel.tick_after(Duration::from_millis(ms)) - 1000;
    let expected = [
        (0, 1),
        (1, 2),
        (50, 2),
        (51, 3),
        (999, 21),
        (1000, 21),
        (61_001, 1222),
    ];
    for (ms, ticks) in expected {
        assert_eq!(ticks_of(ms), ticks, "{ms} ms");
    }
}

#[test]
fn a_deadline_is_met_to_the_tick() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn a_deadline_beyond_a_turn_of_the_wheel_is_met_to_the_tick() {
    on_each_engine(async |bench| {
        for seconds in [6, 7, 3600] {
            let (stream, _peer) = bench.pair().await;
            stream.set_deadline(Duration::from_secs(seconds));
            assert_met_after(seconds * 20 + 1, bench, &stream);
        }
    });
}

#[test]
fn a_deadline_moves_earlier() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(3600));
        stream.set_deadline(Duration::from_secs(5));
        stream.set_deadline(Duration::from_secs(1));
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn a_deadline_moves_later_and_costs_no_entry() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        for _ in 0..1000 {
            bench.turn_by(1);
            stream.set_deadline(Duration::from_secs(1));
            assert_eq!(stream.interrupted(), None);
            assert_eq!(bench.entries(), 1);
        }
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn the_entry_of_an_earlier_deadline_does_nothing_once_it_was_moved() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        // Entries for 5 s, for 1 s, and after the visit at 1 s for 5 s again: two that stand at the same tick.
        stream.set_deadline(Duration::from_secs(5));
        stream.set_deadline(Duration::from_secs(1));
        stream.set_deadline(Duration::from_secs(5));
        bench.turn_by(SECOND_TICKS);
        assert_eq!(bench.entries(), 2);
        // Visited once there, the socket remembers another tick; the second entry is not honoured.
        stream.set_deadline(Duration::from_secs(60));
        bench.turn_by(4 * 20);
        assert_eq!(stream.interrupted(), None);
        assert_eq!(bench.entries(), 1);
    });
}

#[test]
fn a_cleared_deadline_never_comes() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        stream.clear_deadline();
        bench.turn_by(100_000);
        assert_eq!(stream.interrupted(), None);
        stream.set_deadline(Duration::from_secs(1));
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn a_wheel_that_comes_late_meets_all_that_it_missed() {
    on_each_engine(async |bench| {
        let mut pairs = Vec::new();
        for seconds in [1, 5, 20, 60] {
            let (stream, peer) = bench.pair().await;
            stream.set_deadline(Duration::from_secs(seconds));
            pairs.push((stream, peer));
        }
        bench.turn_by(30 * 20);
        let reasons: Vec<_> = pairs.iter().map(|(s, _)| s.interrupted()).collect();
        let met = Some(Interrupt::Deadline);
        assert_eq!(reasons, [met, met, met, None]);
    });
}

#[test]
fn the_earlier_of_two_deadlines() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        let limit = stream.deadline_at(Duration::from_secs(2));
        stream.set_deadline_within(Duration::from_secs(1), limit);
        bench.turn_by(20);
        assert_eq!(stream.interrupted(), None);
        stream.set_deadline_within(Duration::from_secs(60), limit);
        assert!(!stream.has_passed(limit));
        assert_met_after(SECOND_TICKS, bench, &stream);
        assert!(stream.has_passed(limit));

        let (stream, _peer) = bench.pair().await;
        let limit = stream.deadline_at(Duration::from_secs(2));
        stream.set_deadline_within(Duration::from_secs(1), limit);
        assert_met_after(SECOND_TICKS, bench, &stream);

        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(60));
        stream.set_deadline_at(stream.deadline_at(Duration::from_secs(1)));
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn a_forgiven_socket_has_deadlines_again() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(1));
        bench.turn_by(SECOND_TICKS);
        assert_eq!(bench.entries(), 0, "interrupted sockets are not visited");
        stream.forgive_deadline();
        let part = &mut [IoSlice::new(b"x")];
        stream.send(part, Duration::from_secs(1)).await.unwrap();
        bench.turn_by(1000);
        assert_eq!(stream.interrupted(), None, "the old one is forgotten");
        stream.set_deadline(Duration::from_secs(1));
        assert_met_after(SECOND_TICKS, bench, &stream);
    });
}

#[test]
fn what_is_left_of_a_closed_socket_goes_within_a_turn() {
    on_each_engine(async |bench| {
        let (stream, _peer) = bench.pair().await;
        stream.set_deadline(Duration::from_secs(3600));
        drop(stream);
        assert_eq!(bench.entries(), 1);
        bench.turn_by(SLOTS as u64);
        assert_eq!(bench.entries(), 0);
    });
}
