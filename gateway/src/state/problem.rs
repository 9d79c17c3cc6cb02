//! What can be wrong with what is on the disk, and with the disk.

use std::io;

/// What it means that nothing can be saved, for whoever reads the log.
pub(super) const UNSAVED: &str =
    "blocks and orders would not outlive the process; it is tried again every 5 s";

/// What it means that state was put away.
pub(super) const PUT_AWAY: &str = "at a start: blocks, the operator's orders and the owners of \
    stored responses are lost, and what was drained or disabled must be again; later: nothing is lost, all is written anew";

/// Why what is on the disk is not believed. A closed set, for names of files and for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The seal is not as it was written.
    Seal,
    SealMissing,
    DatabaseMissing,
    /// The files are not those that were sealed.
    Files,
    /// Something is there that was not put there by a gateway.
    Foreign,
    /// Something cannot be read.
    Unreadable,
    /// The database holds something else than what is kept in it.
    Version,
    /// The database itself says so.
    Database,
    /// The database has panicked.
    Panicked,
    /// The reader has ended otherwise than it should.
    Reader,
    TooSlow,
    /// A record is not as it was written.
    Record,
    /// Not all records are there, or not those that belong together.
    Manifest,
    /// What is there is not the latest that was written.
    Older,
}

impl Damage {
    pub(super) const ALL: [Self; 14] = [
        Self::Seal,
        Self::SealMissing,
        Self::DatabaseMissing,
        Self::Files,
        Self::Foreign,
        Self::Unreadable,
        Self::Version,
        Self::Database,
        Self::Panicked,
        Self::Reader,
        Self::TooSlow,
        Self::Record,
        Self::Manifest,
        Self::Older,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::SealMissing => "seal_missing",
            Self::DatabaseMissing => "database_missing",
            Self::Files => "files",
            Self::Foreign => "foreign",
            Self::Unreadable => "unreadable",
            Self::Version => "version",
            Self::Database => "database",
            Self::Panicked => "panicked",
            Self::Reader => "reader",
            Self::TooSlow => "too_slow",
            Self::Record => "record",
            Self::Manifest => "manifest",
            Self::Older => "older",
        }
    }
}

/// Why files cannot be gone on with.
#[derive(Debug)]
pub(super) enum Problem {
    /// They are not believed.
    Damaged(Damage),
    /// Another process has them.
    Busy,
    /// The system says so.
    Io(io::Error),
    /// A new database cannot be made. What is on the disk is not to blame for that.
    Unmade(String),
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
