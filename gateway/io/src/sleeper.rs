//! The task that waits for something which another one brings about.

use std::cell::Cell;
use std::task::{Context, Waker};

/// The task that waits for something, if one does.
#[derive(Default)]
pub(crate) struct Sleeper(Cell<Option<Waker>>);

impl Sleeper {
    pub(crate) fn sleep(&self, context: &Context<'_>) {
        self.0.set(Some(context.waker().clone()));
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}
