//! Tasks of the repository, one file per verb.
fn main() {}
