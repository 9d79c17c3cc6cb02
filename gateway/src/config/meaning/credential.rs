//! Where the operator's credentials come from: the environment or a file, never the configuration.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::raw::Credential;
use crate::config::secret::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest in use are signed tokens of a few KiB; the request head has to hold it.
const CREDENTIAL_BYTES_MAX: usize = 16 << 10;
const ENV_NAME_BYTES_MAX: usize = 128;
/// Permission bits that let everybody read or change a file.
const OPEN_TO_ALL: u32 = 0o006;

impl Meaning<'_> {
    pub(super) fn credential(&mut self, from: &Credential, path: &KeyPath) -> Option<Secret> {
        match (&from.env, &from.file) {
            (Some(name), None) => self.credential_from_env(name, &path.key("env")),
            (None, Some(file)) => {
                let file = &file.0;
                self.credential_from_file(file, &path.key("file"))
            }
            _ => None,
        }
    }

    fn credential_from_env(&mut self, name: &str, path: &KeyPath) -> Option<Secret> {
        // What is not a name by common usage may be the credential itself, put in the wrong place:
        // it is not shown.
        let usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let good = (1..=ENV_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(usual)
            && !name.starts_with(|first: char| first.is_ascii_digit());
        if !good {
            let message = "this is not the name of an environment variable";
            let hint = "upper-case letters, digits and `_`, as in \"OPENAI_API_KEY\"; the credential itself never stands here";
            self.error(path, message, Some(hint.to_owned()));
            return None;
        }
        let Some(value) = (self.environment)(name) else {
            self.error(
                path,
                format!("the environment variable {name} is not set"),
                None,
            );
            return None;
        };
        let value = Zeroizing::new(value.into_encoded_bytes());
        self.checked(value, &format!("the environment variable {name}"), path)
    }

    fn credential_from_file(&mut self, file: &Path, path: &KeyPath) -> Option<Secret> {
        // A relative path may be the credential itself, put in the wrong place: it is not shown.
        let full = self.document.resolve(file);
        let name = if file.is_absolute() {
            format!("the file {}", file.display())
        } else {
            "the file named here (relative to this configuration)".to_owned()
        };
        match read(&full) {
            Ok((value, mode)) => {
                if mode & OPEN_TO_ALL != 0 {
                    let message = format!("everybody on this host may read or change {name}");
                    self.warn(path, message, Some("chmod o-rw".to_owned()));
                }
                self.checked(value, &name, path)
            }
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => "does not exist".to_owned(),
                    io::ErrorKind::PermissionDenied => {
                        "cannot be read: permission denied".to_owned()
                    }
                    io::ErrorKind::InvalidInput => "is not a regular file".to_owned(),
                    _ => format!("cannot be read: {}", error.kind()),
                };
                self.error(path, format!("{name} {reason}"), None);
                None
            }
        }
    }

    /// Makes sure that the bytes can be written as a field value as they are.
    fn checked(
        &mut self,
        mut value: Zeroizing<Vec<u8>>,
        name: &str,
        path: &KeyPath,
    ) -> Option<Secret> {
        let end = value
            .strip_suffix(b"\r\n")
            .or_else(|| value.strip_suffix(b"\n"));
        let length = end.map_or(value.len(), <[u8]>::len);
        value.truncate(length);
        let fault = if value.is_empty() {
            "is empty"
        } else if value.len() > CREDENTIAL_BYTES_MAX {
            "is too long for a credential"
        } else if value.contains(&b'\n') {
            "has more than one line"
        } else if !value.iter().all(u8::is_ascii_graphic) {
            "holds a blank or a character that is not visible ASCII"
        } else {
            return Some(Secret::new(std::mem::take(&mut value)));
        };
        self.error(path, format!("{name} {fault}"), None);
        None
    }
}

/// The file's bytes and permission bits.
fn read(path: &Path) -> io::Result<(Zeroizing<Vec<u8>>, u32)> {
    // Asked before opening: opening a FIFO would wait for its other end.
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Room for all of it from the start: a buffer that grows leaves copies of the secret behind.
    let mut value = Zeroizing::new(vec![0; CREDENTIAL_BYTES_MAX + 3]);
    let mut file = File::open(path)?;
    let mut length = 0;
    while length < value.len() {
        match file.read(&mut value[length..])? {
            0 => break,
            count => length += count,
        }
    }
    value.truncate(length);
    Ok((value, metadata.permissions().mode()))
}
