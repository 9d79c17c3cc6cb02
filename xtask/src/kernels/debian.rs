//! Debian's kernel for virtual machines, as its package has it: fetched once and kept below the build directory.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, command, tools, workspace};

/// Depends on the package of the release's current kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The long-term kernel of Debian 12, which is the oldest that the gateway supports.
const SERIES: &str = "6.1.";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
    dir: PathBuf,
}

impl Kernel {
    /// The one that was fetched before; without any, the one that the package index names now.
    pub(super) fn get() -> Result<Self, Box<dyn Error>> {
        let cache = workspace::target_dir()?.join("kernels");
        fs::create_dir_all(&cache)?;
        if let Some(kernel) = Self::cached(&cache)? {
            return Ok(kernel);
        }
        fetch(&cache, &package()?)?;
        Self::cached(&cache)?.ok_or_else(|| "the package holds no kernel".into())
    }

    fn cached(cache: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        for entry in fs::read_dir(cache)? {
            let dir = entry?.path();
            if dir.extension().is_none_or(|it| it != UNPACKED) {
                continue;
            }
            let modules = fs::read_dir(dir.join("lib/modules"))?;
            let releases = modules.filter_map(|it| it.ok()?.file_name().into_string().ok());
            if let Some(release) = releases.last() {
                return Ok(Some(Self { release, dir }));
            }
        }
        Ok(None)
    }

    /// What the machine starts.
    pub(super) fn image(&self) -> PathBuf {
        self.dir.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Where it looks for its modules.
    pub(super) fn modules_dir(&self) -> String {
        format!("/lib/modules/{}", self.release)
    }

    /// A file below that directory.
    pub(super) fn module_file(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let modules = self.dir.join("lib/modules").join(&self.release);
        fs::read(modules.join(name))
    }

    /// These modules and those that they need, by their paths below the directory of modules.
    pub(super) fn module_paths(&self, names: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
        let text = String::from_utf8(self.module_file("modules.dep")?)?;
        let mut paths = Vec::new();
        for name in names {
            let found = with_dependencies(&text, name)
                .ok_or_else(|| format!("kernel {} has no module {name}", self.release))?;
            paths.extend(found);
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }
}

/// Ending of the directories that are complete.
const UNPACKED: &str = "unpacked";

/// The package of the kernel itself.
fn package() -> Result<String, Box<dyn Error>> {
    let mut depends = Command::new("apt-cache");
    depends.args(["depends", META_PACKAGE]);
    let mut found = image_package(&command::output(&mut depends)?);
    if found.is_none() && tools::is_root() {
        // A fresh installation knows of no packages.
        command::run(tools::apt_get().arg("update"))?;
        found = image_package(&command::output(&mut depends)?);
    }
    let package = found.ok_or_else(|| format!("there is no package {META_PACKAGE}"))?;
    if !package.starts_with(&format!("linux-image-{SERIES}")) {
        return Err(format!("{package} is not a kernel {SERIES}*, which Debian 12 has").into());
    }
    Ok(package)
}

fn image_package(depends: &str) -> Option<String> {
    let lines = depends.lines();
    let mut packages = lines.filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages
        .find(|package| package.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// Fetches and unpacks it; the directory gets its final name when it is complete.
fn fetch(cache: &Path, package: &str) -> Outcome {
    let partial = cache.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    // Apt checks it against the signed index.
    command::run(
        tools::apt_get()
            .args(["download", package])
            .current_dir(&partial),
    )?;
    let archive = fs::read_dir(&partial)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .ok_or("apt-get download has left no package")?;
    let unpacked = partial.join(UNPACKED);
    command::run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&archive, &unpacked]),
    )?;
    for entry in fs::read_dir(unpacked.join("lib/modules"))? {
        command::run(
            Command::new("busybox")
                .args(["depmod", "-b"])
                .arg(&unpacked)
                .arg(entry?.file_name()),
        )?;
    }
    fs::rename(&unpacked, cache.join(format!("{package}.{UNPACKED}")))?;
    Ok(fs::remove_dir_all(&partial)?)
}

/// Path of a module and of all that it needs, out of modules.dep; `None` if it is not there.
fn with_dependencies(text: &str, name: &str) -> Option<Vec<String>> {
    let file = format!("/{name}.ko");
    text.lines().find_map(|line| {
        let (path, needed) = line.split_once(':')?;
        let paths = [path].into_iter().chain(needed.split_whitespace());
        path.ends_with(&file)
            .then(|| paths.map(str::to_owned).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_meta_package_depends_on() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        let package = image_package(depends);
        assert_eq!(package.as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(image_package("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn modules_bring_what_they_need() {
        let text = "kernel/drivers/net/veth.ko:\n\
                    kernel/net/ipv4/tcp_diag.ko: kernel/net/ipv4/inet_diag.ko\n";
        assert_eq!(
            with_dependencies(text, "tcp_diag").unwrap(),
            [
                "kernel/net/ipv4/tcp_diag.ko",
                "kernel/net/ipv4/inet_diag.ko"
            ]
        );
        assert_eq!(
            with_dependencies(text, "veth").unwrap(),
            ["kernel/drivers/net/veth.ko"]
        );
        assert_eq!(with_dependencies(text, "diag"), None);
    }
}
