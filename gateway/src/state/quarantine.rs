//! Where doubtful state goes: out of the way, but not away, so that somebody can look at it.

use super::files::sync_directory;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// So many are kept; older ones are removed.
const KEPT_MAX: usize = 3;

/// Renames `directory` to `NAME.quarantine-TIME-REASON` beside it.
///
/// # Errors
/// The file system does not allow it.
pub(super) fn put_away(directory: &Path, reason: &str) -> io::Result<PathBuf> {
    let (parent, prefix) = parent_and_prefix(directory)?;
    let target = loop {
        // To the nanosecond: whatever is put away next has a name that sorts behind this one.
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ");
        let target = parent.join(format!("{prefix}{time}-{reason}"));
        if !target.exists() {
            break target;
        }
    };
    fs::rename(directory, &target)?;
    sync_directory(parent)?;
    Ok(target)
}

/// Removes all but the latest. What cannot be removed stays.
pub(super) fn remove_oldest(directory: &Path) -> io::Result<()> {
    let (parent, prefix) = parent_and_prefix(directory)?;
    let mut found: Vec<PathBuf> = fs::read_dir(parent)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    // The time is in the names.
    found.sort();
    found.truncate(found.len().saturating_sub(KEPT_MAX));
    let remove = |path: &PathBuf| match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    // One that cannot be removed does not keep the others.
    found.iter().map(remove).fold(Ok(()), io::Result::and)
}

fn parent_and_prefix(directory: &Path) -> io::Result<(&Path, String)> {
    let parent = directory.parent();
    let name = directory.file_name().and_then(|name| name.to_str());
    match (parent, name) {
        (Some(parent), Some(name)) => Ok((parent, format!("{name}.quarantine-"))),
        _ => Err(io::Error::other("a directory without a name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_directory_is_removed_too() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let mut put = Vec::new();
        for number in 0..5 {
            if number % 2 == 0 {
                fs::write(&directory, "").unwrap();
            } else {
                fs::create_dir(&directory).unwrap();
            }
            put.push(put_away(&directory, "foreign").unwrap());
            remove_oldest(&directory).unwrap();
        }
        assert!(put.is_sorted(), "{put:?}");
        let kept: Vec<_> = put.iter().filter(|path| path.exists()).collect();
        assert_eq!(kept, [&put[2], &put[3], &put[4]]);
    }

    #[test]
    fn the_last_three_are_kept_with_what_they_hold() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        fs::create_dir(parent.path().join("stateful")).unwrap();
        let mut put = Vec::new();
        for number in 0..6 {
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("db"), number.to_string()).unwrap();
            put.push(put_away(&directory, "checksum").unwrap());
            remove_oldest(&directory).unwrap();
            assert!(!directory.exists());
        }
        let kept: Vec<_> = put.iter().filter(|path| path.exists()).collect();
        assert_eq!(kept, [&put[3], &put[4], &put[5]]);
        for (number, path) in put.iter().enumerate().skip(3) {
            assert_eq!(
                fs::read_to_string(path.join("db")).unwrap(),
                number.to_string()
            );
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("state.quarantine-20"), "{name}");
            assert!(name.contains("-checksum"), "{name}");
        }
        assert!(parent.path().join("stateful").exists(), "not one of them");
    }
}
