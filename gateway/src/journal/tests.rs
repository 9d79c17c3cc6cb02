//! What holds for all parts of a journal together.

mod damage;
mod disk;
mod reading;
pub(super) mod sample;
mod simulation;
