//! Counters of what is used, which many threads change at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds so much unless that would be more than `max`: at no moment is it more because of this.
pub(super) fn take(counter: &AtomicU64, amount: u64, max: u64) -> bool {
    let mut seen = counter.load(Ordering::Relaxed);
    loop {
        let Some(next) = seen.checked_add(amount).filter(|&next| next <= max) else {
            return false;
        };
        match counter.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
}

/// Adds so much. What a provider says that it counted may be any number: the counter stays at its largest then.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        update(counter, |used| used.saturating_add(amount));
    }
}

/// Takes so much away, as far as there is something.
pub(super) fn subtract(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        update(counter, |used| used.saturating_sub(amount));
    }
}

/// Makes something else of a number, whatever others do with it meanwhile.
pub(super) fn update(counter: &AtomicU64, next: impl Fn(u64) -> u64) {
    let mut seen = counter.load(Ordering::Relaxed);
    while let Err(now) =
        counter.compare_exchange_weak(seen, next(seen), Ordering::Relaxed, Ordering::Relaxed)
    {
        seen = now;
    }
}
