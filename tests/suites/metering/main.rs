//! What answers used, by what the provider said on the way.

mod include_usage;
