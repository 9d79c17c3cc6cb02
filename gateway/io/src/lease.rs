//! Buffers, lent out by a pool that belongs to one worker.

use monoio::buf::IoBufMut;
use std::cell::RefCell;
use std::rc::Rc;

/// What a tiny lease can hold: an event, a small request. What waits in the kernel for a stream's next event.
pub const TINY_LEASE_BYTES: usize = 4 * 1024;

/// What a small lease can hold: a request, an answer, a burst of events.
pub const SMALL_LEASE_BYTES: usize = 16 * 1024;

/// What a large lease can hold: bodies, and heads at the limit.
pub const LARGE_LEASE_BYTES: usize = 64 * 1024;

/// Free buffers kept of each size; what comes back beyond that is given back to the allocator.
const TINY_FREE_MAX: usize = 512;
const SMALL_FREE_MAX: usize = 256;
const LARGE_FREE_MAX: usize = 64;

#[derive(Default)]
struct Free {
    tiny: Vec<Box<[u8]>>,
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

/// A pool of buffers. Clones share the same pool; it is not shared between threads.
#[derive(Clone, Default)]
pub struct Pool {
    free: Rc<RefCell<Free>>,
}

impl Pool {
    /// A pool without buffers: they are made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lends a buffer of `TINY_LEASE_BYTES`.
    pub fn tiny(&self) -> Lease {
        let free = self.free.borrow_mut().tiny.pop();
        self.lend(free, TINY_LEASE_BYTES)
    }

    /// Lends a buffer of `SMALL_LEASE_BYTES`. Last in, first out: the buffer most likely still in the cache.
    pub fn small(&self) -> Lease {
        let free = self.free.borrow_mut().small.pop();
        self.lend(free, SMALL_LEASE_BYTES)
    }

    /// Lends a buffer of `LARGE_LEASE_BYTES`.
    pub fn large(&self) -> Lease {
        let free = self.free.borrow_mut().large.pop();
        self.lend(free, LARGE_LEASE_BYTES)
    }

    /// Lends the smallest buffer that holds so many bytes; a large one if none does.
    pub(crate) fn fitting(&self, bytes: usize) -> Lease {
        if bytes <= TINY_LEASE_BYTES {
            self.tiny()
        } else if bytes <= SMALL_LEASE_BYTES {
            self.small()
        } else {
            self.large()
        }
    }

    /// A lease that holds nothing and has no room.
    pub(crate) fn none(&self) -> Lease {
        Lease {
            memory: Box::default(),
            start: 0,
            end: 0,
            pool: self.clone(),
        }
    }

    /// How many leases and clones hold this pool besides this one.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Rc::strong_count(&self.free) - 1
    }

    fn lend(&self, free: Option<Box<[u8]>>, bytes: usize) -> Lease {
        let memory = free.unwrap_or_else(|| vec![0; bytes].into_boxed_slice());
        Lease {
            memory,
            start: 0,
            end: 0,
            pool: self.clone(),
        }
    }

    fn take_back(&self, memory: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        let (list, kept_max) = match memory.len() {
            TINY_LEASE_BYTES => (&mut free.tiny, TINY_FREE_MAX),
            SMALL_LEASE_BYTES => (&mut free.small, SMALL_FREE_MAX),
            _ => (&mut free.large, LARGE_FREE_MAX),
        };
        if list.len() < kept_max {
            list.push(memory);
        }
    }
}

/// A buffer on loan: filled bytes, and spare room behind them. Goes back to its pool when dropped.
pub struct Lease {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Pool,
}

impl Lease {
    /// The filled bytes.
    pub fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Where it comes from.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Is it more than what `take` leaves?
    pub(crate) fn has_memory(&self) -> bool {
        !self.memory.is_empty()
    }

    /// The filled bytes, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// How many bytes are filled.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many more bytes can be received.
    pub fn spare_bytes(&self) -> usize {
        self.memory.len() - self.end
    }

    /// The room that `recv` may fill.
    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    pub(crate) fn grow(&mut self, received_bytes: usize) {
        debug_assert!(received_bytes <= self.spare_bytes());
        self.end += received_bytes;
    }

    /// Forgets the first `count` filled bytes.
    ///
    /// # Panics
    /// If fewer are filled.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consume({count}) of {}", self.len());
        self.start += count;
    }

    /// Keeps only the first `count` filled bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    /// Copies `bytes` behind the filled ones. `false`, and nothing is changed, if they do not fit.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.spare_bytes() {
            return false;
        }
        let end = self.end + bytes.len();
        self.memory[self.end..end].copy_from_slice(bytes);
        self.end = end;
        true
    }

    /// Takes the buffer out, leaving a lease that holds nothing and has no room.
    #[must_use]
    pub fn take(&mut self) -> Lease {
        let nothing = self.pool.none();
        std::mem::replace(self, nothing)
    }

    /// Moves the filled bytes into the smallest lease that holds them, if this is a larger one: for what is kept for a while.
    #[must_use]
    pub(crate) fn shrink(self) -> Lease {
        let mut fitting = self.pool.fitting(self.len());
        if fitting.memory.len() >= self.memory.len() {
            return self;
        }
        let fits = fitting.append(self.filled());
        debug_assert!(fits, "it was chosen for them");
        fitting
    }

    /// Cuts off what follows the first `at` filled bytes into a lease of its own (copied: for the start of the
    /// next message, which is short or absent).
    ///
    /// # Panics
    /// If fewer are filled.
    pub fn split_off(&mut self, at: usize) -> Lease {
        let tail = &self.memory[self.start + at..self.end];
        let mut other = if tail.len() <= SMALL_LEASE_BYTES / 2 {
            self.pool.small()
        } else {
            self.pool.large()
        };
        let fits = other.append(tail);
        debug_assert!(fits, "a large lease holds whatever another one held");
        self.truncate(at);
        other
    }

    /// Moves the filled bytes into a large lease, if this is a smaller one; else to the front of this one. What could not
    /// grow any more has spare room afterwards, unless it was all of a large lease.
    #[must_use]
    pub fn widen(mut self) -> Lease {
        if self.memory.len() >= LARGE_LEASE_BYTES {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return self;
        }
        let mut large = self.pool.large();
        let fits = large.append(self.filled());
        debug_assert!(fits, "a large lease holds more than a small one");
        large
    }
}

// SAFETY: the spare room is initialised memory on the heap, which stays where it is when the lease is moved; the kernel
// alone has it while an operation owns the lease.
unsafe impl IoBufMut for Lease {
    fn write_ptr(&mut self) -> *mut u8 {
        self.spare_mut().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.spare_bytes()
    }

    unsafe fn set_init(&mut self, received_bytes: usize) {
        self.grow(received_bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if !memory.is_empty() {
            self.pool.take_back(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_returned_is_lent_first() {
        let pool = Pool::new();
        let first = pool.small();
        let address = first.memory.as_ptr();
        drop(first);
        assert_eq!(pool.small().memory.as_ptr(), address);
    }

    #[test]
    fn sizes_do_not_mix() {
        let pool = Pool::new();
        drop(pool.large());
        assert_eq!(pool.small().spare_bytes(), SMALL_LEASE_BYTES);
        assert_eq!(pool.large().spare_bytes(), LARGE_LEASE_BYTES);
    }

    #[test]
    fn a_lent_buffer_is_empty_whatever_it_held_before() {
        let pool = Pool::new();
        let mut lease = pool.small();
        assert!(lease.append(b"secret"));
        lease.consume(2);
        drop(lease);
        assert!(pool.small().is_empty());
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let pool = Pool::new();
        let mut lease = pool.small();
        assert!(lease.append(&[b'x'; SMALL_LEASE_BYTES - 1]));
        assert!(!lease.append(b"yz"));
        assert_eq!(lease.len(), SMALL_LEASE_BYTES - 1);
    }

    #[test]
    fn splitting_and_widening_keep_the_bytes() {
        let pool = Pool::new();
        let mut lease = pool.small();
        assert!(lease.append(b"firstsecond"));
        let second = lease.split_off(5);
        assert_eq!(
            (lease.filled(), second.filled()),
            (&b"first"[..], &b"second"[..])
        );
        let mut wide = second.widen();
        assert_eq!(wide.filled(), b"second");
        assert!(wide.spare_bytes() > SMALL_LEASE_BYTES);
        wide.consume(3);
        assert_eq!(wide.widen().filled(), b"ond");
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let pool = Pool::new();
        let many: Vec<_> = (0..SMALL_FREE_MAX + 10).map(|_| pool.small()).collect();
        drop(many);
        assert_eq!(pool.free.borrow().small.len(), SMALL_FREE_MAX);
    }
}
