//! Whether requests may be served although the journal may not be written.

use crate::config::policy::JournalMode;
use std::sync::atomic::{AtomicU8, Ordering};

/// How it is with the journal's disk, as the control thread sees it and workers read it. One per process.
pub struct Acceptance {
    mode: JournalMode,
    /// How it is with the disk, and `USE_UNKNOWN`. The control thread alone writes it.
    state: AtomicU8,
}

/// What was used before the start could not be read.
const USE_UNKNOWN: u8 = 0x80;

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
    /// The disk is taken to be writable, and what was used before to be known.
    pub fn new(mode: JournalMode) -> Self {
        Self {
            mode,
            state: AtomicU8::new(Disk::Writable as u8),
        }
    }

    /// Says how it is with the disk now.
    pub fn note(&self, disk: Disk) {
        let unknown = self.state.load(Ordering::Relaxed) & USE_UNKNOWN;
        self.state.store(disk as u8 | unknown, Ordering::Relaxed);
    }

    /// Says whether it is known what was used before the start.
    pub fn note_use_known(&self, is_known: bool) {
        let unknown = if is_known { 0 } else { USE_UNKNOWN };
        let disk = self.state.load(Ordering::Relaxed) & !USE_UNKNOWN;
        self.state.store(disk | unknown, Ordering::Relaxed);
    }

    /// How it is with the disk, in a word.
    pub fn as_str(&self) -> &'static str {
        let state = self.state.load(Ordering::Relaxed);
        match state & !USE_UNKNOWN {
            _ if self.mode == JournalMode::Off => "off",
            disk if disk == Disk::Failing as u8 => "failing",
            disk if disk == Disk::Overdue as u8 => "overdue",
            _ if state & USE_UNKNOWN != 0 => "unreadable",
            _ => "writable",
        }
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
        let state = self.state.load(Ordering::Relaxed);
        if state == Disk::Writable as u8 {
            return Ok(());
        }
        let disk = state & !USE_UNKNOWN;
        if self.is_strict() && disk != Disk::Writable as u8 {
            return Err(Withheld::Audit);
        }
        let is_uncertain = disk == Disk::Overdue as u8 || state != disk;
        if is_uncertain && is_metered() {
            return Err(Withheld::Usage);
        }
        Ok(())
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
    #[test]
    fn nobody_has_quotas_of_which_it_is_not_known_what_is_left() {
        let acceptance = Acceptance::new(JournalMode::BestEffort);
        let served = || [true, false].map(|is_metered| acceptance.check(|| is_metered));
        acceptance.note_use_known(false);
        assert_eq!(served(), [Err(Withheld::Usage), Ok(())]);
        acceptance.note(Disk::Failing);
        assert_eq!(served(), [Err(Withheld::Usage), Ok(())]);
        acceptance.note(Disk::Writable);
        assert_eq!(served(), [Err(Withheld::Usage), Ok(())]);
        acceptance.note_use_known(true);
        assert_eq!(served(), [Ok(()), Ok(())]);
    }
}
