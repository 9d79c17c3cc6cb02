//! `cargo xtask kernels`: the suites of the kernel programs under the oldest kernel that is supported, Debian 12's 6.1, in a
//! virtual machine: what its verifier refuses, or does otherwise, shows here.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Outcome, tools, workspace};
use console::Record;
use debian::Kernel;
use suites::FileSystem;

mod archive;
mod console;
mod debian;
mod machine;
mod suites;

const HELP: &str = "\
usage: cargo xtask kernels [OPTIONS] [FILTER]

  --full   as many connections as on a machine of its own, which takes long
  FILTER   only tests whose names contain it, and not the gateway itself
";

/// Says to the suites how much they should do. A translated instruction takes some twenty times as long.
const SCALE_VARIABLE: &str = "RELAY_KERNEL_SUITE_SCALE";

/// By then the machine hangs.
const LIMIT: Duration = Duration::from_secs(600);
const FULL_LIMIT: Duration = Duration::from_secs(3_600);

/// Runs the suites.
pub(crate) fn run(args: &[String]) -> Outcome {
    let mut full = false;
    let mut filters = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            "--full" => full = true,
            option if option.starts_with('-') => {
                return Err(format!("there is no option `{option}`; see --help").into());
            }
            filter => filters.push(filter.to_owned()),
        }
    }
    tools::install_for_kernels()?;
    let gateway = match filters.is_empty() {
        true => Some(workspace::gateway_binary()?),
        false => None,
    };
    println!("{}", run_suites(gateway.as_deref(), full, &filters)?);
    Ok(())
}

/// Builds and runs them, and one of the gateway if there is a binary of it; gives back a closing line.
pub(crate) fn run_suites(
    gateway: Option<&Path>,
    full: bool,
    filters: &[String],
) -> Result<String, Box<dyn Error>> {
    Ok(Machine::new(
        workspace::cargo(["test", "--locked"]),
        gateway,
        full,
        filters,
    )?
    .run()?)
}

/// A virtual machine with the suites in it, ready to run.
pub(crate) struct Machine {
    kernel: Kernel,
    initrd: PathBuf,
    full: bool,
}

impl Machine {
    /// Builds the suites, by a `cargo test` that names the profile.
    pub(crate) fn new(
        test: Command,
        gateway: Option<&Path>,
        full: bool,
        filters: &[String],
    ) -> Result<Self, Box<dyn Error>> {
        let kernel = Kernel::get()?;
        let mut files = FileSystem::new(&kernel)?;
        for suite in suites::build(test)? {
            files.suite(&suite, filters)?;
        }
        if let Some(binary) = gateway {
            files.gateway(binary)?;
        }
        let initrd = workspace::target_dir()?.join("kernels/initrd");
        fs::write(&initrd, files.finish()?)?;
        Ok(Self {
            kernel,
            initrd,
            full,
        })
    }

    /// Runs them to their end, on one core; gives back a closing line, or what went wrong.
    pub(crate) fn run(self) -> Result<String, String> {
        let scale = format!(
            "{SCALE_VARIABLE}={}",
            if self.full { "full" } else { "small" }
        );
        let limit = if self.full { FULL_LIMIT } else { LIMIT };
        eprintln!("$ qemu-system-x86_64: Linux {}", self.kernel.release);
        let began = Instant::now();
        let mut record = Record::default();
        let image = self.kernel.image();
        let ended = machine::run(&image, &self.initrd, &[&scale], limit, |line| {
            println!("{line}");
            record.see(line);
        });
        let verdict = record.verdict();
        if let Err(error) = ended {
            let so_far = verdict.err().unwrap_or_default();
            return Err(format!("{error}\n  {so_far}"));
        }
        Ok(format!("{} in {} s", verdict?, began.elapsed().as_secs()))
    }
}
