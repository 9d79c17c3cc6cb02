//! From a TOML file to a `Policy`: the only module that knows the file's form.
//!
//! The file is parsed into a tree that knows its lines (`document`), checked against the JSON Schema
//! (`schema`, `check`) that the types of the file (`raw`) make, and then given a meaning
//! (`meaning`). Every step reports all that it finds and hands on what it can.

mod certificates;
mod check;
mod document;
mod error;
mod forms;
mod meaning;
pub mod policy;
mod raw;
mod schema;
pub mod secret;
mod units;

pub use check::closest;
pub use error::{ConfigErrors, Position, Problem};
pub use policy::Policy;
pub use schema::schema;
pub use secret::Secret;

use document::{Document, KeyPath};
use std::ffi::OsString;
use std::path::Path;

/// A configuration that can be used.
pub struct Loaded {
    /// What it means.
    pub policy: Policy,
    /// What is probably not meant, but does no harm to the gateway.
    pub warnings: Vec<Problem>,
}

/// Reads the file, and the credentials and certificates that it names.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let text = document::read_text(path).map_err(|problem| ConfigErrors {
        problems: vec![problem],
    })?;
    let mut loaded = parse(&text, path, &|name| std::env::var_os(name))?;
    let found = certificates::check(&loaded.policy, &Document::parse(&text, path));
    if !found.errors.is_empty() {
        return Err(ConfigErrors::new(found.errors));
    }
    loaded.warnings.extend(found.warnings);
    Ok(loaded)
}

/// Looks up an environment variable.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// The same for a text at hand. `file` is named in messages, and relative paths start beside it.
pub fn parse(
    text: &str,
    file: &Path,
    environment: Environment<'_>,
) -> Result<Loaded, ConfigErrors> {
    let document = Document::parse(text, file);
    let check::Checked {
        value,
        mut problems,
        complete,
    } = check::check(&document, &schema());
    if !complete {
        return Err(ConfigErrors::new(problems));
    }
    match serde_json::from_value(value) {
        Ok(file) => {
            let understood = meaning::understand(&file, &document, &problems, environment);
            problems.extend(understood.errors);
            match understood.policy {
                Some(policy) if problems.is_empty() => {
                    return Ok(Loaded {
                        policy,
                        warnings: understood.warnings,
                    });
                }
                _ => {}
            }
        }
        // Only if the schema let something pass that the types do not take.
        Err(error) => {
            let root = KeyPath::default();
            problems.push(document.problem(&root, document.locate(&root), error.to_string(), None));
        }
    }
    Err(ConfigErrors::new(problems))
}

#[cfg(test)]
mod tests;
