//! Panics in tasks: one ends what it happened in, and nothing else.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Turns a panic into an error, so that the task ends and the thread lives.
pub(crate) struct CatchUnwind<F>(Pin<Box<F>>);

impl<F> CatchUnwind<F> {
    pub(crate) fn new(task: F) -> Self {
        Self(Box::pin(task))
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CatchUnwind;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_panic_becomes_an_error_of_its_task() {
        let mut broken = pin!(CatchUnwind::new(async { panic!("on purpose") }));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(
            broken.as_mut().poll(&mut context),
            Poll::Ready(Err(_))
        ));
        let mut fine = pin!(CatchUnwind::new(async { 5 }));
        assert!(matches!(
            fine.as_mut().poll(&mut context),
            Poll::Ready(Ok(5))
        ));
    }
}
