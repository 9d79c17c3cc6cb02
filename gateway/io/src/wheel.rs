//! Deadlines of one worker: a coarse timer wheel that sockets are visited by.
//!
//! Moving a deadline is a store to a cell: a socket stands in the wheel once, and is put where its deadline now is
//! when it is visited. Only a deadline that moves to before the next visit costs an entry. That keeps timers off
//! the path of reads and writes (a kernel timer per read was measured at 0.4 µs).
//!
//! A client that leaves while nothing is read from it or sent to it is noticed within `WATCH_TICKS`: at its first visit a watched
//! socket is asked whether its peer has left, and from then on the kernel tells ([`departures`]).

mod departures;

use crate::engine::Engine;
use crate::socket::{Interrupt, Socket};
use departures::Departures;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

/// One step of the wheel: how coarse deadlines are.
const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 50;
const TICKS_PER_SECOND: u64 = 1000 / TICK_MS;

/// Ticks that one turn makes up for.
pub(crate) const TICKS_AT_ONCE_MAX: u64 = 2;

/// Watched sockets of which the kernel does not tell are visited this often (250 ms; an upstream must be closed within 1 s after
/// its client left).
const WATCH_TICKS: u64 = 5;

/// Slots of the wheel, 6.4 s in all; sockets whose deadlines are further away are visited once a turn. Short, since an
/// entry keeps the memory of a socket that was closed meanwhile.
const SLOTS: usize = 128;

struct Entry {
    socket: Weak<Socket>,
    /// The tick for which the entry was made; an entry that the socket does not remember is stale.
    tick: u64,
}

struct Inner {
    engine: Engine,
    tick: Cell<u64>,
    slots: RefCell<Vec<Vec<Entry>>>,
    /// Reused while visiting, so that a turn of the wheel allocates nothing.
    visiting: RefCell<Vec<Entry>>,
    departures: Departures,
}

/// The wheel; clones share it.
#[derive(Clone)]
pub struct Wheel {
    inner: Rc<Inner>,
}

impl Wheel {
    /// A wheel that starts now, on a thread with this engine.
    pub fn new(engine: Engine) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self {
            inner: Rc::new(Inner {
                engine,
                tick: Cell::new(0),
                slots: RefCell::new(slots),
                visiting: RefCell::default(),
                departures: Departures::new(),
            }),
        }
    }

    /// Turns the wheel; `is_over` is called after every turn, until it says so.
    pub async fn turn(&self, mut is_over: impl FnMut() -> bool) {
        let mut last_turn = Instant::now();
        loop {
            monoio::time::sleep(TICK).await;
            let passed = (last_turn.elapsed().as_millis() as u64) / TICK_MS;
            last_turn += TICK * u32::try_from(passed).unwrap_or(u32::MAX);
            // After the thread was held up, the wheel's time lags behind: deadlines set meanwhile must not come early.
            self.advance(self.tick() + passed.min(TICKS_AT_ONCE_MAX));
            if is_over() {
                return;
            }
        }
    }

    /// Ends every connection that is idle (`Stream::set_idle`), has a deadline, and to which nothing was sent meanwhile. A
    /// request that arrives at this moment is still read.
    pub fn end_idle(&self) {
        for socket in self.sockets() {
            if socket.is_idle() && socket.is_quiet() {
                socket.end_receiving();
            }
        }
    }

    /// For the end of the process, to be called again until nothing is left. Sockets whose peers are not watched are interrupted:
    /// calls that are made for somebody. Those for whom they are made can still be told so, but nothing more is received from
    /// them, and who takes nothing until the next call is interrupted too.
    pub fn end_all(&self) {
        for socket in self.sockets() {
            if socket.watched.get() {
                socket.end_watched();
            } else {
                socket.interrupt(Interrupt::Shutdown);
            }
        }
    }

    /// Interrupts the sockets that bring something for which nobody waits (`Stream::set_orphaned`).
    pub fn end_orphaned(&self) {
        for socket in self.sockets() {
            if socket.is_orphaned() {
                socket.interrupt(Interrupt::Shutdown);
            }
        }
    }

    /// Each once, however many entries it has: of some it does not remember.
    fn sockets(&self) -> Vec<Rc<Socket>> {
        let slots = self.inner.slots.borrow();
        let entries = slots.iter().flatten();
        let mut sockets: Vec<_> = entries.filter_map(|entry| entry.socket.upgrade()).collect();
        sockets.sort_unstable_by_key(Rc::as_ptr);
        sockets.dedup_by(|one, other| Rc::ptr_eq(one, other));
        sockets
    }

    /// The tick at which `after` from now has passed for certain.
    pub(crate) fn tick_after(&self, after: Duration) -> u64 {
        // In 64 bits: this runs several times a request, and dividing 128 bits takes longer than all the rest of it.
        let whole = after.as_secs().saturating_mul(TICKS_PER_SECOND);
        let ticks = whole.saturating_add(u64::from(after.subsec_millis()).div_ceil(TICK_MS));
        self.inner
            .tick
            .get()
            .saturating_add(ticks)
            .saturating_add(1)
    }

    pub(crate) fn engine(&self) -> Engine {
        self.inner.engine
    }

    pub(crate) fn tick(&self) -> u64 {
        self.inner.tick.get()
    }

    /// Makes sure that the socket is visited when its deadline passes or its heartbeat is due, and soon if it is watched and
    /// the kernel does not tell.
    pub(crate) fn schedule(&self, socket: &Rc<Socket>) {
        let now = self.inner.tick.get();
        let mut latest = SLOTS as u64 - 1;
        if socket.watched.get() {
            latest = match socket.heartbeat_tick().saturating_sub(now) {
                _ if !socket.is_enlisted() => WATCH_TICKS,
                // It could not be sent yet, and is not tried again at every tick.
                0 => WATCH_TICKS,
                ahead => latest.min(ahead),
            };
        }
        let visit = socket.deadline_tick.get().clamp(now + 1, now + latest);
        let next = socket.next_visit_tick.get();
        // Mostly it is visited in time, and put where it belongs then.
        if next <= now || next > visit {
            self.enter(socket, visit);
        }
    }

    #[cold]
    fn enter(&self, socket: &Rc<Socket>, visit: u64) {
        socket.next_visit_tick.set(visit);
        let slot = slot_of(visit);
        self.inner.slots.borrow_mut()[slot].push(Entry {
            socket: Rc::downgrade(socket),
            tick: visit,
        });
    }

    /// A socket is closed: the kernel has nothing more to tell of it.
    pub(crate) fn strike_off(&self, socket: &Socket) {
        if let Some(id) = socket.enlisted.get() {
            self.inner.departures.strike_off(id);
        }
    }

    fn advance(&self, due: u64) {
        self.inner.departures.look(|socket| self.note_end(&socket));
        while self.inner.tick.get() < due {
            let tick = self.inner.tick.get() + 1;
            self.inner.tick.set(tick);
            let mut visiting = self.inner.visiting.take();
            std::mem::swap(
                &mut visiting,
                &mut self.inner.slots.borrow_mut()[slot_of(tick)],
            );
            for entry in visiting.drain(..) {
                let Some(socket) = entry.socket.upgrade() else {
                    continue;
                };
                if entry.tick == tick && socket.next_visit_tick.get() == tick {
                    self.visit(&socket, tick);
                }
            }
            self.inner.visiting.replace(visiting);
        }
    }

    /// The kernel has told that something has come to its end; what that is decides `peer_has_left`. From now on it is asked.
    fn note_end(&self, socket: &Rc<Socket>) {
        socket.has_ended.set(true);
        if socket.watched.get() && socket.interrupted.get().is_none() {
            if socket.peer_has_left() {
                return socket.interrupt(Interrupt::PeerGone);
            }
            self.schedule(socket);
        }
    }

    fn visit(&self, socket: &Rc<Socket>, tick: u64) {
        if socket.interrupted.get().is_some() {
            return;
        }
        if socket.deadline_tick.get() <= tick {
            return socket.interrupt(Interrupt::Deadline);
        }
        if socket.watched.get() && !socket.is_enlisted() {
            // Before it is asked, so that the peer cannot leave in between unnoticed.
            if socket.enlisted.get().is_none() {
                socket.enlisted.set(self.inner.departures.enlist(socket));
            }
            if socket.peer_has_left() {
                return socket.interrupt(Interrupt::PeerGone);
            }
        }
        socket.send_heartbeat_if_due(tick);
        self.schedule(socket);
    }
}

fn slot_of(tick: u64) -> usize {
    // The remainder is below SLOTS, so it fits.
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests;
