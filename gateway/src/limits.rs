//! What tenants and keys may use, and what they have used: shared by all workers, without locks.

mod allowances;
mod in_flight;

pub use allowances::{
    Admission, Allowances, Consumption, Estimate, Exceeded, LimitState, ScopeState, Span, Standing,
    Who,
};
pub use in_flight::{Counter, InFlight, Place};
