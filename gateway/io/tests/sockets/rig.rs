//! A worker with its wheel turning, and what stands at the other end of its sockets.

use relay_io::{Engine, Interrupt, IoError, Listener, Stream, Wheel, bind, pause, run, spawn};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long something that must happen may take. Only a failing test waits this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A free port of loopback.
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// More than the buffers of both sockets hold together.
pub(crate) const LARGE_BYTES: usize = 24 * 1024 * 1024;

/// A worker thread, seen from inside.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) wheel: Wheel,
}

/// Runs `scene` on a worker of each engine that this kernel allows.
pub(crate) fn on_each_engine(scene: impl AsyncFn(&Worker) + Copy + Send + 'static) {
    let (best, _) = Engine::probe();
    let engines = [best, Engine::Epoll];
    let distinct = if best == Engine::Epoll { 1 } else { 2 };
    for engine in engines.into_iter().take(distinct) {
        eprintln!("on {}", engine.as_str());
        let (running, ended) = channel::<()>();
        let worker = std::thread::spawn(move || {
            let _running = running;
            run(engine, play(engine, scene)).unwrap();
        });
        let ended = ended.recv_timeout(LIMIT * 2);
        assert_ne!(
            ended,
            Err(RecvTimeoutError::Timeout),
            "it never ends on {engine:?}"
        );
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

async fn play(engine: Engine, scene: impl AsyncFn(&Worker)) {
    let wheel = Wheel::new(engine);
    let turning = wheel.clone();
    spawn(async move { turning.turn(|| false).await });
    scene(&Worker { engine, wheel }).await;
}

impl Worker {
    /// A listener on a free port, and where it is.
    pub(crate) fn listen(&self) -> (Listener, SocketAddr) {
        let socket = bind(ANY_PORT).unwrap();
        let address = socket.local_addr().unwrap();
        (Listener::adopt(socket, self.engine).unwrap(), address)
    }

    /// A socket of the worker and its peer, whose reads end after `LIMIT`.
    pub(crate) async fn pair(&self) -> (Stream, TcpStream) {
        let (listener, address) = self.listen();
        let peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let (stream, from) = listener.accept(&self.wheel).await.unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        (stream, peer)
    }
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        pause(Duration::from_millis(1)).await;
    }
}

/// Waits for what a peer does that blocks: on a thread, since the worker must go on meanwhile (it is the ring that
/// closes a socket, for example, and not the drop).
pub(crate) async fn meanwhile<T: Send + 'static>(
    blocking: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(blocking);
    until("the peer is done", || thread.is_finished()).await;
    match thread.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// All that the peer receives until the end.
pub(crate) async fn all_of(mut peer: TcpStream) -> Vec<u8> {
    let read = meanwhile(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).map(|_| received)
    });
    read.await.unwrap()
}

/// The reason for which an operation was interrupted.
pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, IoError>) -> Interrupt {
    match outcome {
        Err(IoError::Interrupted(reason)) => reason,
        other => panic!("not interrupted: {other:?}"),
    }
}
