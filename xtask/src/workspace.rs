//! Where things are: the repository, the build directory, the gateway's binary.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

/// Names the binary of the gateway to whoever starts it: the whole-program tests and `clients`.
pub(crate) const BINARY_VARIABLE: &str = "CODEX_RELAY_BIN";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A cargo command in the root of the repository.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    // Cargo sets CARGO for what it runs, so that the same toolchain is used throughout.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    command
}

/// The build directory, which the environment or cargo's configuration may have moved.
pub(crate) fn target_dir() -> Result<PathBuf, Box<dyn Error>> {
    let text = command::output(&mut cargo([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let dir = metadata["target_directory"]
        .as_str()
        .ok_or("cargo metadata names no directory")?;
    Ok(dir.into())
}

/// The gateway's binary: the one that the environment names, else a debug build.
pub(crate) fn gateway_binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return Ok(path.into());
    }
    command::run(&mut cargo([
        "build",
        "--locked",
        "--package",
        "codex-relay",
    ]))?;
    Ok(target_dir()?.join("debug/codex-relay"))
}
