//! Arguments, configuration, workers, wait.
fn main() {}
