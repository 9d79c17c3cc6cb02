//! Waiting for the first of two things, or for both.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

/// Which of two waits ended first.
#[derive(Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one; also if both have ended.
    First(A),
    /// The second one.
    Second(B),
}

/// Waits until one of two futures ends, and drops the other: so only for waits that own nothing (`Stream::readable`).
pub async fn either<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(output));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

/// Runs two futures in one task until both have ended. Neither is dropped before, so they may own what operations use.
pub async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut of_first, mut of_second) = (None, None);
    std::future::poll_fn(|context| {
        if of_first.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            of_first = Some(output);
        }
        if of_second.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            of_second = Some(output);
        }
        match (of_first.take(), of_second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (of_first, of_second) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Ready, pending, ready};
    use std::task::{Context, Waker};

    /// Ready when it is looked at for the second time.
    async fn later<T>(value: T) -> T {
        let mut was_seen = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut was_seen, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        value
    }

    #[test]
    fn both_end_and_what_has_ended_is_not_polled_again() {
        let mut context = Context::from_waker(Waker::noop());
        // A future like this one panics where it is polled when it is over.
        let at_once: Ready<i32> = ready(1);
        let mut joined = pin!(both(at_once, later("later")));
        assert_eq!(joined.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(
            joined.as_mut().poll(&mut context),
            Poll::Ready((1, "later"))
        );
        let mut turned = pin!(both(later(2), ready(3)));
        assert_eq!(turned.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(turned.as_mut().poll(&mut context), Poll::Ready((2, 3)));
        let mut never = pin!(both(ready(4), pending::<()>()));
        assert_eq!(never.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(never.as_mut().poll(&mut context), Poll::Pending);
    }
}
