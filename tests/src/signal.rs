//! Waiting for things to happen, with an end to the patience.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything is waited for before the test fails. Generous: a passing test never gets near it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A counting signal between threads: every `send` lets one `wait` go on.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<(Mutex<u64>, Condvar)>);

impl Signal {
    /// A signal that was not sent yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one waiter go on, now or later.
    pub fn send(&self) {
        *self.0.0.lock().expect("no holder panics") += 1;
        self.0.1.notify_one();
    }

    /// Waits for the other side.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub fn wait(&self) {
        let sent = self.0.0.lock().expect("no holder panics");
        let (mut sent, _) = self
            .0
            .1
            .wait_timeout_while(sent, DEADLINE, |sent| *sent == 0)
            .expect("no holder panics");
        assert!(*sent > 0, "the signal was not sent within {DEADLINE:?}");
        *sent -= 1;
    }

    /// Was it sent, and is that still to be waited for?
    pub fn is_pending(&self) -> bool {
        *self.0.0.lock().expect("no holder panics") > 0
    }
}

/// Asks until there is an answer. For conditions that nothing announces (the files of `/proc`, metrics).
///
/// # Panics
/// After [`DEADLINE`], naming what was waited for.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
