//! `cargo xtask ebpf`: builds the kernel programs into the object that the loader embeds, or proves that it is theirs.
//!
//! The programs need a compiler that speaks BPF and `core` built for it, which stable Rust does not give. Debian's `rustc-web`
//! with its sources and LLVM does; rustup's toolchain is left out of it. Whoever builds the gateway needs none of that, since
//! the object is committed. The same sources give the same bytes wherever they are built.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{cargo, root, target_dir};
use crate::{Outcome, command, tools};

const OBJECT: &str = "ebpf/relay.bpf.o";
const PROGRAMS: &str = "ebpf/programs";
/// The programs' own workspace, which the other one leaves out.
pub(crate) const MANIFEST: &str = "ebpf/programs/Cargo.toml";
const TARGET: &str = "bpfel-unknown-none";

const RUSTC: &str = "/usr/bin/rustc";
/// Another compiler may well make other bytes of the same sources.
const RUSTC_VERSION: &str = "1.96.0";
const LLVM: &str = "/usr/lib/llvm-22";
const BPF_LINKER_VERSION: &str = "0.13.0";

/// What of the environment would change how cargo builds.
const VARIABLES: &[&str] = &[
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Builds the object, or compares a build with it.
pub(crate) fn run(args: &[String]) -> Outcome {
    match args {
        [] => {
            install()?;
            let built = build()?;
            std::fs::copy(&built, root().join(OBJECT))?;
            println!("{OBJECT}: {} bytes", std::fs::metadata(&built)?.len());
            Ok(())
        }
        [arg] if arg == "--check" => check(),
        _ => Err("takes no arguments but --check".into()),
    }
}

/// Is the committed object what the sources give?
pub(crate) fn check() -> Outcome {
    install()?;
    let built = std::fs::read(build()?)?;
    let object = root().join(OBJECT);
    let committed = std::fs::read(&object).map_err(|error| format!("{OBJECT}: {error}"))?;
    if built == committed {
        println!("{OBJECT}: as the sources give it, {} bytes", built.len());
        return Ok(());
    }
    let at = std::iter::zip(&built, &committed).position(|(a, b)| a != b);
    Err(format!(
        "{OBJECT} is not what {PROGRAMS} gives: {} bytes, built {}, different from byte {}; run `cargo xtask ebpf` and commit it",
        committed.len(),
        built.len(),
        at.unwrap_or(built.len().min(committed.len())),
    )
    .into())
}

/// Is the whole toolchain there? What is not can be installed as root.
pub(crate) fn has_toolchain() -> bool {
    tools::has_for_ebpf() && has_linker()
}

fn install() -> Outcome {
    tools::install_for_ebpf()?;
    if !has_linker() {
        // A program of this host, built by this workspace's own compiler.
        let mut install = cargo(["install", "bpf-linker", "--version", BPF_LINKER_VERSION]);
        install.env("LLVM_PREFIX", LLVM);
        install.args(["--locked", "--no-default-features", "--features", "llvm-22"]);
        command::run(&mut install)?;
    }
    let version = command::output(Command::new(RUSTC).arg("--version"))?;
    if version.split_whitespace().nth(1) != Some(RUSTC_VERSION) {
        return Err(format!(
            "{OBJECT} was built by rustc {RUSTC_VERSION}, and {RUSTC} is `{}`: build it anew with that one and set RUSTC_VERSION",
            version.trim()
        )
        .into());
    }
    Ok(())
}

/// Builds and strips; the path of the result.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let target = target_dir()?.join("ebpf");
    command::run(&mut cargo([
        "fetch",
        "--locked",
        "--manifest-path",
        MANIFEST,
    ]))?;
    let mut build = cargo(["build", "--release", "--locked", "-Zbuild-std=core"]);
    for variable in VARIABLES {
        build.env_remove(variable);
    }
    build
        .current_dir(root().join(PROGRAMS))
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker())
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", flags()?)
        .args(["--target", TARGET]);
    command::run(&mut build)?;
    let built = target.join(TARGET).join("release/relay");
    let stripped = target.join("relay.bpf.o");
    let mut strip = Command::new(objcopy());
    strip.arg("--strip-debug").arg(&built).arg(&stripped);
    command::run(&mut strip)?;
    Ok(stripped)
}

/// Flags of the compiler. Debug information becomes the types that the kernel wants, with the paths of sources in it: these
/// must not tell where the build took place.
fn flags() -> Result<String, Box<dyn Error>> {
    let mut flags = vec![
        "-Dwarnings".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        // Rearranged, a loop's last block may run into its first one, and before Linux 6.7 the verifier admits only a jump
        // from there ("back-edge from insn").
        "-Clink-arg=--llvm-args=-disable-block-placement".to_owned(),
        // Of the traced machine; no program here reads its registers.
        r#"--cfg=bpf_target_arch="x86_64""#.to_owned(),
        remap(&root(), "relay")?,
    ];
    // The name of the directory below it depends on the registry.
    for directory in std::fs::read_dir(cargo_home()?.join("registry/src"))? {
        flags.push(remap(&directory?.path(), "crates")?);
    }
    Ok(flags.join(" "))
}

fn remap(from: &Path, to: &str) -> Result<String, Box<dyn Error>> {
    let from = from.to_str().filter(|path| !path.contains(' '));
    let from = from.ok_or("the path of the repository or of cargo's home has a space in it")?;
    Ok(format!("--remap-path-prefix={from}=/{to}"))
}

fn cargo_home() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::home_dir().ok_or("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}

/// Where `cargo install` put it, which need not be in the search path.
fn linker() -> PathBuf {
    let installed = cargo_home().map(|home| home.join("bin/bpf-linker"));
    installed
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "bpf-linker".into())
}

fn has_linker() -> bool {
    let mut version = Command::new(linker());
    version.arg("--version");
    command::succeeds(&mut version)
        && command::output(&mut version)
            .is_ok_and(|version| version.trim().ends_with(BPF_LINKER_VERSION))
}

fn objcopy() -> PathBuf {
    Path::new(LLVM).join("bin/llvm-objcopy")
}
