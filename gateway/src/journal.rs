//! The journal: what is reported of every request when it is over, and what of that is kept on disk.
//!
//! ```text
//! worker ── Report ──► queue ──► control thread ── Entry ──► segment on disk ──► whoever queries
//! ```
//!
//! A worker's reports (`queue`) become entries ([`Entry`]) that the control thread keeps in a [`Journal`]: payloads
//! (`payload`, `names`) in frames (`frame`) of segments (`segment`), written in group commits (`append`) by whoever can do
//! that best (`disk`). What a start finds is looked at by `recover`; [`Entries`] reads all of it, while it is written to as well.

pub mod acceptance;
mod append;
mod disk;
pub mod entry;
mod frame;
mod frames;
mod lock;
mod names;
mod payload;
mod queue;
mod read;
mod recover;
mod segment;
mod store;
#[cfg(test)]
mod tests;

pub use acceptance::{Acceptance, Withheld};
pub use disk::Failure;
pub use entry::{Closed, ClosedBy, Entry};
pub use frame::{Header, Span};
pub use queue::{QUEUE_REPORTS, Reader, Record, RecordPlace, Report, Writer, queue};
pub use read::{Entries, Filter, Gap, Item, Loss};
pub use recover::Recovered;
pub use segment::{Files, Segment, Sidecar, Unreadable, segments};
pub use store::{Journal, Outcome};
