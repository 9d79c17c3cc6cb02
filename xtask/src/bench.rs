//! `cargo xtask bench`: what a request and an event cost in the gateway, nginx, HAProxy and a blind TCP relay.
//!
//! The proxy has the first core for itself, upstream and load share the second. The proxies take turns, each started
//! anew for each measurement, and the order changes from round to round: what disturbs the machine disturbs all of them,
//! so that ratios of medians hold although single figures do not.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::{Outcome, command, workspace};
use measure::{Bench, Measured, Upstreams};
use proxies::Proxy;
use scenarios::{Program, Scenario};

mod configs;
mod cores;
mod html;
mod load;
mod measure;
mod process;
mod proxies;
mod report;
mod scenarios;

const HELP: &str = "\
usage: cargo xtask bench [OPTIONS]

  --rounds N        rounds, in each of which every proxy is measured once (3; fewer are no result)
  --seconds N       measured seconds per proxy, scenario and round (5)
  --only LIST       scenarios (json,json-open,sse), see below
  --against LIST    proxies (gateway,gateway-kernel,nginx,haproxy,floor,direct; gateway-bare);
                    `direct` is the upstream without a proxy
  --gateway PATH    a gateway that is built already
  --patience N      wait for quiet cores, and repeat what others disturb nevertheless up to N times (0)

What the kernel programs cost: --only json,json-fresh --against gateway,gateway-kernel
What limits, metering and journal cost: --only json,sse --against gateway,gateway-bare
TLS: --only json-tls-up,json-tls,sse-tls-up,sse-tls,idle-tls,handshakes,json-h2 --against gateway,nginx,haproxy,floor
What others feel of floods: --only few-streams,handshake-flood,few-requests,reset-flood --against gateway,nginx

TLS is 1.3 with TLS_AES_128_GCM_SHA256, X25519 and an ECDSA P-256 certificate for all: upstream and load speak nothing else.

Scenarios
";

/// The core that the proxy has for itself, and the one for everything else.
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";

#[derive(Debug, PartialEq)]
struct Options {
    rounds: usize,
    seconds: f64,
    scenarios: Vec<&'static Scenario>,
    proxies: Vec<Proxy>,
    gateway: Option<PathBuf>,
    patience: usize,
}

/// Runs the scenarios.
pub(crate) fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}{}", scenarios::overview());
        return Ok(());
    }
    let mut options = Options::parse(args)?;
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        return Err("the proxy and the load need a core each, and there is only one".into());
    }
    options.proxies.retain(|proxy| match proxy.missing() {
        Some(reason) => {
            eprintln!("SKIPPED {}: {reason}", proxy.name());
            false
        }
        None => true,
    });
    if options.proxies.is_empty() {
        return Err("there is no proxy left to measure".into());
    }
    if options
        .scenarios
        .iter()
        .any(|it| it.program == Program::H2load)
        && !command::succeeds(Command::new("h2load").arg("--version"))
    {
        return Err("h2load cannot be run (Debian: apt-get install nghttp2-client)".into());
    }
    let bench = Bench::new(build(&options)?, out_dir().join("run"))?;
    let about = About::collect()?;
    let results = measure_all(&bench, &mut options, &about)?;
    bench.clean_up();
    proxies::clean_up();
    let text = report::text(&options.scenarios, &results);
    print!("{text}");
    if options.rounds < 3 {
        println!("\nFewer than three rounds: not a result.");
    }
    let page = out_dir().join("report.html");
    fs::write(
        &page,
        html::page(&options.scenarios, &results, &about.title()),
    )?;
    println!(
        "\nEvery byte of every answer that bench-load got was checked. Single results: {}, with plots: {}",
        results_file().display(),
        page.display()
    );
    Ok(())
}

/// Every round, each of which takes every proxy through every scenario.
fn measure_all(
    bench: &Bench,
    options: &mut Options,
    about: &About,
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let upstreams = bench.start_upstreams()?;
    let mut results = Vec::new();
    for round in 0..options.rounds {
        if round > 0 {
            options.proxies.rotate_left(1);
        }
        for scenario in &options.scenarios {
            for proxy in options.proxies.iter().filter(|it| it.suits(scenario)) {
                let measured = measure_in_peace(bench, *proxy, scenario, &upstreams, options);
                let measured = measured.map_err(|error| {
                    let (proxy, scenario) = (proxy.name(), scenario.name);
                    format!("round {}, {scenario}, {proxy}: {error}", round + 1)
                });
                match measured {
                    Ok(measured) => {
                        eprintln!("round {} {}", round + 1, measured.summary());
                        append(&about.line(&measured, round, options))?;
                        results.push(measured);
                    }
                    // A flood may be too much for others; what they did until then is no figure.
                    Err(error) if scenario.flood.is_some() && !proxy.is_gateway() => {
                        eprintln!("FAILED {error}");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    upstreams.end()?;
    Ok(results)
}

/// One measurement; while others disturb it, again, as often as there is patience.
fn measure_in_peace(
    bench: &Bench,
    proxy: Proxy,
    scenario: &'static Scenario,
    upstreams: &Upstreams,
    options: &Options,
) -> Result<Measured, Box<dyn Error>> {
    for _ in 0..options.patience {
        cores::wait_for_quiet(&[PROXY_CORE, LOAD_CORE])?;
        match bench.measure(proxy, scenario, upstreams, options.seconds) {
            Ok(measured) if !measured.is_disturbed() => return Ok(measured),
            Ok(measured) => eprintln!("again: {}", measured.summary()),
            // Streams that starve are a failure of the load.
            Err(error) => eprintln!("again: {}, {}: {error}", scenario.name, proxy.name()),
        }
    }
    bench.measure(proxy, scenario, upstreams, options.seconds)
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            rounds: 3,
            seconds: 5.0,
            scenarios: scenarios::named("json,json-open,sse")?,
            proxies: proxies::named("gateway,gateway-kernel,nginx,haproxy,floor,direct")?,
            gateway: None,
            patience: 0,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg.as_str(), None),
            };
            let mut value = || {
                value
                    .or_else(|| args.next().map(String::as_str))
                    .ok_or_else(|| format!("{name} wants a value"))
            };
            match name {
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--only" => options.scenarios = scenarios::named(value()?)?,
                "--against" => options.proxies = proxies::named(value()?)?,
                "--patience" => options.patience = value()?.parse()?,
                "--gateway" => options.gateway = Some(value()?.into()),
                _ => return Err(format!("there is no option `{name}`; see --help").into()),
            }
        }
        if options.rounds == 0 || !(0.1..=600.0).contains(&options.seconds) {
            return Err("at least one round, and 0.1 to 600 seconds".into());
        }
        Ok(options)
    }
}

/// The programs that are started.
#[derive(Debug)]
struct Programs {
    upstream: PathBuf,
    load: PathBuf,
    flood: PathBuf,
    floor: PathBuf,
    gateway: PathBuf,
}

fn build(options: &Options) -> Result<Programs, Box<dyn Error>> {
    let mut cargo = workspace::cargo(["build", "--release", "--package", "relay-bench"]);
    let is_gateway = |proxy: &Proxy| proxy.is_gateway();
    if options.gateway.is_none() && options.proxies.iter().any(is_gateway) {
        cargo.args(["--package", "codex-relay"]);
    }
    command::run(&mut cargo)?;
    let dir = workspace::target_dir()?.join("release");
    let gateway = match &options.gateway {
        Some(path) => path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => dir.join("codex-relay"),
    };
    Ok(Programs {
        upstream: dir.join("bench-upstream"),
        load: dir.join("bench-load"),
        flood: dir.join("bench-flood"),
        floor: dir.join("bench-floor"),
        gateway,
    })
}

fn out_dir() -> PathBuf {
    workspace::root().join("bench/out")
}

fn results_file() -> PathBuf {
    out_dir().join("results.jsonl")
}

fn append(line: &Value) -> Outcome {
    use std::io::Write;
    let mut file = fs::File::options()
        .append(true)
        .create(true)
        .open(results_file())?;
    Ok(writeln!(file, "{line}")?)
}

/// What all results of a run have in common.
struct About {
    commit: String,
    modified: bool,
    kernel: String,
    cpu: String,
}

impl About {
    fn collect() -> Result<Self, Box<dyn Error>> {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            command::output(git.args(args).current_dir(workspace::root()))
        };
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        Ok(Self {
            commit: git(&["rev-parse", "HEAD"])?.trim().to_owned(),
            modified: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            cpu: cpu
                .unwrap_or_default()
                .trim_matches([' ', '\t', ':'])
                .to_owned(),
        })
    }

    /// What stands above a report.
    fn title(&self) -> String {
        let modified = if self.modified { " with changes" } else { "" };
        format!(
            "commit {}{modified}, Linux {}, {}",
            self.commit, self.kernel, self.cpu
        )
    }

    fn line(&self, measured: &Measured, round: usize, options: &Options) -> Value {
        let mut line = measured.to_json();
        line["commit"] = json!(self.commit);
        line["modified"] = json!(self.modified);
        line["kernel"] = json!(self.kernel);
        line["cpu"] = json!(self.cpu);
        line["round"] = json!(round + 1);
        line["rounds"] = json!(options.rounds);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Options::parse(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_in_both_forms() {
        let options = parse(&[
            "--rounds",
            "5",
            "--only=sse,json",
            "--against",
            "floor,nginx",
        ])
        .unwrap();
        assert_eq!(options.rounds, 5);
        assert_eq!(options.seconds, 5.0);
        let names: Vec<_> = options.scenarios.iter().map(|it| it.name).collect();
        assert_eq!(names, ["sse", "json"]);
        assert_eq!(options.proxies, [Proxy::Floor, Proxy::Nginx]);
    }

    #[test]
    fn mistakes_are_named() {
        for (args, named) in [
            (&["--round", "3"][..], "--round"),
            (&["--rounds"], "--rounds wants a value"),
            (&["--rounds", "0"], "one round"),
            (&["--only", "jsn"], "jsn"),
            (&["--against", "envoy"], "envoy"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
