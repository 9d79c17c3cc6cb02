//! What a client wrote: kept in a file, shown where it failed.

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Cache;
use crate::command;

/// A client that has run.
pub(super) struct Transcript {
    pub(super) name: String,
    pub(super) succeeded: bool,
    /// Standard output and standard error, in the order of writing.
    pub(super) text: String,
    /// Where the text is kept.
    pub(super) path: PathBuf,
}

impl Transcript {
    /// Runs a client to its end, or until the limit.
    pub(super) fn of(
        name: &str,
        client: &mut Command,
        cache: &Cache,
        limit: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let path = cache.transcript(name);
        let file = File::create(&path)?;
        client
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let outcome = command::run_within(client, limit);
        let mut text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        if let Err(error) = &outcome {
            text.push_str(&format!("{error}\n"));
        }
        Ok(Self {
            name: name.to_owned(),
            succeeded: outcome.is_ok(),
            text,
            path,
        })
    }

    /// The line in which a client sums up.
    pub(super) fn last_line(&self) -> &str {
        self.text.lines().last().unwrap_or_default()
    }
}
