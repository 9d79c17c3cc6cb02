//! What tenants and keys may use, and what they have used: shared by all workers, without locks.
//!
//! ```text
//! Allowances ── admit ──► Admission ── reserve ──► … ── settle: charged; dropped: given back
//!     │ one of each tenant and key          │ takes from both, the key first
//!     ▼                                     ▼
//!   Ledger: in flight · rates (`pace`) · three days and three months (`period`), by the `calendar`
//! ```

mod admission;
mod allowances;
mod calendar;
mod counter;
mod in_flight;
mod ledger;
mod pace;
mod period;
mod standing;
mod term;

pub use admission::Admission;
pub use allowances::{Allowances, Who};
pub use in_flight::{Counter, InFlight, Place};
pub use standing::{Consumption, Estimate, Exceeded, LimitState, ScopeState, Span, Standing};

#[cfg(test)]
mod tests;
