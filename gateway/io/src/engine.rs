//! The runtime of one worker thread: io_uring, or epoll where the kernel or a sandbox refuses io_uring.

use std::future::Future;
use std::io;
use std::time::Duration;

/// Submission queue: entries of one loop iteration; a full one is only submitted earlier.
const SUBMISSION_ENTRIES: u32 = 2048;

/// Completion queue: completions that may wait, one per connection and more.
const COMPLETION_ENTRIES: u32 = 16_384;

/// Entries of a ring that is only tried.
const PROBE_ENTRIES: u32 = 8;

/// What drives a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring with `SINGLE_ISSUER` and `DEFER_TASKRUN`.
    IoUring,
    /// io_uring without these flags: a kernel before 6.1.
    IoUringPlain,
    /// epoll, with the reason why io_uring was refused.
    Epoll,
}

/// Why io_uring cannot be used.
#[derive(Debug)]
pub struct Refused(pub io::Error);

impl Engine {
    /// The best engine that this kernel allows this process, and why io_uring was refused if it was.
    pub fn probe() -> (Self, Option<Refused>) {
        // On a thread of its own: what is left to do for a ring that was closed would interrupt a blocking call of
        // the thread that made it.
        let probed = std::thread::spawn(|| {
            if builder(true).build(PROBE_ENTRIES).is_ok() {
                return (Self::IoUring, None);
            }
            match builder(false).build(PROBE_ENTRIES) {
                Ok(_) => (Self::IoUringPlain, None),
                Err(error) => (Self::Epoll, Some(Refused(error))),
            }
        });
        let failed = || {
            (
                Self::Epoll,
                Some(Refused(io::Error::other("the probe failed"))),
            )
        };
        probed.join().unwrap_or_else(|_| failed())
    }

    /// A name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::IoUringPlain => "io_uring without DEFER_TASKRUN",
            Self::Epoll => "epoll",
        }
    }
}

fn builder(deferred: bool) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(COMPLETION_ENTRIES);
    if deferred {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    builder
}

/// Runs `future` on this thread until it ends. The runtime is leaked, not dropped: operations may be in flight, and
/// the process is about to exit.
///
/// # Errors
/// The engine could not be started.
pub fn run<F: Future>(engine: Engine, future: F) -> io::Result<F::Output> {
    #[cfg(feature = "probe")]
    crate::probe::this_is_a_worker();
    match engine {
        Engine::IoUring | Engine::IoUringPlain => {
            let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                .uring_builder(builder(engine == Engine::IoUring))
                .with_entries(SUBMISSION_ENTRIES)
                .enable_timer()
                .build()?;
            let output = runtime.block_on(future);
            std::mem::forget(runtime);
            Ok(output)
        }
        Engine::Epoll => {
            let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new()
                .enable_timer()
                .build()?;
            let output = runtime.block_on(future);
            std::mem::forget(runtime);
            Ok(output)
        }
    }
}

/// Starts a task on this thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(future));
}

/// Waits. For pauses between attempts; deadlines of sockets belong to the `Wheel`.
pub async fn pause(duration: Duration) {
    monoio::time::sleep(duration).await;
}
