//! The runtime of one worker thread: io_uring, or epoll where the kernel or a sandbox refuses io_uring.

use crate::process::ring_bytes_max;
use std::future::Future;
use std::io;
use std::time::Duration;

/// Submission queue: entries of one loop iteration; a full one is only submitted earlier. Completion queue: completions that may
/// wait, one per connection and more; what finds no room in it waits in the kernel.
#[derive(Clone, Copy, Debug)]
struct Entries {
    submission: u32,
    completion: u32,
}

/// From the size that is wanted down to one that does. The memory of rings is limited (RLIMIT_MEMLOCK), for all processes of a user
/// together.
const ENTRIES: [Entries; 3] = [
    Entries {
        submission: 2048,
        completion: 16_384,
    },
    Entries {
        submission: 512,
        completion: 4_096,
    },
    Entries {
        submission: 128,
        completion: 1_024,
    },
];

/// Entries of a ring that is only tried.
const PROBE_ENTRIES: u32 = 8;

impl Entries {
    /// What the kernel takes for them: 64 bytes and an index of 4 for each submission, 16 for each completion, and what it
    /// shares about both.
    fn bytes(self) -> u64 {
        u64::from(self.submission) * 68 + u64::from(self.completion) * 16 + 4_096
    }
}

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
            let probe = Entries {
                submission: PROBE_ENTRIES,
                completion: 2 * PROBE_ENTRIES,
            };
            if builder(true, probe).build(probe.submission).is_ok() {
                return (Self::IoUring, None);
            }
            match builder(false, probe).build(probe.submission) {
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

fn builder(deferred: bool, entries: Entries) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(entries.completion);
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
            let deferred = engine == Engine::IoUring;
            let build = |entries: Entries| {
                monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                    .uring_builder(builder(deferred, entries))
                    .with_entries(entries.submission)
                    .enable_timer()
                    .build()
            };
            let lacks_memory = |error: &io::Error| error.raw_os_error() == Some(libc::ENOMEM);
            let fits = |entries: &&Entries| entries.bytes() <= ring_bytes_max();
            let [larger @ .., smallest] = &ENTRIES;
            let mut built = Err(io::Error::from_raw_os_error(libc::ENOMEM));
            for entries in larger.iter().filter(fits).chain([smallest]) {
                if built.as_ref().is_err_and(lacks_memory) {
                    built = build(*entries);
                }
            }
            let mut runtime = built.map_err(|error| match lacks_memory(&error) {
                true => io::Error::other(
                    "no memory for its io_uring: raise the limit on locked memory (`ulimit -l`, LimitMEMLOCK=), \
                     which all processes of this user share",
                ),
                false => error,
            })?;
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
    // A timer is large and begins a cache line of its own, as would every future that may pause.
    Box::pin(monoio::time::sleep(duration)).await;
}
