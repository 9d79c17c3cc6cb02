//! Buffers, lent out by a pool that belongs to one worker.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// Room before the first byte that is received, so that a head or a chunk-size line can be put in front of a
/// body without moving it.
pub const HEADROOM_BYTES: usize = 1024;

/// Room behind the last byte that can be received: for the line break after a chunk.
pub const TAILROOM_BYTES: usize = 2;

/// What a small lease can receive: a request, an answer, a burst of events.
pub const SMALL_LEASE_BYTES: usize = 16 * 1024;

/// What a large lease can receive: bodies, and heads at the limit.
pub const LARGE_LEASE_BYTES: usize = 64 * 1024;

/// Free buffers kept of each size; what comes back beyond that is given back to the allocator.
const SMALL_FREE_MAX: usize = 256;
const LARGE_FREE_MAX: usize = 64;

#[derive(Default)]
struct Free {
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

    fn lend(&self, free: Option<Box<[u8]>>, usable_bytes: usize) -> Lease {
        let memory = free.unwrap_or_else(|| {
            vec![0; HEADROOM_BYTES + usable_bytes + TAILROOM_BYTES].into_boxed_slice()
        });
        Lease {
            memory,
            start: HEADROOM_BYTES,
            end: HEADROOM_BYTES,
            pool: self.clone(),
        }
    }

    fn take_back(&self, memory: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        let (list, kept_max) = if memory.len() > SMALL_LEASE_BYTES + HEADROOM_BYTES + TAILROOM_BYTES
        {
            (&mut free.large, LARGE_FREE_MAX)
        } else {
            (&mut free.small, SMALL_FREE_MAX)
        };
        if list.len() < kept_max {
            list.push(memory);
        }
    }
}

/// A buffer on loan: headroom, filled bytes, spare room, tailroom. Goes back to its pool when dropped.
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
        self.memory.len() - TAILROOM_BYTES - self.end
    }

    /// The room that `recv` may fill.
    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        let limit = self.memory.len() - TAILROOM_BYTES;
        &mut self.memory[self.end..limit]
    }

    pub(crate) fn grow(&mut self, received_bytes: usize) {
        debug_assert!(received_bytes <= self.spare_bytes());
        self.end += received_bytes;
    }

    /// Forgets the first `count` filled bytes; the room they took becomes headroom.
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

    /// Puts `bytes` right before the filled ones. `false`, and nothing is changed, if the headroom is too small.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else {
            return false;
        };
        self.memory[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Puts `bytes` right behind the filled ones. `false`, and nothing is changed, if there is no room
    /// (the tailroom counts as room here).
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.end + bytes.len();
        if end > self.memory.len() {
            return false;
        }
        self.memory[self.end..end].copy_from_slice(bytes);
        self.end = end;
        true
    }

    /// Closes the gap: moves the filled bytes at `range` to `to`, which must not lie behind it. For bodies whose
    /// framing is taken out before they are sent with another one.
    pub fn move_within(&mut self, range: Range<usize>, to: usize) {
        self.filled_mut().copy_within(range, to);
    }

    /// Cuts off what follows the first `at` filled bytes into a lease of its own (copied: for the start of the
    /// next message, which is short or absent).
    pub fn split_off(&mut self, at: usize) -> Lease {
        let tail = &self.memory[self.start + at..self.end];
        let mut other = if tail.len() <= SMALL_LEASE_BYTES {
            self.pool.small()
        } else {
            self.pool.large()
        };
        let fits = other.append(tail);
        debug_assert!(
            fits,
            "a large lease holds whatever another one held behind its headroom"
        );
        self.truncate(at);
        other
    }

    /// Moves the filled bytes into a large lease if this is a small one and full.
    pub fn widen(self) -> Lease {
        if self.memory.len() >= LARGE_LEASE_BYTES {
            return self;
        }
        let mut large = self.pool.large();
        let fits = large.append(self.filled());
        debug_assert!(fits, "a large lease holds more than a small one");
        large
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.take_back(memory);
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
    fn prepending_uses_headroom_and_consumed_room() {
        let pool = Pool::new();
        let mut lease = pool.small();
        assert!(lease.append(b"old head|body"));
        lease.consume(9);
        let body = lease.filled().as_ptr();
        assert!(lease.prepend(&[b'x'; HEADROOM_BYTES + 9]));
        assert!(!lease.prepend(b"y"), "no headroom is left");
        lease.consume(HEADROOM_BYTES + 9);
        assert_eq!(lease.filled(), b"body");
        assert_eq!(lease.filled().as_ptr(), body, "the body was not moved");
    }

    #[test]
    fn a_full_lease_still_has_tailroom() {
        let pool = Pool::new();
        let mut lease = pool.small();
        let spare_bytes = lease.spare_bytes();
        lease.grow(spare_bytes);
        assert!(lease.append(b"\r\n"));
        assert!(!lease.append(b"!"));
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
        let wide = second.widen();
        assert_eq!(wide.filled(), b"second");
        assert!(wide.spare_bytes() > SMALL_LEASE_BYTES);
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let pool = Pool::new();
        let many: Vec<_> = (0..SMALL_FREE_MAX + 10).map(|_| pool.small()).collect();
        drop(many);
        assert_eq!(pool.free.borrow().small.len(), SMALL_FREE_MAX);
    }
}
