//! What answers used, read from the bytes that pass: equal to what the provider counted, whatever becomes of the client.

mod cancels;
mod include_usage;
mod transcripts;
