//! Accepting, and ending what is idle.

use crate::rig::{ANY_PORT, LIMIT, all_of, on_each_engine, until};
use relay_io::{Pool, bind, spawn};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

#[test]
fn workers_share_a_port() {
    let first = bind(ANY_PORT).unwrap();
    let address = first.local_addr().unwrap();
    assert_eq!(bind(address).unwrap().local_addr().unwrap(), address);
}

#[test]
fn a_port_of_somebody_else_and_a_missing_address_are_known_at_once() {
    let somebody = TcpListener::bind(ANY_PORT).unwrap();
    let taken = bind(somebody.local_addr().unwrap()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let missing = bind("192.0.2.7:8080".parse().unwrap()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_stopped_listener_ends_the_accept_that_waits_and_takes_nobody_any_more() {
    on_each_engine(async |worker| {
        let (listener, address) = worker.listen();
        let listener = Rc::new(listener);
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let (accepting, outcomes, wheel) =
            (listener.clone(), accepted.clone(), worker.wheel.clone());
        spawn(async move {
            loop {
                let outcome = accepting.accept(&wheel).await.map(|(_, from)| from);
                let is_over = outcome.is_err();
                outcomes.borrow_mut().push(outcome);
                if is_over {
                    return;
                }
            }
        });
        let first = TcpStream::connect(address).unwrap();
        until("the first is accepted", || accepted.borrow().len() == 1).await;
        listener.stop();
        until("the second accept ends", || accepted.borrow().len() == 2).await;
        let accepted = accepted.borrow();
        assert_eq!(*accepted[0].as_ref().unwrap(), first.local_addr().unwrap());
        let error = accepted[1].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let late = TcpStream::connect(address).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn whoever_waits_at_a_stopped_listener_is_reset() {
    on_each_engine(async |worker| {
        let (listener, address) = worker.listen();
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.set_read_timeout(Some(LIMIT)).unwrap();
        listener.stop();
        let error = waiting.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn only_idle_connections_to_which_nothing_was_sent_are_ended() {
    on_each_engine(async |worker| {
        let (idle, idle_peer) = worker.pair().await;
        let (busy, mut busy_peer) = worker.pair().await;
        let (asked, mut asking_peer) = worker.pair().await;
        for stream in [&idle, &busy, &asked] {
            stream.set_deadline(LIMIT);
            stream.set_idle(true);
        }
        busy.set_idle(false);
        asking_peer.write_all(b"GET").unwrap();
        asked.readable().await.unwrap();

        worker.wheel.end_idle();
        let pool = Pool::new();
        assert!(idle.receive(&pool).await.unwrap().is_none());
        let lease = asked.receive(&pool).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"GET");
        busy_peer.write_all(b"GET").unwrap();
        let lease = busy.receive(&pool).await.unwrap().unwrap();
        assert_eq!(lease.filled(), b"GET");
        drop(idle);
        assert_eq!(all_of(idle_peer).await, b"");
    });
}
