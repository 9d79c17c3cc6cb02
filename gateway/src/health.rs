//! How the accounts are: which may be asked now, and what follows from how they answered.
//!
//! Everything that decides is pure and gets its time and its chance from outside: [`breaker`] is the state machine of one
//! account or one of its addresses, [`blame`] the table of which failure counts against whom. [`board`] is what all threads
//! share: to read it takes a few atomic loads, and only who has to report a failure, or a success of somebody who is not
//! well, takes a lock.

pub mod blame;
pub mod board;
pub mod breaker;
pub mod moment;

pub use blame::{Blame, Charge, Fault};
pub use board::{
    Change, Health, LatencyRecord, Order, Override, Record, Standing, Transition, Trial, Wish,
};
pub use breaker::{Breaker, BreakerRecord, Cause, Openings, Rules, State};
pub use moment::{Clock, Moment};
