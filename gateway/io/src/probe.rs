//! For tests only (feature `probe`): what the data path really does with memory.
//!
//! Records where each read was put and what each write was taken from, and counts what worker threads allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Memory that an operation touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The kernel wrote these addresses.
    Received(Range<usize>),
    /// The kernel read these addresses.
    Sent(Range<usize>),
}

static RECORDING: AtomicBool = AtomicBool::new(false);
static RECORDED: Mutex<Vec<Touched>> = Mutex::new(Vec::new());
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn this_is_a_worker() {
    IS_WORKER.set(true);
}

pub(crate) fn received(bytes: &[u8]) {
    record(|| Touched::Received(addresses(bytes)));
}

pub(crate) fn sent(bytes: &[u8]) {
    record(|| Touched::Sent(addresses(bytes)));
}

fn addresses(bytes: &[u8]) -> Range<usize> {
    let range = bytes.as_ptr_range();
    range.start.addr()..range.end.addr()
}

fn record(touched: impl FnOnce() -> Touched) {
    if RECORDING.load(Ordering::Relaxed)
        && let Ok(mut recorded) = RECORDED.lock()
    {
        recorded.push(touched());
    }
}

/// Begins to record, with room for so many operations (recording allocates nothing as long as there is room).
pub fn start_recording(operations: usize) {
    if let Ok(mut recorded) = RECORDED.lock() {
        *recorded = Vec::with_capacity(operations);
    }
    RECORDING.store(true, Ordering::SeqCst);
}

/// Ends it, and returns what was recorded, in order.
pub fn stop_recording() -> Vec<Touched> {
    RECORDING.store(false, Ordering::SeqCst);
    RECORDED
        .lock()
        .map(|mut recorded| std::mem::take(&mut *recorded))
        .unwrap_or_default()
}

/// Allocations of all worker threads since the process began, growing of an allocation included.
pub fn worker_allocations() -> u64 {
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// The system's allocator, counting for worker threads.
pub struct CountingAllocator;

impl CountingAllocator {
    fn count() {
        if IS_WORKER.get() {
            ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}
