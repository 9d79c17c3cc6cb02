//! From start to end: configurations that cannot work, what the operator sees, draining.

mod drain;
mod engine;
mod operator;
mod start;
