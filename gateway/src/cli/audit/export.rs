//! `codex-relay audit export`

use super::super::output;
use super::print::Printer;
use super::source::Source;
use super::{Stop, write};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// One object per line
    Json,
    /// As RFC 4180 has it, with a head
    Csv,
}

impl Format {
    fn of_name(path: &Path) -> Self {
        match path.extension() {
            Some(end) if end.eq_ignore_ascii_case("csv") => Self::Csv,
            _ => Self::Json,
        }
    }
}

impl From<Format> for output::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Csv => Self::Csv,
        }
    }
}

pub(super) fn run(source: &Source<'_>, path: &Path, format: Option<Format>) -> Result<(), Stop> {
    let format = format.unwrap_or_else(|| Format::of_name(path));
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let target = Target::create(path).map_err(named)?;
    let out = BufWriter::with_capacity(256 << 10, &target.file);
    let written = write(source, 0, Printer::new(out, format.into()));
    let count = written.map_err(|stop| match stop {
        Stop::Unwritable(error) => named(error).into(),
        stop @ Stop::Unreadable(_) => stop,
    })?;
    target.finish().map_err(named)?;
    eprintln!("{count} records written to {}", path.display());
    Ok(())
}

/// A file that is not there until all of it is.
struct Target<'p> {
    path: &'p Path,
    file: File,
    /// What it is called until then; `None` where it is no file that could be renamed.
    unfinished: Option<PathBuf>,
}

impl<'p> Target<'p> {
    fn create(path: &'p Path) -> io::Result<Self> {
        // A pipe or a device is written to as it is.
        let is_special = fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir());
        let unfinished = (!is_special).then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(".unfinished");
            PathBuf::from(name)
        });
        let mut options = OpenOptions::new();
        // It tells what tenants do: the operator alone may read it until he decides otherwise.
        options.write(true).mode(0o600);
        if unfinished.is_some() {
            options.create(true).truncate(true);
        }
        let file = options.open(unfinished.as_deref().unwrap_or(path))?;
        Ok(Self {
            path,
            file,
            unfinished,
        })
    }

    fn finish(mut self) -> io::Result<()> {
        if let Some(unfinished) = &self.unfinished {
            self.file.sync_all()?;
            fs::rename(unfinished, self.path)?;
            self.unfinished = None;
        }
        Ok(())
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // Its name says what it is.
            let _ = fs::remove_file(unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_there_when_all_of_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        fs::write(&path, "before").unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();

        let mut target = Target::create(&path).unwrap();
        target.file.write_all(b"half").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        drop(target);
        assert_eq!((fs::read(&path).unwrap(), names()), (b"before".to_vec(), 1));

        let mut target = Target::create(&path).unwrap();
        target.file.write_all(b"all").unwrap();
        target.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"all".to_vec(), 1));
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        let path = Path::new("/dev/null");
        let mut target = Target::create(path).unwrap();
        target.file.write_all(b"all").unwrap();
        target.finish().unwrap();
        assert!(!fs::metadata(path).unwrap().is_file());
    }

    #[test]
    fn the_name_tells_the_form() {
        for (name, format) in [
            ("a.csv", Format::Csv),
            ("a.CSV", Format::Csv),
            ("a.csv.json", Format::Json),
            ("a", Format::Json),
        ] {
            assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
        }
    }
}
