//! `cargo xtask ci`: everything that a change must pass, in the order in which it fails soonest.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::kernels::Machine;
use crate::workspace::{BINARY_VARIABLE, cargo, target_dir};
use crate::{Outcome, clients, command, ebpf, tools};

/// Fetching the advisories is one small clone; a host that drops packets must not hold the run.
const ADVISORIES_FETCH_LIMIT: Duration = Duration::from_secs(60);

/// The profile in Cargo.toml that all of it is built in.
const PROFILE: &str = "ci";

const GATEWAY: &str = "codex-relay";

/// What a stage has to add to its line of the summary, or why it failed.
type Verdict = Result<Option<String>, Box<dyn Error>>;

struct Stage {
    name: &'static str,
    run: fn(&mut OlderKernel) -> Verdict,
}

/// The virtual machine takes one core for minutes, and tests beside it would be slower than they may be: it runs beside a
/// compiler.
#[derive(Default)]
enum OlderKernel {
    #[default]
    NotBegun,
    Missing,
    Running(JoinHandle<Result<String, String>>),
}

const STAGES: &[Stage] = &[
    Stage {
        name: "tools",
        run: |_| tools::install().map(|()| None),
    },
    Stage {
        name: "format",
        run: |_| format(),
    },
    Stage {
        name: "dependencies",
        run: |_| dependencies(),
    },
    Stage {
        name: "advisories",
        run: |_| advisories(),
    },
    Stage {
        name: "kernel programs",
        run: |_| kernel_programs(),
    },
    Stage {
        name: "build",
        run: |_| build_gateway(),
    },
    Stage {
        name: "kernel 6.1 boots",
        run: OlderKernel::begin,
    },
    Stage {
        name: "clippy",
        run: |_| {
            plain(in_profile("clippy").args([
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]))
        },
    },
    Stage {
        name: "test build",
        run: |_| plain(in_profile("test").args(["--workspace", "--no-run"])),
    },
    Stage {
        name: "kernel 6.1",
        run: OlderKernel::end,
    },
    Stage {
        name: "tests",
        run: |_| tests(),
    },
    Stage {
        name: "SDK clients",
        run: |_| sdk_clients(),
    },
];

/// Runs the stages up to the first that fails.
pub(crate) fn run(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(format!("takes no arguments, got `{arg}`").into());
    }
    let began = Instant::now();
    let mut summary = Vec::new();
    let mut older_kernel = OlderKernel::default();
    for (index, stage) in STAGES.iter().enumerate() {
        eprintln!(
            "\n== {}/{} {} (at {})",
            index + 1,
            STAGES.len(),
            stage.name,
            clock(began.elapsed())
        );
        let stage_began = Instant::now();
        let result = (stage.run)(&mut older_kernel);
        let took = clock(stage_began.elapsed());
        let (verdict, note) = match &result {
            Ok(note) => ("ok", note.clone()),
            Err(error) => ("FAILED", Some(error.to_string())),
        };
        let note = note.map(|note| format!("  {note}")).unwrap_or_default();
        summary.push(format!("{:<16} {verdict:<6} {took}{note}", stage.name));
        if result.is_err() {
            print_summary(&summary);
            return Err(format!("stage `{}` failed after {took}", stage.name).into());
        }
    }
    print_summary(&summary);
    println!(
        "ci: all {} stages passed in {}",
        STAGES.len(),
        clock(began.elapsed())
    );
    Ok(())
}

fn print_summary(lines: &[String]) {
    println!("\n== summary");
    for line in lines {
        println!("{line}");
    }
}

fn plain(command: &mut Command) -> Verdict {
    command::run(command).map(|()| None)
}

fn format() -> Verdict {
    command::run(&mut cargo(["fmt", "--all", "--check"]))?;
    let programs = ["fmt", "--manifest-path", ebpf::MANIFEST, "--check"];
    plain(&mut cargo(programs))
}

/// One profile for the gateway and for the tests: a debug build and a release beside each other took minutes more.
fn in_profile(subcommand: &str) -> Command {
    let mut command = cargo([subcommand, "--locked", "--profile", PROFILE]);
    let checks = ["DEBUG_ASSERTIONS", "OVERFLOW_CHECKS"];
    command.envs(checks.map(|check| (format!("CARGO_PROFILE_CI_{check}"), "true")));
    command
}

/// The gateway as it is installed: without the checks of a debug build, which would hide what is wrong where there are none.
fn build_gateway() -> Verdict {
    let mut build = cargo(["build", "--locked", "--profile", PROFILE]);
    command::run(build.args(["--package", "codex-relay"]))?;
    // A build for tests puts one with checks in its place.
    let installed = gateway_binary()?;
    fs::create_dir_all(installed.parent().ok_or("a file is in a directory")?)?;
    fs::copy(target_dir()?.join(PROFILE).join(GATEWAY), installed)?;
    Ok(None)
}

fn gateway_binary() -> Result<PathBuf, Box<dyn Error>> {
    Ok(target_dir()?.join(PROFILE).join("installed").join(GATEWAY))
}

/// What can be checked with the tree alone.
fn dependencies() -> Verdict {
    let what = ["check", "bans", "licenses", "sources"];
    command::run(cargo(["deny", "--locked"]).args(what))?;
    let programs = ["deny", "--manifest-path", ebpf::MANIFEST, "--locked"];
    plain(cargo(programs).args(what))
}

/// Known vulnerabilities need the RustSec database, which is a git repository on the internet and no registry package.
fn advisories() -> Verdict {
    let mut fetch = cargo(["deny", "--locked", "fetch", "db"]);
    // Without a terminal to ask on, git fails instead of waiting for credentials.
    fetch.env("GIT_TERMINAL_PROMPT", "0");
    let fetched = command::run_within(&mut fetch, ADVISORIES_FETCH_LIMIT);
    let mut check = cargo(["deny", "--locked", "--offline", "check", "advisories"]);
    match fetched {
        Ok(()) => plain(&mut check),
        Err(error) => {
            println!(
                "SKIPPED: advisories were not checked, their database is out of reach: {error}"
            );
            Ok(Some(
                "SKIPPED: the advisory database is out of reach".to_owned(),
            ))
        }
    }
}

/// The object that the gateway carries must be what the sources give.
fn kernel_programs() -> Verdict {
    if !tools::is_root() && !ebpf::has_toolchain() {
        println!("SKIPPED: the kernel programs were not compared, their toolchain is missing");
        return Ok(Some(
            "SKIPPED: the toolchain is missing, and only root can install it".to_owned(),
        ));
    }
    ebpf::check().map(|()| None)
}

fn tests() -> Verdict {
    let mut test = in_profile("test");
    test.arg("--workspace");
    test.env(BINARY_VARIABLE, gateway_binary()?);
    let mut counts = Counts::default();
    command::run_seeing(&mut test, |line| counts.add(line))?;
    if tools::is_root() && counts.ignored > 0 {
        return Err(format!(
            "{} tests were ignored although this is root",
            counts.ignored
        )
        .into());
    }
    if counts.passed == 0 {
        return Err("no test has run".into());
    }
    Ok(Some(format!(
        "{} passed, {} ignored",
        counts.passed, counts.ignored
    )))
}

/// The kernel programs' suites where their verifier is the strictest.
impl OlderKernel {
    fn begin(&mut self) -> Verdict {
        if !tools::is_root() && !tools::has_for_kernels() {
            *self = Self::Missing;
            return Ok(None);
        }
        tools::install_for_kernels()?;
        let machine = Machine::new(in_profile("test"), Some(&gateway_binary()?), false, &[])?;
        *self = Self::Running(thread::spawn(|| machine.run()));
        Ok(None)
    }

    fn end(&mut self) -> Verdict {
        match std::mem::take(self) {
            Self::NotBegun => Err("the virtual machine was not started".into()),
            Self::Missing => {
                println!(
                    "SKIPPED: no suite ran under Linux 6.1, the virtual machine for it is not installed"
                );
                Ok(Some("SKIPPED: there is no virtual machine".to_owned()))
            }
            Self::Running(machine) => match machine.join() {
                Ok(verdict) => Ok(Some(verdict?)),
                Err(_) => Err("the virtual machine could not be watched".into()),
            },
        }
    }
}

fn sdk_clients() -> Verdict {
    clients::sdks(&gateway_binary()?).map(Some)
}

/// Sums over the closing lines of the test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    ignored: u64,
}

impl Counts {
    /// Tests that have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// Tests that did not run.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Takes in `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines are none of its business.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::root;

    #[test]
    fn closing_lines_are_summed() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.add("test io::tests::passed ... ok");
        counts.add("test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            counts,
            Counts {
                passed: 43,
                ignored: 3
            }
        );
    }

    #[test]
    fn the_script_calls_ci_and_nothing_else() {
        let script = fs::read_to_string(root().join(".ci/run")).unwrap();
        let commands: Vec<&str> = script
            .lines()
            .filter(|line| line.contains("cargo"))
            .collect();
        assert_eq!(commands, ["exec cargo xtask ci"]);
    }
}
