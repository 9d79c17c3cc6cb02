use super::*;
use crate::config;
use crate::connections::Connections;
use relay_io::{Engine, Listener, Wheel, bind};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;

const ACCOUNT: AccountId = AccountId(0);
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn policy() -> Policy {
    let text = r#"
        [node]
        workers = 2
        [[listener]]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "provider"
        base_url = "http://127.0.0.1:1"
        [[account]]
        name = "first"
        upstream = "provider"
        credential = { env = "KEY" }
        egress = ["127.0.0.1"]
        max_connections = 8
    "#;
    let environment = |_: &str| Some("sk-test".into());
    config::parse(text, Path::new("test.toml"), &environment)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

/// What two workers keep, and how that came about.
struct Scene {
    policy: Policy,
    connections: &'static Connections,
    workers: [IdleConnections; 2],
    listener: Listener,
    destination: SocketAddr,
    wheel: Wheel,
}

impl Scene {
    /// Everything happens on one thread; the engine is one that closes what is dropped at once.
    fn play(scene: impl AsyncFnOnce(&Self)) {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let destination = socket.local_addr().unwrap();
        let run = relay_io::run(Engine::Epoll, async {
            let policy = policy();
            let connections: &'static _ = Box::leak(Box::new(Connections::new(&policy, None)));
            let worker = |number| IdleConnections::new(&policy, number, &connections.shortages);
            scene(&Self {
                workers: [worker(0), worker(1)],
                connections,
                listener: Listener::adopt(socket, Engine::Epoll).unwrap(),
                destination,
                wheel: Wheel::new(Engine::Epoll),
                policy,
            })
            .await;
        });
        run.unwrap();
    }

    /// A connection of the account that this worker keeps from now on; returns its far end.
    async fn keep(&self, worker: usize) -> TcpStream {
        let far_end = TcpStream::connect(self.destination).unwrap();
        far_end.set_nonblocking(true).unwrap();
        let (stream, _) = self.listener.accept(&self.wheel).await.unwrap();
        let begun = self.connections.begin_upstream(None, ACCOUNT, SOURCE);
        let (_, places) = begun.unwrap();
        let age = self.policy.timeouts.pool_age;
        let opened = Opened {
            stream,
            places,
            source: SOURCE,
            destination: self.destination,
        };
        let opened = Connection::new(opened, age, 0.5);
        self.workers[worker].keep(opened, &self.policy.timeouts);
        far_end
    }

    fn kept(&self) -> [usize; 2] {
        [self.workers[0].count(), self.workers[1].count()]
    }

    fn tend(&self) {
        self.workers.iter().for_each(IdleConnections::tend);
    }
}

fn is_open(mut far_end: &TcpStream) -> bool {
    far_end
        .read(&mut [0; 1])
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_request_that_waits_costs_each_worker_one_connection_and_no_more() {
    Scene::play(async |scene| {
        let mut far_ends = Vec::new();
        for _ in 0..4 {
            far_ends.push(scene.keep(0).await);
            scene.keep(1).await;
        }
        let shortages = &scene.connections.shortages;
        let short = Short::Account(ACCOUNT);
        let first = shortages.call(short, 1);
        scene.tend();
        assert!(first.was_heard());
        assert_eq!(scene.kept(), [3, 3]);
        assert_eq!(scene.connections.account(ACCOUNT), 6);
        let open: Vec<_> = far_ends.iter().map(is_open).collect();
        assert_eq!(open, [false, true, true, true], "the oldest one goes");
        scene.tend();
        assert_eq!(scene.kept(), [3, 3], "a call is heard once");

        let second = shortages.call(short, 1);
        scene.tend();
        assert_eq!(scene.kept(), [1, 1], "two of them wait");
        drop((first, second));
        scene.tend();
        assert_eq!(scene.kept(), [1, 1], "nobody waits any more");
    });
}

#[test]
fn a_connection_that_came_to_its_end_gives_its_place_back_as_it_is_found() {
    Scene::play(async |scene| {
        let ended = scene.keep(0).await;
        drop(ended);
        let [worker, _] = &scene.workers;
        let taken = worker.take(ACCOUNT, SOURCE, &[scene.destination], None);
        assert!(taken.is_ok_and(|found| found.is_none()));
        assert_eq!(scene.connections.account(ACCOUNT), 0);
        let _kept = scene.keep(0).await;
        let short = Short::Account(ACCOUNT);
        assert!(matches!(worker.let_go(short), LetGo::Done));
        assert!(matches!(worker.let_go(short), LetGo::Nothing), "one");
        assert_eq!(scene.connections.account(ACCOUNT), 0);
    });
}

#[test]
fn a_failed_opening_is_one_failure_however_many_wait_for_it() {
    let sharing = Sharing::new(&policy());
    let Turn::Own(opening) = sharing.opening(ACCOUNT, SOURCE) else {
        panic!("nobody opens one yet");
    };
    assert!(matches!(
        sharing.opening(ACCOUNT, SOURCE),
        Turn::Others(other) if Rc::ptr_eq(&other, &opening)
    ));
    sharing.end_opening(ACCOUNT, &opening, Outcome::Failed(Failure::Connect));
    let blamed: Vec<_> = (0..3)
        .map(|_| opening.why_not().fault().is_some())
        .collect();
    assert_eq!(blamed, [true, false, false]);
    assert!(matches!(sharing.opening(ACCOUNT, SOURCE), Turn::Own(_)));
}

#[test]
fn what_a_provider_has_chosen_is_known_for_the_address_that_it_was_asked_from() {
    let mut policy = policy();
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    let upstream = &mut policy.upstreams[0];
    upstream.protocol = config::policy::Protocol::Auto;
    upstream.tls = Some(config::policy::UpstreamTls {
        server_name: "api.example".try_into().unwrap(),
        ca_file: None,
    });
    let sharing = Sharing::new(&policy);
    let expected = |source| sharing.is_expected(ACCOUNT, source, &policy.upstreams[0]);
    assert!(expected(SOURCE) && expected(other), "until it is known");
    sharing.note_choice(ACCOUNT, SOURCE, Alpn::Http1);
    assert!(!expected(SOURCE) && expected(other));
    sharing.note_choice(ACCOUNT, SOURCE, Alpn::Http2);
    sharing.note_choice(ACCOUNT, other, Alpn::None);
    assert!(expected(SOURCE) && !expected(other));
}
