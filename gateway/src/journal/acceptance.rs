//! Whether requests may be served although the journal may not be written.

use crate::config::policy::JournalMode;
use std::sync::atomic::{AtomicU8, Ordering};

/// How it is with the journal's disk, as the control thread sees it and workers read it. One per process.
pub struct Acceptance {
    mode: JournalMode,
    disk: AtomicU8,
}

/// How it is with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Disk {
    /// What is to be written is written.
    Writable = 0,
    /// It is not, and waits in memory.
    Failing = 1,
    /// It has waited for too long, or it is too much.
    Overdue = 2,
}

/// Why a request must not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// No record of it could be kept, and the operator wants one of each.
    Audit,
    /// What its tenant uses can no longer be counted for certain.
    Usage,
}

impl Acceptance {
    /// The disk is taken to be writable.
    pub fn new(mode: JournalMode) -> Self {
        Self {
            mode,
            disk: AtomicU8::new(Disk::Writable as u8),
        }
    }

    /// Says how it is with the disk now.
    pub fn note(&self, disk: Disk) {
        self.disk.store(disk as u8, Ordering::Relaxed);
    }

    /// No request may be served of which the record could be lost.
    pub fn is_strict(&self) -> bool {
        self.mode == JournalMode::Strict
    }

    /// May a request be served? `is_metered`: its tenant or key has quotas. One load as long as all is well.
    ///
    /// # Errors
    /// It must not.
    pub fn check(&self, is_metered: impl FnOnce() -> bool) -> Result<(), Withheld> {
        let disk = self.disk.load(Ordering::Relaxed);
        if disk == Disk::Writable as u8 {
            return Ok(());
        }
        match self.mode {
            JournalMode::Strict => Err(Withheld::Audit),
            _ if disk == Disk::Overdue as u8 && is_metered() => Err(Withheld::Usage),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_served() {
        use Disk::{Failing, Overdue, Writable};
        let (audit, usage) = (Err(Withheld::Audit), Err(Withheld::Usage));
        for (mode, disk, metered, unmetered) in [
            (JournalMode::BestEffort, Writable, Ok(()), Ok(())),
            (JournalMode::BestEffort, Failing, Ok(()), Ok(())),
            (JournalMode::BestEffort, Overdue, usage, Ok(())),
            (JournalMode::Strict, Writable, Ok(()), Ok(())),
            (JournalMode::Strict, Failing, audit, audit),
            (JournalMode::Strict, Overdue, audit, audit),
        ] {
            let acceptance = Acceptance::new(mode);
            acceptance.note(disk);
            assert_eq!(acceptance.check(|| true), metered, "{mode:?} {disk:?}");
            assert_eq!(acceptance.check(|| false), unmetered, "{mode:?} {disk:?}");
        }
    }
}
