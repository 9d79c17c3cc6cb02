//! `cargo xtask clients`: the official clients, unchanged, against `codex-relay demo`.
//!
//! The checks themselves are in `tests/clients`; here they are given what they need and are run.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use self::demo::Demo;
use self::transcript::Transcript;
use crate::{Outcome, workspace};

mod certificate;
mod codex;
mod demo;
mod packages;
mod tools;
mod transcript;

/// A client that takes longer hangs; the slowest of them needs half a minute.
const CLIENT_LIMIT: Duration = Duration::from_secs(240);

/// Where the packages, transcripts and homes of the clients are.
struct Cache {
    dir: PathBuf,
}

impl Cache {
    fn open() -> Result<Self, Box<dyn Error>> {
        let dir = workspace::target_dir()?.join("clients");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// A program of the Python environment, which brings Node.js too.
    fn program(&self, name: &str) -> PathBuf {
        self.dir.join("venv/bin").join(name)
    }

    /// Where openai-node is installed. Npm removes what it was not asked for, so that each package has a directory.
    fn openai_node(&self) -> PathBuf {
        self.dir.join("openai-node")
    }

    /// Where Codex CLI is installed.
    fn codex(&self) -> PathBuf {
        self.dir.join("codex")
    }

    fn transcript(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension("log")
    }
}

/// Runs all clients; with `--sdks-only` without Codex CLI.
pub(crate) fn run(args: &[String]) -> Outcome {
    let sdks_only = match args {
        [] => false,
        [arg] if arg == "--sdks-only" => true,
        _ => {
            return Err(format!("takes `--sdks-only` or nothing, got `{}`", args.join(" ")).into());
        }
    };
    crate::tools::install_packages()?;
    let binary = workspace::gateway_binary()?;
    println!("{}", sdks(&binary)?);
    if !sdks_only {
        println!("{}", codex_cli(&binary)?);
    }
    Ok(())
}

/// Runs the SDKs against this binary; gives back their closing lines.
pub(crate) fn sdks(binary: &Path) -> Result<String, Box<dyn Error>> {
    let cache = Cache::open()?;
    packages::install_sdks(&cache)?;
    let checks = workspace::root().join("tests/clients");
    // Node.js looks for packages from the script's own directory upwards.
    let script = cache.openai_node().join("sdk.mjs");
    std::fs::copy(checks.join("node/sdk.mjs"), &script)?;

    let demo = Demo::start(binary, &cache)?;
    let mut clients = Vec::new();
    for (name, program, script) in [
        ("openai-python", "python", checks.join("python/sdk.py")),
        ("openai-node", "node", script),
    ] {
        for (name, base_url) in [
            (name.to_owned(), &demo.base_url),
            (format!("{name} over TLS"), &demo.secure_base_url),
        ] {
            let mut client = Command::new(cache.program(program));
            client
                .arg(&script)
                .env("RELAY_BASE_URL", base_url)
                .env("RELAY_KEY", &demo.key)
                .env("SSL_CERT_FILE", &demo.certificate.authority)
                .env("NODE_EXTRA_CA_CERTS", &demo.certificate.authority);
            clients.push((name, client));
        }
    }
    // They wait more than they work: all at once they take little longer than one.
    let transcripts: Vec<_> = thread::scope(|scope| {
        let cache = &cache;
        let run = |(name, mut client): (String, Command)| {
            scope.spawn(move || {
                let file = name.replace(' ', "-");
                Transcript::of(&file, &mut client, cache, CLIENT_LIMIT)
                    .map_err(|error| error.to_string())
            })
        };
        let running: Vec<_> = clients.into_iter().map(run).collect();
        running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut closing_lines = Vec::new();
    for transcript in transcripts {
        let transcript = transcript.map_err(|_| "a client could not be watched")??;
        if !transcript.succeeded {
            return Err(demo.blame(&transcript, &format!("{} failed", transcript.name)));
        }
        closing_lines.push(transcript.last_line().to_owned());
    }
    closing_lines.push(tools::run(&demo, &cache)?);
    demo.stop()?;
    Ok(closing_lines.join("; "))
}

/// Runs turns of Codex CLI against this binary.
fn codex_cli(binary: &Path) -> Result<String, Box<dyn Error>> {
    let cache = Cache::open()?;
    packages::install_codex(&cache)?;
    let demo = Demo::start(binary, &cache)?;
    for turn in codex::TURNS {
        let before = codex::Seen::of(&demo)?;
        let transcript = codex::run(turn, &demo, &cache)?;
        let after = codex::Seen::of(&demo)?;
        let checked = codex::check(turn, &transcript)
            .and_then(|()| codex::check_transport(turn, &before, &after));
        if let Err(reason) = checked {
            return Err(demo.blame(&transcript, &format!("Codex CLI, {}: {reason}", turn.name)));
        }
        println!("Codex CLI, {} ... ok", turn.name);
    }
    demo.stop()?;
    Ok(format!(
        "Codex CLI {}: {} turns passed",
        packages::CODEX_VERSION,
        codex::TURNS.len()
    ))
}
