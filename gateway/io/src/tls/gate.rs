//! How much of a worker's time handshakes may take.
//!
//! A handshake costs as much as hundreds of events, and anybody can ask for one. Each of its steps (a flight that was received is
//! answered) is done in one go, so the steps stand in line: between two of them everything else runs for as long as the step
//! before took, or until nothing else is left to do. Handshakes that we have begun ourselves stand in a line of their own: they
//! are wanted by requests that were let in, and a flood of clients must not be in front of them.

use crate::engine::{Engine, pause};
use crate::socket::{Interrupt, Interrupter};
use monoio::net::unix::UnixDatagram;
use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Reverse;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A turn of the loop in which nothing else ran takes less: one system call.
const EMPTY_TURN: Duration = Duration::from_micros(20);

/// After so many of them nothing else is left to do. The first one may have ended before what is ready now was looked at.
const EMPTY_TURNS: u32 = 2;

/// Where others wait for a place, a client may let us wait for so long in all: a few round trips, and not the whole time that a
/// handshake may take. Else a handful of connections that never go on, or byte by byte, would keep everybody out.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often those who wait for a place look whether somebody has to give up theirs.
pub(super) const IN_LINE: Duration = Duration::from_millis(250);

/// A turn of the loop, where there is no descriptor to see it by.
const TURN_WITHOUT_DESCRIPTOR: Duration = Duration::from_millis(1);

/// The limits of one worker's handshakes.
pub struct HandshakeGate {
    pub(super) accepting: Line,
    pub(super) connecting: Line,
    free_places: Semaphore,
    taken_places: RefCell<Vec<Rc<Taken>>>,
    /// How many wait for a place.
    waiters: Cell<usize>,
    last_look: Cell<Option<Instant>>,
    /// A socket that nobody sends on, so that there always is room to write; made when first needed.
    always_writable: OnceCell<Option<UnixDatagram>>,
}

/// A handshake that has a place.
struct Taken {
    interrupter: Interrupter,
    /// How long its client has let us wait before.
    waited: Cell<Duration>,
    /// Since when it lets us wait now.
    waits_since: Cell<Option<Instant>>,
}

impl Taken {
    /// How long its client has let us wait in all, if it does now.
    fn waited(&self, now: Instant) -> Option<Duration> {
        let since = self.waits_since.get()?;
        Some(self.waited.get() + now.saturating_duration_since(since))
    }
}

/// Somebody who waits for a place, until this is dropped.
pub(super) struct Waiter<'a>(&'a Cell<usize>);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The place of a client that is in the middle of a handshake; given back when dropped.
pub(super) struct Place<'a> {
    gate: &'a HandshakeGate,
    taken: Rc<Taken>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl HandshakeGate {
    /// At most so many clients may be in the middle of a handshake; who comes later waits, in the order of arrival.
    pub fn new(unfinished_max: usize) -> Self {
        Self {
            accepting: Line::new(),
            connecting: Line::new(),
            free_places: Semaphore::new(unfinished_max.min(Semaphore::MAX_PERMITS)),
            taken_places: RefCell::default(),
            waiters: Cell::new(0),
            last_look: Cell::new(None),
            always_writable: OnceCell::new(),
        }
    }

    /// Ends after the loop has looked once at what else is ready. Waits for no peer: everybody in line waits for it.
    pub(super) async fn loop_turn(&self, engine: Engine) {
        // With epoll it would be known without asking that there is room to write; the ring says so in its next turn.
        if engine == Engine::Epoll {
            return pause(Duration::ZERO).await;
        }
        let socket = self
            .always_writable
            .get_or_init(|| UnixDatagram::unbound().ok());
        let ended = match socket {
            Some(socket) => socket.writable(false).await.is_ok(),
            None => false,
        };
        if !ended {
            pause(TURN_WITHOUT_DESCRIPTOR).await;
        }
    }

    /// One more who waits for a place.
    pub(super) fn waiter(&self) -> Waiter<'_> {
        self.waiters.set(self.waiters.get() + 1);
        Waiter(&self.waiters)
    }

    /// Waits for a place.
    pub(super) async fn place(&self, interrupter: Interrupter) -> Place<'_> {
        // Fails only where a semaphore is closed, and this one never is.
        let permit = self.free_places.acquire().await.ok();
        let taken = Rc::new(Taken {
            interrupter,
            waited: Cell::new(Duration::ZERO),
            waits_since: Cell::new(None),
        });
        self.taken_places.borrow_mut().push(taken.clone());
        Place {
            gate: self,
            taken,
            _permit: permit,
        }
    }

    /// Somebody waits for a place: as many clients as wait are given up, those first who have let us wait longest, and none who has
    /// not done so for too long. Looks only now and then, for all who wait.
    pub(super) fn give_up_slowest(&self) {
        let now = Instant::now();
        let last_look = self.last_look.get();
        if self.free_places.available_permits() > 0
            || last_look.is_some_and(|last| now.saturating_duration_since(last) < IN_LINE)
        {
            return;
        }
        self.last_look.set(Some(now));
        let taken = self.taken_places.borrow();
        let mut slow: Vec<_> = taken
            .iter()
            .filter_map(|place| Some((place.waited(now)?, place)))
            .filter(|(waited, _)| *waited >= PATIENCE)
            .collect();
        slow.sort_unstable_by_key(|(waited, _)| Reverse(*waited));
        for (_, place) in slow.into_iter().take(self.waiters.get()) {
            place.waits_since.set(None);
            place.interrupter.interrupt(Interrupt::Deadline);
        }
    }
}

impl Place<'_> {
    /// Waits for the client.
    pub(super) async fn wait<T>(&self, client: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.taken.waits_since.set(Some(began));
        let output = client.await;
        self.taken.waits_since.set(None);
        let waited = self.taken.waited.get() + began.elapsed();
        self.taken.waited.set(waited);
        output
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.gate.taken_places.borrow_mut();
        taken.retain(|place| !Rc::ptr_eq(place, &self.taken));
    }
}

/// Steps that are taken one after the other.
pub(super) struct Line {
    turn: Semaphore,
    /// How long the last step took, and when it ended.
    last: Cell<(Duration, Instant)>,
}

/// A step that is being taken; it ends when this is dropped.
pub(super) struct Step<'a> {
    line: &'a Line,
    began: Instant,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Line {
    fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            last: Cell::new((Duration::ZERO, Instant::now())),
        }
    }

    /// Waits until a step may be taken. `loop_turn` ends after the loop has looked once at what else is ready.
    pub(super) async fn step<T: Future>(&self, loop_turn: impl Fn() -> T) -> Step<'_> {
        let turn = self.turn.acquire().await.ok();
        self.let_others_run(loop_turn).await;
        Step {
            line: self,
            began: Instant::now(),
            _turn: turn,
        }
    }

    /// Always a turn of the loop, since time that has passed without one was not the others'.
    async fn let_others_run<T: Future>(&self, loop_turn: impl Fn() -> T) {
        let mut empty_turns = 0;
        while empty_turns < EMPTY_TURNS {
            let began = Instant::now();
            loop_turn().await;
            let ended = Instant::now();
            empty_turns = match ended - began < EMPTY_TURN {
                true => empty_turns + 1,
                false => 0,
            };
            let (took, last) = self.last.get();
            if ended - last >= took {
                return;
            }
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let ended = Instant::now();
        self.line.last.set((ended - self.began, ended));
    }
}
