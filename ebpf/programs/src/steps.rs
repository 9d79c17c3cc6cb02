//! Loops that every verifier follows.

use core::arch::asm;

/// 0, 1, … up to `end`, which is not among them.
pub(crate) struct Steps {
    next: u64,
    end: u64,
}

/// A loop of `end` turns at most.
#[inline(always)]
pub(crate) const fn steps(end: u32) -> Steps {
    Steps {
        next: 0,
        end: end as u64,
    }
}

impl Iterator for Steps {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.next == self.end {
            return None;
        }
        let step = self.next as u32;
        // The compiler must not know what happens to the counter. It would count at the end of the body and run from there
        // into its beginning, but up to Linux 6.1 the way back has to be a jump.
        // SAFETY: adds one to a register.
        unsafe { asm!("{next} += 1", next = inout(reg) self.next, options(pure, nomem, nostack)) };
        Some(step)
    }
}
