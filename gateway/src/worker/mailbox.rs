//! What the control thread tells the workers. Workers look at every tick of their wheel, so nobody is ever woken for it.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Orders for all workers; one per process.
pub struct Mailbox {
    draining: AtomicBool,
    ending: AtomicBool,
    addresses_version: AtomicU64,
    addresses: Mutex<Vec<Vec<SocketAddr>>>,
    workers_started: AtomicUsize,
    workers_running: AtomicUsize,
}

impl Mailbox {
    /// No orders; the upstreams' addresses as resolved at start.
    pub fn new(addresses: Vec<Vec<SocketAddr>>, workers: usize) -> Self {
        Self {
            draining: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            addresses_version: AtomicU64::new(1),
            addresses: Mutex::new(addresses),
            workers_started: AtomicUsize::new(0),
            workers_running: AtomicUsize::new(workers),
        }
    }

    /// Orders the workers to finish what they have and to take no more.
    pub fn order_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Were the workers ordered to drain?
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Orders the workers to cut what they still have.
    pub fn order_end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Were the workers ordered to cut what they have?
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Publishes new addresses, by upstream.
    pub fn publish_addresses(&self, addresses: Vec<Vec<SocketAddr>>) {
        *self.locked() = addresses;
        self.addresses_version.fetch_add(1, Ordering::Release);
    }

    /// The version of the addresses: a worker copies them when it has changed.
    pub fn addresses_version(&self) -> u64 {
        self.addresses_version.load(Ordering::Acquire)
    }

    /// A copy of the addresses.
    pub fn addresses(&self) -> Vec<Vec<SocketAddr>> {
        self.locked().clone()
    }

    /// A worker accepts connections.
    pub fn note_worker_started(&self) {
        self.workers_started.fetch_add(1, Ordering::AcqRel);
    }

    /// Workers that have begun to accept connections.
    pub fn workers_started(&self) -> usize {
        self.workers_started.load(Ordering::Acquire)
    }

    /// A worker has nothing left to do.
    pub fn note_worker_done(&self) {
        self.workers_running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Workers that still have something to do.
    pub fn workers_running(&self) -> usize {
        self.workers_running.load(Ordering::Acquire)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Vec<SocketAddr>>> {
        // A thread that panicked while it held the lock left a whole value behind all the same.
        self.addresses
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
