//! What the tasks need from the host. As root missing things are installed, otherwise they are named.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::workspace::cargo;
use crate::{Outcome, command};

const CARGO_DENY_VERSION: &str = "0.20.2";

struct Tool {
    /// What to call it where it is missing.
    name: &'static str,
    /// A command that succeeds where it is present.
    probe: &'static [&'static str],
    /// Debian packages that bring it.
    packages: &'static [&'static str],
}

/// `cc` links every program and compiles zstd; Python runs the SDK clients, and brings Node.js as a package of its own;
/// the others are clients themselves, but for OpenSSL, which makes the certificate that is shown to them.
const TOOLS: &[Tool] = &[
    Tool {
        name: "C compiler",
        probe: &["cc", "--version"],
        packages: &["gcc", "libc6-dev"],
    },
    Tool {
        name: "Python 3 with venv",
        probe: &["python3", "-c", "import venv, ensurepip"],
        packages: &["python3", "python3-venv"],
    },
    Tool {
        name: "OpenSSL",
        probe: &["openssl", "version"],
        packages: &["openssl"],
    },
    Tool {
        name: "curl",
        probe: &["curl", "--version"],
        packages: &["curl"],
    },
    Tool {
        name: "nghttp and h2load",
        probe: &["h2load", "--version"],
        packages: &["nghttp2-client"],
    },
    Tool {
        name: "sslscan",
        probe: &["sslscan", "--version"],
        packages: &["sslscan"],
    },
];

/// The virtual machine of `kernels`, and what is in it beside the suites.
const KERNELS_TOOLS: &[Tool] = &[
    Tool {
        name: "QEMU",
        probe: &["qemu-system-x86_64", "--version"],
        packages: &["qemu-system-x86"],
    },
    Tool {
        name: "BusyBox",
        probe: &["/bin/busybox", "true"],
        packages: &["busybox-static"],
    },
];

/// The compiler of the kernel programs, the sources of `core` for it, and LLVM for their linker.
const EBPF_TOOLS: &[Tool] = &[
    Tool {
        name: "rustc of Debian",
        probe: &["/usr/bin/rustc", "--version"],
        packages: &["rustc-web"],
    },
    Tool {
        name: "sources of core",
        probe: &["test", "-e", "/usr/lib/rustlib/src/rust/library/core"],
        packages: &["rust-web-src"],
    },
    Tool {
        name: "LLVM 22",
        probe: &["/usr/lib/llvm-22/bin/llvm-objcopy", "--version"],
        packages: &["llvm-22"],
    },
    Tool {
        name: "headers of LLVM 22",
        probe: &["test", "-e", "/usr/lib/llvm-22/include/llvm-c"],
        packages: &["llvm-22-dev"],
    },
];

/// Sees to it that all that `ci` uses is there.
pub(crate) fn install() -> Outcome {
    install_packages()?;
    for component in ["fmt", "clippy"] {
        if !command::succeeds(&mut cargo([component, "--version"])) {
            return Err(format!("missing: cargo {component}, a component of the toolchain").into());
        }
    }
    if !command::succeeds(&mut cargo(["deny", "--version"])) {
        // A debug build: compiling it takes longer than all that it will ever do here.
        command::run(&mut cargo([
            "install",
            "cargo-deny",
            "--version",
            CARGO_DENY_VERSION,
            "--locked",
            "--debug",
            "--no-default-features",
        ]))?;
    }
    Ok(())
}

/// Sees to it that the host's part is there.
pub(crate) fn install_packages() -> Outcome {
    install_tools(TOOLS)
}

/// Is there what `install_for_kernels` would install?
pub(crate) fn has_for_kernels() -> bool {
    are_there(KERNELS_TOOLS)
}

/// Sees to it that there is what a virtual machine needs.
pub(crate) fn install_for_kernels() -> Outcome {
    install_tools(KERNELS_TOOLS)
}

/// Sees to it that there is what builds the kernel programs, their linker aside.
pub(crate) fn install_for_ebpf() -> Outcome {
    install_tools(EBPF_TOOLS)
}

/// Is there what `install_for_ebpf` would install?
pub(crate) fn has_for_ebpf() -> bool {
    are_there(EBPF_TOOLS)
}

fn are_there(tools: &[Tool]) -> bool {
    let mut probes = tools.iter().map(|tool| probe(tool.probe));
    probes.all(|mut probe| command::succeeds(&mut probe))
}

fn install_tools(tools: &[Tool]) -> Outcome {
    let missing: Vec<&Tool> = tools
        .iter()
        .filter(|tool| !command::succeeds(&mut probe(tool.probe)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.iter().flat_map(|tool| tool.packages).copied();
    if !is_root() {
        let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
        let packages: Vec<&str> = packages.collect();
        return Err(format!(
            "missing: {}; install as root with: apt-get install {}",
            names.join(", "),
            packages.join(" ")
        )
        .into());
    }
    command::run(apt_get().arg("update"))?;
    let install = ["install", "--no-install-recommends"];
    command::run(apt_get().args(install).args(packages))
}

/// Does this process run as root?
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn probe(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// The package manager, which asks nothing.
pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .arg("--yes")
        .arg("--quiet")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
