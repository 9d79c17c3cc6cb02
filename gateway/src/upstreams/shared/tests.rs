use super::*;
use relay_io::{Engine, Pool, Wheel, pause};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3_600);

const MOMENT: Duration = Duration::from_millis(1);

/// Of three requests that run into their time-outs while they are sent: which are held against the account, and does the connection
/// take others then? The provider has taken what was sent on the connection itself, or nothing.
async fn after_time_outs(is_taken: bool) -> (Vec<bool>, bool) {
    let wheel = Wheel::new(Engine::Epoll);
    let (near, far) = pipe(&wheel);
    let socket = near.interrupter();
    let (duplex, handle) = Duplex::over(near, None, &Pool::new(), NEVER, Box::new(|_| true));
    let (requests, connection) = client::handshake(duplex).await.unwrap();
    while !socket.is_held_up() {
        pause(MOMENT).await;
    }
    while is_taken && socket.is_held_up() {
        let context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = far.poll_take(&context, 1024) {}
        pause(MOMENT).await;
    }
    let shared = Rc::new(idle(requests, socket));
    let blamed = (0..3).map(|_| {
        let request = Connection {
            stream: pipe(&wheel).0,
            kind: Kind::Shared(Carried {
                fate: Rc::new(Cell::new(Fate::Well)),
                shared: shared.clone(),
                was_used: true,
            }),
        };
        let failure = request.explain_unsent(Failure::Timeout);
        assert!(matches!(failure.what(), Failure::Timeout), "{failure:?}");
        failure.fault().is_some()
    });
    let blamed = blamed.collect();
    let takes_more = shared.takes_more();
    drop(connection);
    handle.close(Duration::ZERO).await;
    (blamed, takes_more)
}

/// A connection that carries nothing.
fn idle(requests: SendRequest<Bytes>, socket: Interrupter) -> Shared {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    Shared {
        number: 1,
        account: AccountId(0),
        source: address.ip(),
        destination: address,
        scheme: Scheme::HTTP,
        requests: RefCell::new(Some(requests)),
        streams_max: 100,
        streams_open: Cell::new(0),
        streams_begun: Cell::new(0),
        refuses: Cell::new(false),
        retires_at: Instant::now() + NEVER,
        idle_since: Cell::new(Instant::now()),
        ping: Cell::new(Watching::Not),
        is_cut: Cell::new(false),
        socket,
        has_stalled: Cell::new(false),
        is_blamed: Cell::new(false),
        driver: RefCell::default(),
        places: RefCell::default(),
        closing: RefCell::default(),
    }
}

#[test]
fn requests_that_are_given_up_before_their_connection_are_one_failure_if_it_takes_nothing() {
    let run = relay_io::run(Engine::Epoll, async {
        let of_the_connection = (vec![true, false, false], false);
        assert_eq!(after_time_outs(false).await, of_the_connection);
        let of_each = (vec![true; 3], true);
        assert_eq!(after_time_outs(true).await, of_each);
    });
    run.unwrap();
}

#[test]
fn the_connection_s_window_is_never_smaller_than_those_of_its_streams() {
    for (streams_max, bytes) in [
        (1, CONNECTION_WINDOW_BYTES_MIN),
        (64, CONNECTION_WINDOW_BYTES_MIN),
        (65, 65 * STREAM_WINDOW_BYTES),
        (1_000, 1_000 * STREAM_WINDOW_BYTES),
        (usize::MAX, WINDOW_BYTES_MAX),
    ] {
        assert_eq!(connection_window_bytes(streams_max), bytes, "{streams_max}");
    }
}
