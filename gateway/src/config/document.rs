//! The file as it was written: its text, its tree of values and where each of them stands.

use super::error::{Position, Problem};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Larger files are refused: they are not configurations.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The way from the root of the file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path `a.b.c` of plain keys.
    pub(super) fn of(keys: &str) -> Self {
        Self(
            keys.split('.')
                .map(|key| Step::Key(key.to_owned()))
                .collect(),
        )
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(out, "[{index}]")?,
                Step::Key(key) => {
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let dot = if position == 0 { "" } else { "." };
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(out, "{dot}{key}")?;
                    } else {
                        write!(out, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A parsed file.
pub(super) struct Document<'i> {
    /// How the file was named.
    pub(super) file: &'i Path,
    text: &'i str,
    /// What the file says; where the syntax is wrong, the parser's best guess.
    pub(super) root: Spanned<DeValue<'i>>,
    /// Errors of syntax: message and place.
    pub(super) syntax: Vec<(String, usize)>,
}

impl<'i> Document<'i> {
    pub(super) fn parse(text: &'i str, file: &'i Path) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let span = root.span();
        let mut syntax: Vec<_> = errors
            .iter()
            .map(|error| {
                (
                    error.message().to_owned(),
                    error.span().map_or(0, |span| span.start),
                )
            })
            .collect();
        syntax.sort_by_key(|(_, offset)| *offset);
        Self {
            file,
            text,
            root: Spanned::new(span, DeValue::Table(root.into_inner())),
            syntax,
        }
    }

    /// Paths in the file are relative to the directory that the file is in.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Where the value at the path stands; where there is none, the nearest value around it.
    pub(super) fn locate(&self, path: &KeyPath) -> Position {
        self.position(self.span(path).1.start)
    }

    /// Is there a value at the path?
    pub(super) fn holds(&self, path: &KeyPath) -> bool {
        self.span(path).0
    }

    fn span(&self, path: &KeyPath) -> (bool, Range<usize>) {
        let mut here = &self.root;
        for step in &path.0 {
            let next = match (step, here.get_ref()) {
                (Step::Key(key), DeValue::Table(table)) => table.get(key.as_str()),
                (Step::Index(index), DeValue::Array(array)) => array.get(*index),
                _ => None,
            };
            match next {
                Some(value) => here = value,
                None => return (false, here.span()),
            }
        }
        (true, here.span())
    }

    pub(super) fn problem(
        &self,
        path: &KeyPath,
        position: Position,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        Problem {
            file: self.file.to_owned(),
            position: Some(position),
            key: path.to_string(),
            message: message.into(),
            hint,
        }
    }
}

/// The file's text, or the one reason why there is none.
pub(super) fn read_text(path: &Path) -> Result<String, Problem> {
    let fail = |position, message: String| Problem {
        file: path.to_owned(),
        position,
        key: String::new(),
        message,
        hint: None,
    };
    let bytes = read_bytes(path).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::IsADirectory => "this is a directory, not a file".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "the file cannot be read: permission denied".to_owned()
            }
            _ => format!("the file cannot be read: {error}"),
        };
        fail(None, reason)
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(
            None,
            format!("the file is larger than {FILE_BYTES_MAX} bytes"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = valid
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let position = Position {
            line: valid.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&valid[line_start..])
                .chars()
                .count()
                + 1,
        };
        fail(Some(position), "the file is not UTF-8".to_owned())
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document<'_> {
        Document::parse(text, Path::new("/etc/relay/a.toml"))
    }

    #[test]
    fn key_paths_are_written_as_in_the_file() {
        let path = KeyPath::of("account").index(1).key("egress").index(0);
        assert_eq!(path.to_string(), "account[1].egress[0]");
        let path = KeyPath::of("headers.request").key("set").key("a.b");
        assert_eq!(path.to_string(), "headers.request.set.\"a.b\"");
        assert_eq!(KeyPath::default().to_string(), "");
    }

    #[test]
    fn values_are_found_and_missing_ones_fall_back_to_their_surroundings() {
        let document =
            document("[node]\nname = \"é\"\n\n[[account]]\negress = [ \"a\",\n  \"b\" ]\n");
        let at = |path: &KeyPath| {
            let Position { line, column } = document.locate(path);
            (line, column)
        };
        assert_eq!(at(&KeyPath::of("node.name")), (2, 8));
        assert_eq!(at(&KeyPath::of("node.region")), (1, 1));
        assert_eq!(
            at(&KeyPath::of("account").index(0).key("egress").index(1)),
            (6, 3)
        );
        assert_eq!(at(&KeyPath::of("account").index(0).key("name")), (4, 1));
        assert_eq!(at(&KeyPath::of("tenant")), (1, 1));
        assert!(document.holds(&KeyPath::of("node.name")));
        assert!(!document.holds(&KeyPath::of("node.region")));
    }

    #[test]
    fn columns_count_characters() {
        let document = document("a = [\"éé\", 1]\n");
        let position = document.locate(&KeyPath::of("a").index(1));
        assert_eq!(
            position,
            Position {
                line: 1,
                column: 12
            }
        );
    }

    #[test]
    fn relative_paths_start_at_the_directory_of_the_file() {
        let document = document("");
        assert_eq!(
            document.resolve(Path::new("key")),
            Path::new("/etc/relay/key")
        );
        assert_eq!(document.resolve(Path::new("/key")), Path::new("/key"));
    }
}
