//! The journal: what is reported of every request when it is over, and what of that is kept on disk.
//!
//! ```text
//! worker ── Report ──► queue ──► control thread ── Entry ──► segment on disk ──► whoever queries
//! ```

pub mod acceptance;
pub mod entry;
mod queue;

pub use acceptance::{Acceptance, Withheld};
pub use entry::Entry;
pub use queue::{QUEUE_REPORTS, Reader, Record, RecordPlace, Report, Writer, queue};
