//! Tasks that have to be told when the worker begins to drain: those that would not hear of it otherwise, since they wait for
//! something that may not come for an hour.

use super::Worker;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

/// The tasks that wait to be told.
#[derive(Default)]
pub struct DrainBell {
    sleepers: RefCell<HashMap<u64, Waker, foldhash::fast::FixedState>>,
    next: Cell<u64>,
}

/// One of them. It is forgotten when this is dropped.
pub struct DrainSleeper {
    worker: &'static Worker,
    number: u64,
}

impl DrainBell {
    pub(super) fn ring(&self) {
        for (_, sleeper) in self.sleepers.take() {
            sleeper.wake();
        }
    }
}

impl DrainSleeper {
    /// Nobody waits yet.
    pub fn new(worker: &'static Worker) -> Self {
        let number = worker.drain_bell.next.get();
        worker.drain_bell.next.set(number + 1);
        Self { worker, number }
    }

    /// Waits until the worker drains.
    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.worker.is_draining() {
            return Poll::Ready(());
        }
        let mut sleepers = self.worker.drain_bell.sleepers.borrow_mut();
        let waker = context.waker();
        sleepers
            .entry(self.number)
            .and_modify(|known| known.clone_from(waker))
            .or_insert_with(|| waker.clone());
        Poll::Pending
    }
}

impl Drop for DrainSleeper {
    fn drop(&mut self) {
        let mut sleepers = self.worker.drain_bell.sleepers.borrow_mut();
        sleepers.remove(&self.number);
    }
}
