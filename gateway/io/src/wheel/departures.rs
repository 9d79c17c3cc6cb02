//! Peers that leave, as the kernel tells it.
//!
//! To ask after each of thousands of silent streams several times a second costs more than all their events do. So whoever is
//! watched for longer than one visit stands in an epoll instance, for the end of what its peer sends and nothing else: that costs
//! no call until it comes. Edge-triggered (`EPOLLET`, epoll(7)), since an end is told once and stays.

use crate::socket::Socket;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

/// Departures that are taken from the kernel with one call.
pub(super) const EVENTS_MAX: usize = 256;

/// A look, not a wait.
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

pub(super) struct Departures {
    /// `None` where there was no descriptor left for it: then every watch goes on asking.
    pub(super) epoll: Option<OwnedFd>,
    enlisted: RefCell<HashMap<u64, Weak<Socket>>>,
    last_id: Cell<u64>,
    /// Reused, so that a look allocates nothing.
    events: RefCell<Vec<Event>>,
}

impl Departures {
    pub(super) fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).ok(),
            enlisted: RefCell::default(),
            last_id: Cell::new(0),
            events: RefCell::new(Vec::with_capacity(EVENTS_MAX)),
        }
    }

    /// From now on the kernel tells when this peer leaves. The number is to be struck off when the socket is closed; `None`: it
    /// is no socket of the kernel's, or the kernel has no room for it.
    pub(super) fn enlist(&self, socket: &Rc<Socket>) -> Option<u64> {
        let epoll = self.epoll.as_ref()?;
        let descriptor = socket.descriptor()?;
        let id = self.last_id.get() + 1;
        // Never a descriptor's number, which the next socket would have too.
        let data = EventData::new_u64(id);
        epoll::add(epoll, descriptor, data, EventFlags::RDHUP | EventFlags::ET).ok()?;
        self.last_id.set(id);
        self.enlisted.borrow_mut().insert(id, Rc::downgrade(socket));
        Some(id)
    }

    /// The socket is about to be closed, which takes it out of the epoll instance too.
    pub(super) fn strike_off(&self, id: u64) {
        self.enlisted.borrow_mut().remove(&id);
    }

    #[cfg(test)]
    pub(super) fn enlisted(&self) -> usize {
        self.enlisted.borrow().len()
    }

    /// Calls `tell` for each whose peer may have left since the last look.
    pub(super) fn look(&self, mut tell: impl FnMut(Rc<Socket>)) {
        let Some(epoll) = &self.epoll else { return };
        if self.enlisted.borrow().is_empty() {
            return;
        }
        let mut events = self.events.take();
        loop {
            events.clear();
            let taken = epoll::wait(epoll, spare_capacity(&mut events), Some(&AT_ONCE));
            for event in &events {
                let id = event.data.u64();
                let socket = self.enlisted.borrow().get(&id).and_then(Weak::upgrade);
                socket.into_iter().for_each(&mut tell);
            }
            if taken.unwrap_or(0) < EVENTS_MAX {
                break;
            }
        }
        self.events.replace(events);
    }
}
