//! The archive that the kernel unpacks as its first file system: cpio in the "newc" format (the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Everything in it begins at a multiple of this.
const ALIGNMENT_BYTES: usize = 4;

/// Everything in it belongs to root, whoever makes it.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// A directory and those above it.
    pub(super) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        self.directory_of(path);
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// A file that may be run.
    pub(super) fn program(&mut self, path: &str, contents: &[u8]) {
        self.directory_of(path);
        self.entry(path, FILE | 0o755, (0, 0), contents);
    }

    /// A file.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        self.directory_of(path);
        self.entry(path, FILE | 0o644, (0, 0), contents);
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.directory_of(path);
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A device.
    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.directory_of(path);
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// The whole of it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn directory_of(&mut self, path: &str) {
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), contents: &[u8]) {
        let name = path.trim_start_matches('/');
        self.entries += 1;
        let (length, name_length) = (contents.len() as u32, name.len() as u32 + 1);
        let (inode, links) = (self.entries, 1);
        let fields = [
            inode,
            mode,
            0,
            0,
            links,
            0,
            length,
            0,
            0,
            major,
            minor,
            name_length,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
    }

    fn align(&mut self) {
        let length = self.bytes.len().next_multiple_of(ALIGNMENT_BYTES);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and modes, and the contents of files, read the way the kernel does.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |number: usize| {
                let digits = &bytes[6 + 8 * number..14 + 8 * number];
                let digits = str::from_utf8(digits).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, length, name_length) = (field(1), field(6) as usize, field(11) as usize);
            let name = str::from_utf8(&bytes[110..110 + name_length - 1]).unwrap();
            assert_eq!(bytes[110 + name_length - 1], 0);
            if name == "TRAILER!!!" {
                return entries;
            }
            let data = (110 + name_length).next_multiple_of(4);
            let contents = bytes[data..data + length].to_vec();
            entries.push((name.to_owned(), mode, contents));
            bytes = &bytes[(data + length).next_multiple_of(4)..];
        }
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::default();
        archive.program("/suites/one", b"12345");
        archive.file("/suites/deep/two", b"");
        archive.link("/bin/sh", "busybox");
        archive.character_device("/dev/console", 5, 1);
        let expected = [
            ("suites", 0o040_755, ""),
            ("suites/one", 0o100_755, "12345"),
            ("suites/deep", 0o040_755, ""),
            ("suites/deep/two", 0o100_644, ""),
            ("bin", 0o040_755, ""),
            ("bin/sh", 0o120_777, "busybox"),
            ("dev", 0o040_755, ""),
            ("dev/console", 0o020_600, ""),
        ]
        .map(|(name, mode, contents)| (name.to_owned(), mode, contents.as_bytes().to_vec()));
        assert_eq!(read(&archive.finish()), expected);
    }
}
