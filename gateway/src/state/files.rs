//! The files of a database, seen from outside.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// One file as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Relative to the database.
    pub(super) name: String,
    pub(super) length: u64,
    /// CRC32C of what it holds.
    pub(super) checksum: u32,
}

/// Tells cheaply whether files may have changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(String, u64, Option<std::time::SystemTime>)>);

const DIRECTORY_MODE: u32 = 0o700;

/// Deeper there is nothing in a database.
const DEPTH_MAX: usize = 2;

/// The files in a directory and below it, in order of their names.
///
/// # Errors
/// Something cannot be read, or is neither a file nor a directory.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    collect(directory, "", DEPTH_MAX, &mut names)?;
    names.sort();
    Ok(names)
}

fn collect(
    directory: &Path,
    prefix: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| io::Error::other("a name that is not UTF-8"))?;
        // It would not survive in a seal, which is made of lines.
        if name.contains('\n') {
            return Err(io::Error::other("a name of more than one line"));
        }
        let name = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_file() {
            names.push(name);
        } else if kind.is_dir() && depth > 1 {
            collect(&entry.path(), &format!("{name}/"), depth - 1, names)?;
        } else {
            return Err(io::Error::other(format!("{name} is no file of a database")));
        }
    }
    Ok(())
}

/// All files with their checksums.
///
/// # Errors
/// As [`names`].
pub(super) fn all(directory: &Path) -> io::Result<Vec<File>> {
    let mut buffer = vec![0; 128 << 10];
    let file = |name: String| {
        let mut file = fs::File::open(directory.join(&name))?;
        let (mut length, mut checksum) = (0, 0);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            checksum = crc32c::crc32c_append(checksum, &buffer[..read]);
        }
        Ok(File {
            name,
            length,
            checksum,
        })
    };
    names(directory)?.into_iter().map(file).collect()
}

/// Are the files exactly these? Lengths are compared first, so that no more is read than was written.
///
/// # Errors
/// As [`names`].
pub(super) fn are(directory: &Path, expected: &[File]) -> io::Result<bool> {
    let found = names(directory)?;
    let is_same_name = |(name, file): (&String, &File)| *name == file.name;
    if found.len() != expected.len() || !found.iter().zip(expected).all(is_same_name) {
        return Ok(false);
    }
    for file in expected {
        if fs::metadata(directory.join(&file.name))?.len() != file.length {
            return Ok(false);
        }
    }
    Ok(all(directory)? == expected)
}

/// See [`Stamp`].
///
/// # Errors
/// As [`names`].
pub(super) fn stamp(directory: &Path) -> io::Result<Stamp> {
    let one = |name: String| {
        let metadata = fs::metadata(directory.join(&name))?;
        Ok((name, metadata.len(), metadata.modified().ok()))
    };
    let all: io::Result<_> = names(directory)?.into_iter().map(one).collect();
    Ok(Stamp(all?))
}

/// Brings what all files hold to the disk, and their names.
///
/// # Errors
/// As [`names`], or the disk failed.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    for name in names(directory)? {
        fs::File::open(directory.join(name))?.sync_data()?;
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directory(&entry.path())?;
        }
    }
    sync_directory(directory)
}

/// Makes a directory, unless it is there: nobody else has to read what is in it.
///
/// # Errors
/// The file system does not allow it.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
}

/// Brings the names in a directory to the disk.
///
/// # Errors
/// The disk failed.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
