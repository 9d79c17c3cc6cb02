//! From a TOML file to a `Policy`: the only module that knows the file's form.

pub mod policy;
pub mod secret;

pub use policy::Policy;
pub use secret::Secret;
