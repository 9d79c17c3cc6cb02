//! What holds of any limits and any requests, compared with what is plain to see.

mod model;
mod rates;
