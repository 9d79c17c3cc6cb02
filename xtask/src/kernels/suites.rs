//! The test programs, and the first file system of the machine around them.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::archive::Archive;
use super::debian::Kernel;
use crate::{Outcome, command};

/// Package of the suites.
const PACKAGE: &str = "relay-ebpf";

/// What the suites use and Debian has as modules: pairs of interfaces, and the list of TCP sockets.
const MODULES: &[&str] = &["veth", "tcp_diag"];

/// A test program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) program: PathBuf,
}

/// Builds the suites, by a `cargo test` that names the profile.
pub(super) fn build(mut test: Command) -> Result<Vec<Suite>, Box<dyn Error>> {
    test.args(["--no-run", "--package", PACKAGE]);
    test.args(["--message-format", "json"]);
    let messages = command::output(&mut test)?;
    let suites: Vec<Suite> = messages.lines().filter_map(integration_test).collect();
    if suites.is_empty() {
        return Err(format!("package {PACKAGE} has no suites").into());
    }
    Ok(suites)
}

/// The program that a message of cargo's tells of, if it is an integration test.
fn integration_test(message: &str) -> Option<Suite> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
    let program = message["executable"].as_str().filter(|_| is_test)?;
    Some(Suite {
        name: target["name"].as_str()?.to_owned(),
        program: program.into(),
    })
}

/// The first file system: the suites, what they are linked with, the kernel's modules, and what starts them.
pub(super) struct FileSystem {
    archive: Archive,
    libraries: BTreeSet<String>,
}

impl FileSystem {
    /// What every machine has.
    pub(super) fn new(kernel: &Kernel) -> Result<Self, Box<dyn Error>> {
        let mut archive = Archive::default();
        for mount_point in ["/proc", "/sys", "/dev"] {
            archive.directory(mount_point);
        }
        // Where the first process writes to before it has mounted anything.
        archive.character_device("/dev/console", 5, 1);
        archive.program("/init", include_bytes!("init.sh"));
        // By this path the kernel asks for modules that it needs.
        archive.link("/sbin/modprobe", "/bin/busybox");
        add_modules(&mut archive, kernel)?;
        let mut it = Self {
            archive,
            libraries: BTreeSet::new(),
        };
        it.program("/bin/busybox", Path::new("/bin/busybox"))?;
        Ok(it)
    }

    /// A suite, which is given these arguments.
    pub(super) fn suite(&mut self, suite: &Suite, arguments: &[String]) -> Outcome {
        let arguments = arguments.join(" ");
        let path = format!("/arguments/{}", suite.name);
        self.archive.file(&path, arguments.as_bytes());
        self.program(&format!("/suites/{}", suite.name), &suite.program)
    }

    /// The gateway, and a suite that uses it as an operator would.
    pub(super) fn gateway(&mut self, binary: &Path) -> Outcome {
        let archive = &mut self.archive;
        archive.program("/suites/gateway", include_bytes!("gateway/run.sh"));
        archive.program(
            "/gateway/upstream.sh",
            include_bytes!("gateway/upstream.sh"),
        );
        archive.file("/gateway/relay.toml", include_bytes!("gateway/relay.toml"));
        archive.file("/gateway/credential", b"sk-machine-upstream");
        self.program("/gateway/codex-relay", binary)
    }

    /// The archive of it.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        for library in &self.libraries {
            self.archive.program(library, &fs::read(library)?);
        }
        Ok(self.archive.finish())
    }

    /// A program, with the libraries that it needs.
    fn program(&mut self, path: &str, program: &Path) -> Outcome {
        self.archive.program(path, &fs::read(program)?);
        self.libraries.extend(libraries_of(program)?);
        Ok(())
    }
}

fn add_modules(archive: &mut Archive, kernel: &Kernel) -> Outcome {
    let dir = kernel.modules_dir();
    let index = ["modules.dep", "modules.alias", "modules.symbols"].map(str::to_owned);
    let modules = kernel.module_paths(MODULES)?;
    for name in index.into_iter().chain(modules) {
        archive.file(&format!("{dir}/{name}"), &kernel.module_file(&name)?);
    }
    archive.file("/modules", (MODULES.join("\n") + "\n").as_bytes());
    Ok(())
}

/// Paths of the shared libraries of a program.
fn libraries_of(program: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let output = Command::new("ldd").arg(program).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(BTreeSet::new());
    }
    if !output.status.success() {
        return Err(format!("ldd {}: {}", program.display(), complaint.trim()).into());
    }
    said.lines()
        .filter_map(library)
        .collect::<Result<_, _>>()
        .map_err(|missing| format!("{} needs {missing}", program.display()).into())
}

/// The path in a line of ldd's, if it has one; an error if the library is missing.
fn library(line: &str) -> Option<Result<String, String>> {
    let line = line.trim();
    if let Some((name, "not found")) = line.split_once(" => ") {
        return Some(Err(name.to_owned()));
    }
    let found = line.split_once(" => ").map_or(line, |(_, found)| found);
    let path = found.split_whitespace().next()?;
    path.starts_with('/').then(|| Ok(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_the_integration_tests() {
        let of_kind = |kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"caps"}},"executable":"/t/caps-1"}}"#
            )
        };
        let expected = Suite {
            name: "caps".to_owned(),
            program: "/t/caps-1".into(),
        };
        assert_eq!(integration_test(&of_kind("test")), Some(expected));
        assert_eq!(integration_test(&of_kind("lib")), None);
        assert_eq!(
            integration_test(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let paths: Vec<_> = [
            "\tlinux-vdso.so.1 (0x00007ffd)",
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f8e)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f8f)",
            "\tlibmissing.so.1 => not found",
        ]
        .into_iter()
        .filter_map(library)
        .collect();
        assert_eq!(
            paths,
            [
                Ok("/lib/x86_64-linux-gnu/libc.so.6".to_owned()),
                Ok("/lib64/ld-linux-x86-64.so.2".to_owned()),
                Err("libmissing.so.1".to_owned())
            ]
        );
    }

    #[test]
    fn this_program_has_libraries_that_exist() {
        let libraries = libraries_of(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.contains("libc.so")));
        assert!(libraries.iter().all(|path| Path::new(path).exists()));
    }
}
