//! Memory that an operation on the ring reads while its future waits.

use monoio::buf::{IoBuf, IoVecBuf};
use std::io::IoSlice;

/// Ends the process if it is dropped: an operation on the ring still reads from memory that is about to be freed.
/// Tasks are never dropped before they end, so this is never seen.
pub(crate) struct InFlight;

impl InFlight {
    /// The operation has ended.
    pub(crate) fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Bytes that an operation of `Tcp::send_one` reads: only as long as its future lives, which borrows them and does not end before
/// the operation has (`InFlight`).
pub(crate) struct Part(*const u8, usize);

impl Part {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(bytes.as_ptr(), bytes.len())
    }
}

// SAFETY: a `Part` is made by `Tcp::send_one` alone, which hands it to the operation and drops it with that. The bytes are
// initialised, and stay where they are and unchanged meanwhile: the future holds the borrow `Part::of` was given, and where it would
// end before the operation, `InFlight` ends the process.
unsafe impl IoBuf for Part {
    fn read_ptr(&self) -> *const u8 {
        self.0
    }

    fn bytes_init(&self) -> usize {
        self.1
    }
}

/// The same for several stretches of bytes, in `Tcp::send`.
pub(crate) struct Parts(*const libc::iovec, usize);

impl Parts {
    pub(crate) fn of(parts: &[IoSlice<'_>]) -> Self {
        // `IoSlice` has the layout of iovec.
        Self(parts.as_ptr().cast(), parts.len())
    }
}

// SAFETY: as above, with `Tcp::send`, whose future holds the borrow of the parts and of the array of them.
unsafe impl IoVecBuf for Parts {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.0
    }

    fn read_iovec_len(&self) -> usize {
        self.1
    }
}
