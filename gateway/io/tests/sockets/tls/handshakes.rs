//! Handshakes that succeed and that fail.

use super::peer::{VERSIONS, gate, handshake};
use crate::certificates::{Authority, server_name};
use crate::rig::{LIMIT, Worker, meanwhile, on_each_engine, until};
use relay_io::{Alpn, Interrupt, Pool, Stream, TlsError, TlsVersion, spawn};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn both_sides_learn_what_was_agreed() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        for (versions, version) in VERSIONS
            .into_iter()
            .zip([TlsVersion::Tls12, TlsVersion::Tls13])
        {
            let mut server = authority.server(versions);
            server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let server = Arc::new(server);
            for (offered, alpn) in [
                (&[][..], Alpn::None),
                (&[&b"http/1.1"[..]][..], Alpn::Http1),
                (&[b"http/1.1", b"h2"], Alpn::Http2),
            ] {
                let mut client = authority.client();
                client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
                let (accepted, stream, connected) =
                    handshake(worker, &server, &Arc::new(client)).await;
                let secured = accepted.unwrap();
                assert_eq!((secured.alpn, secured.version), (alpn, version));
                assert!(!secured.resumed);
                assert!(stream.is_secured());
                connected.unwrap();
            }
        }
    });
}

/// Two streams of the worker, the first one a client of the second.
async fn between_streams(
    worker: &Worker,
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
) -> (Result<relay_io::Secured, TlsError>, Stream, Stream) {
    let (listener, address) = worker.listen();
    let first = std::net::TcpStream::connect(address).unwrap();
    drop(first);
    let (origin, _) = listener.accept(&worker.wheel).await.unwrap();
    let from = relay_io::Origin::Address(address.ip());
    let connecting = Stream::connect(&from, address, LIMIT, &origin)
        .await
        .unwrap();
    let (accepting, _) = listener.accept(&worker.wheel).await.unwrap();
    let accepted = Rc::new(RefCell::new(None));
    let (outcome, server) = (accepted.clone(), server.clone());
    spawn(async move {
        accepting.set_deadline(LIMIT);
        let secured = accepting.accept_tls(server, &gate(), &Pool::new()).await;
        accepting.clear_deadline();
        outcome.replace(Some((secured, accepting)));
    });
    connecting.set_deadline(LIMIT);
    let name = server_name();
    let secured = connecting
        .connect_tls(client.clone(), name, &gate(), &Pool::new())
        .await;
    connecting.clear_deadline();
    until("the other side is done", || accepted.borrow().is_some()).await;
    let (_, accepting) = accepted.take().unwrap();
    (secured, connecting, accepting)
}

#[test]
fn the_second_connection_goes_on_where_the_first_one_was_but_only_with_the_same_configuration() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        for versions in VERSIONS {
            let server = Arc::new(authority.server(versions));
            let account = Arc::new(authority.client());
            let another = Arc::new(authority.client());
            for (client, resumed) in [(&account, false), (&account, true), (&another, false)] {
                let (secured, connecting, accepting) =
                    between_streams(worker, &server, client).await;
                let secured = secured.unwrap();
                assert_eq!(secured.resumed, resumed);
                // Tickets come behind the handshake; they are no bytes that a connection has to be given up for.
                accepting
                    .send(&mut [IoSlice::new(b"answer")], LIMIT)
                    .await
                    .unwrap();
                let lease = connecting.receive(&Pool::new()).await.unwrap().unwrap();
                assert_eq!(lease.filled(), b"answer");
                assert!(connecting.is_quiet());
            }
        }
    });
}

#[test]
fn tickets_that_nobody_has_read_yet_leave_a_connection_quiet() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS13]));
        let client = Arc::new(authority.client());
        let (secured, connecting, accepting) = between_streams(worker, &server, &client).await;
        assert!(!secured.unwrap().resumed);
        connecting.readable().await.unwrap();
        assert!(connecting.is_quiet());
        drop((connecting, accepting));
        // They were not lost either.
        let (secured, ..) = between_streams(worker, &server, &client).await;
        assert!(secured.unwrap().resumed);
    });
}

#[test]
fn certificates_of_clients() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let stranger = Authority::new();
        for versions in VERSIONS {
            for required in [true, false] {
                let verifier = WebPkiClientVerifier::builder(authority.roots());
                let verifier = match required {
                    true => verifier.build().unwrap(),
                    false => verifier.allow_unauthenticated().build().unwrap(),
                };
                let server = Arc::new(authority.server_that_asks(versions, verifier));
                let known = Arc::new(authority.known_client());
                let (accepted, ..) = handshake(worker, &server, &known).await;
                assert!(accepted.is_ok(), "{accepted:?}");

                let (accepted, ..) =
                    handshake(worker, &server, &Arc::new(authority.client())).await;
                match required {
                    true => assert!(matches!(
                        accepted,
                        Err(TlsError::Rejected(Error::NoCertificatesPresented))
                    )),
                    false => assert!(accepted.is_ok(), "{accepted:?}"),
                }

                let foreign = stranger.known_client_of(&authority);
                let (accepted, ..) = handshake(worker, &server, &Arc::new(foreign)).await;
                assert!(matches!(
                    accepted,
                    Err(TlsError::Rejected(Error::InvalidCertificate(_)))
                ));
            }
        }
    });
}

#[test]
fn a_server_that_cannot_prove_its_name_is_refused_and_told() {
    on_each_engine(async |worker| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        for versions in VERSIONS {
            let server = Arc::new(stranger.server(versions));
            let client = Arc::new(authority.client());
            let (secured, connecting, accepting) = between_streams(worker, &server, &client).await;
            assert!(matches!(
                secured,
                Err(TlsError::Rejected(Error::InvalidCertificate(_)))
            ));
            assert!(!connecting.is_secured());
            assert!(!accepting.is_secured());
        }
    });
}

#[test]
fn a_client_is_told_why_it_was_refused() {
    on_each_engine(async |worker| {
        let authority = Authority::new();
        let server = Arc::new(authority.server(&[&TLS13]));
        let old = rustls::ClientConfig::builder_with_protocol_versions(&[&TLS12])
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let (accepted, stream, connected) = handshake(worker, &server, &Arc::new(old)).await;
        assert!(matches!(accepted, Err(TlsError::Rejected(_))));
        assert!(!stream.is_secured());
        let told = connected.unwrap_err();
        let why = format!("{:?}", AlertDescription::ProtocolVersion);
        assert!(told.to_string().contains(&why), "{told}");
    });
}

#[test]
fn what_is_no_client_hello_is_refused() {
    on_each_engine(async |worker| {
        let server = Arc::new(Authority::new().server(&[&TLS12, &TLS13]));
        let long_record = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
        let endless_message = [0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff].repeat(10_000);
        let texts: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            &[0; 100],
            &long_record,
            &endless_message,
        ];
        for text in texts {
            let (stream, mut peer) = worker.pair().await;
            let written = text.to_vec();
            let peer = std::thread::spawn(move || {
                // The stream may be closed before it has taken all of it.
                let _ = peer.write_all(&written);
                peer
            });
            stream.set_deadline(LIMIT);
            let accepted = stream
                .accept_tls(server.clone(), &gate(), &Pool::new())
                .await;
            assert!(
                matches!(accepted, Err(TlsError::Rejected(_))),
                "{accepted:?}"
            );
            assert!(!stream.is_secured());
            drop(stream);
            let mut peer = meanwhile(move || peer.join().unwrap()).await;
            let alert = meanwhile(move || {
                let mut alert = [0; 7];
                peer.read_exact(&mut alert).map(|()| alert)
            });
            if let Ok(alert) = alert.await {
                assert_eq!((alert[0], alert[5]), (0x15, 2), "a fatal alert");
            }
        }
    });
}

#[test]
fn who_leaves_or_stalls_in_between() {
    on_each_engine(async |worker| {
        let server = Arc::new(Authority::new().server(&[&TLS12, &TLS13]));
        let begun = [0x16, 3, 1, 1, 0, 1];
        for said in [&[][..], &begun] {
            let (stream, mut peer) = worker.pair().await;
            peer.write_all(said).unwrap();
            stream.set_deadline(Duration::from_millis(100));
            let accepted = stream
                .accept_tls(server.clone(), &gate(), &Pool::new())
                .await;
            let interrupted = matches!(accepted, Err(TlsError::Interrupted(Interrupt::Deadline)));
            assert!(interrupted, "{accepted:?}");
            drop(peer);

            let (stream, mut peer) = worker.pair().await;
            peer.write_all(said).unwrap();
            drop(peer);
            stream.set_deadline(LIMIT);
            match stream
                .accept_tls(server.clone(), &gate(), &Pool::new())
                .await
            {
                Err(TlsError::Socket(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn who_has_said_nothing_yet_is_idle_and_who_has_is_not() {
    on_each_engine(async |worker| {
        let server = Arc::new(Authority::new().server(&[&TLS12, &TLS13]));
        let begun = [0x16, 3, 1, 1, 0, 1];
        let (mut peers, outcomes) = (Vec::new(), Rc::new(RefCell::new([None, None])));
        for (number, said) in [&[][..], &begun].into_iter().enumerate() {
            let (stream, mut peer) = worker.pair().await;
            peer.write_all(said).unwrap();
            peers.push(peer);
            if !said.is_empty() {
                stream.readable().await.unwrap();
            }
            let (server, outcomes) = (server.clone(), outcomes.clone());
            let waits = Rc::new(Cell::new(false));
            let is_waiting = waits.clone();
            spawn(async move {
                stream.set_deadline(LIMIT);
                waits.set(true);
                let accepted = stream.accept_tls(server, &gate(), &Pool::new()).await;
                outcomes.borrow_mut()[number] = Some(accepted.unwrap_err());
            });
            until("it waits", || is_waiting.get()).await;
        }
        worker.wheel.end_idle();
        until("the silent one is ended", || outcomes.borrow()[0].is_some()).await;
        let [silent, begun] = outcomes.take();
        let interrupted = matches!(silent, Some(TlsError::Interrupted(Interrupt::Shutdown)));
        assert!(interrupted, "{silent:?}");
        assert!(begun.is_none(), "{begun:?}");
        drop(peers);
        until("the other one is ended", || outcomes.borrow()[1].is_some()).await;
        let told = outcomes.take();
        assert!(matches!(told[1], Some(TlsError::Socket(_))), "{told:?}");
    });
}
