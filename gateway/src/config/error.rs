//! What is wrong with a configuration, said so that it can be put right without a second attempt.

use std::fmt;
use std::path::PathBuf;

/// Line and column in the file, both counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One finding: where, what and, where it can be told, how to put it right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named.
    pub file: PathBuf,
    /// `None` when the file as a whole is meant.
    pub position: Option<Position>,
    /// Key path, `account[1].egress[0]`; empty when no single key is meant.
    pub key: String,
    /// What is wrong. Never holds the value of a credential or of a key.
    pub message: String,
    /// How to put it right.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(out, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(out, " {}:", self.key)?;
        }
        write!(out, " {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a configuration cannot be used: every problem that was found, in the order of the file.
#[derive(Debug)]
pub struct ConfigErrors {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.position);
        Self { problems }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
