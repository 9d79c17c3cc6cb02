//! How much of a worker's time handshakes may take.
//!
//! A handshake costs as much as hundreds of events, and anybody can ask for one. Each of its steps (a flight that was received is
//! answered) is done in one go, so the steps stand in line: between two of them everything else runs for as long as the step
//! before took, or until nothing else is left to do. Handshakes that we have begun ourselves stand in a line of their own: they
//! are wanted by requests that were let in, and a flood of clients must not be in front of them.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A turn of the loop in which nothing else ran takes less: one system call.
const EMPTY_TURN: Duration = Duration::from_micros(20);

/// After so many of them nothing else is left to do. The first one may have ended before what is ready now was looked at.
const EMPTY_TURNS: u32 = 2;

/// The limits of one worker's handshakes.
pub struct HandshakeGate {
    pub(super) accepting: Line,
    pub(super) connecting: Line,
    unfinished: Semaphore,
}

impl HandshakeGate {
    /// At most so many clients may be in the middle of a handshake; who comes later waits, in the order of arrival.
    pub fn new(unfinished_max: usize) -> Self {
        Self {
            accepting: Line::new(),
            connecting: Line::new(),
            unfinished: Semaphore::new(unfinished_max.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Waits for one of the places of clients that are in the middle of a handshake; given back when dropped.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // Fails only where a semaphore is closed, and this one never is.
        self.unfinished.acquire().await.ok()
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
