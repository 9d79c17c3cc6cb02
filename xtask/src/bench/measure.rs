//! One measurement: a proxy is started, put under load, looked at from outside, and ended.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::configs::Setting;
use super::cores::CoreTime;
use super::load::{Flood, Load, Target, WARMUP_SECONDS};
use super::process::{CpuTime, Process, Usage, pinned, pss_kib, threads_off_core};
use super::proxies::Proxy;
use super::scenarios::{Scenario, Tls};
use super::{LOAD_CORE, PROXY_CORE, Programs};

/// Others that use one of the two cores for a larger share of the time disturb.
const STRANGERS_MAX: f64 = 0.1;

/// What all measurements of a run share.
#[derive(Debug)]
pub(crate) struct Bench {
    programs: Programs,
    dir: PathBuf,
}

/// The upstreams of all measurements. The one that is not called takes nothing from the other.
pub(crate) struct Upstreams {
    plain: Upstream,
    tls: Upstream,
    certificates: PathBuf,
}

struct Upstream {
    process: Process,
    address: String,
}

impl Upstreams {
    fn of(&self, scenario: &Scenario) -> &Upstream {
        match scenario.tls {
            Tls::Neither => &self.plain,
            Tls::Upstream | Tls::Both => &self.tls,
        }
    }

    pub(crate) fn end(self) -> Result<(), Box<dyn Error>> {
        self.plain.process.end()?;
        self.tls.process.end()
    }
}

/// What was found out about one proxy in one scenario.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) proxy: Proxy,
    pub(crate) scenario: &'static Scenario,
    /// Result of the load generator.
    pub(crate) load: Value,
    /// What was done beside it, if anything.
    pub(crate) flood: Option<Value>,
    /// `None` where there is no proxy.
    pub(crate) cost: Option<Cost>,
}

/// What the proxy took from the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) usage: Usage,
    /// Share of a core that load and upstream ran for: the kernel does a part of what a connection takes on their time.
    pub(crate) others: f64,
    /// Share of the proxy's core, and of that of load and upstream, that somebody else used.
    pub(crate) strangers: [f64; 2],
    pub(crate) pss_idle_kib: u64,
    pub(crate) pss_loaded_kib: u64,
    /// Threads that may run elsewhere than on the proxy's core.
    pub(crate) threads_off_core: usize,
}

impl Bench {
    pub(crate) fn new(programs: Programs, dir: PathBuf) -> Result<Self, Box<dyn Error>> {
        let bench = Self { programs, dir };
        bench.fresh_dir("upstream")?;
        Ok(bench)
    }

    /// Makes an empty directory.
    fn fresh_dir(&self, name: &str) -> Result<PathBuf, Box<dyn Error>> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Removes configurations and logs, which stay where they are after a failure.
    pub(crate) fn clean_up(&self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }

    pub(crate) fn start_upstreams(&self) -> Result<Upstreams, Box<dyn Error>> {
        let certificates = self.fresh_dir("certificates")?;
        let start = |name, with_tls| -> Result<Upstream, Box<dyn Error>> {
            let mut command = pinned(LOAD_CORE, &self.programs.upstream);
            if with_tls {
                command.arg("--tls").arg(&certificates);
            }
            let mut process = Process::start(name, &mut command, &self.fresh_dir(name)?)?;
            let address = process.wait_for_address()?;
            Ok(Upstream { process, address })
        };
        Ok(Upstreams {
            plain: start("upstream", false)?,
            tls: start("upstream-tls", true)?,
            certificates,
        })
    }

    pub(crate) fn measure(
        &self,
        proxy: Proxy,
        scenario: &'static Scenario,
        upstreams: &Upstreams,
        seconds: f64,
    ) -> Result<Measured, Box<dyn Error>> {
        // Emptied each time: a second of saturation leaves many megabytes of log.
        let dir = self.fresh_dir(proxy.name())?;
        let upstream = upstreams.of(scenario);
        let setting = Setting {
            scenario,
            upstream: &upstream.address,
            certificates: &upstreams.certificates,
            dir: &dir,
        };
        let started = proxy.start(&self.programs, &setting)?;
        let family = started.as_ref().map(|(process, _)| process.family());
        let pss_idle_kib = family.as_deref().map(pss_kib).transpose()?;

        let target = Target {
            address: started.as_ref().map_or(&upstream.address, |(_, it)| it),
            ca_file: match scenario.tls {
                Tls::Both => Some(upstreams.certificates.join("ca.pem")),
                Tls::Neither | Tls::Upstream => None,
            },
            dir: &dir,
        };
        let flood = scenario
            .flood
            .map(|args| Flood::start(&self.programs, &target, args))
            .transpose()?;
        let mut load = Load::start(&self.programs, &target, scenario, seconds)?;
        let mut others = upstream.process.family();
        others.push(load.id());
        others.extend(flood.as_ref().map(Flood::id));
        load.wait_for_start()?;
        let cores = [CoreTime::of(PROXY_CORE)?, CoreTime::of(LOAD_CORE)?];
        let others_before = CpuTime::of(&others);
        let before = family.as_deref().map(CpuTime::of);
        load.wait_for_end()?;
        let after = family.as_deref().map(CpuTime::of);
        let others_usage = CpuTime::of(&others).since(&others_before)?;
        let busy = [
            CoreTime::of(PROXY_CORE)?.busy_since(&cores[0]),
            CoreTime::of(LOAD_CORE)?.busy_since(&cores[1]),
        ];
        let cost = match (&family, before, after, pss_idle_kib) {
            (Some(family), Some(before), Some(after), Some(pss_idle_kib)) => Some(Cost {
                usage: after.since(&before)?,
                others: others_usage.running,
                strangers: [
                    busy[0] - after.since(&before)?.running,
                    busy[1] - others_usage.running,
                ],
                pss_idle_kib,
                pss_loaded_kib: pss_kib(family)?,
                threads_off_core: threads_off_core(family, PROXY_CORE),
            }),
            _ => None,
        };
        let flood = flood.map(Flood::end).transpose()?;
        let result = load.result()?;
        if let Some((process, _)) = started {
            process.end()?;
        }
        let measured = Measured {
            proxy,
            scenario,
            load: result,
            flood,
            cost,
        };
        if measured.units() == 0.0 {
            return Err("nothing arrived in the measured time".into());
        }
        Ok(measured)
    }
}

impl Measured {
    /// How many requests or events there were.
    pub(crate) fn units(&self) -> f64 {
        self.load[self.scenario.unit.count_field()]
            .as_f64()
            .unwrap_or(0.0)
    }

    pub(crate) fn units_per_second(&self) -> f64 {
        self.units() / self.load["duration_s"].as_f64().unwrap_or(f64::NAN)
    }

    /// µs of the proxy's CPU per request or event. Load and CPU are rates over almost the same time each, so that the moments
    /// between the load's window and the look at the proxy's clocks do not count.
    pub(crate) fn cpu_us_per_unit(&self) -> Option<f64> {
        Some(self.cost?.usage.running * 1e6 / self.units_per_second())
    }

    /// The same with what load and upstream took.
    pub(crate) fn cpu_us_per_unit_of_all(&self) -> Option<f64> {
        let cost = self.cost?;
        Some((cost.usage.running + cost.others) * 1e6 / self.units_per_second())
    }

    /// Did somebody else use the cores so much that the figure says little?
    pub(crate) fn is_disturbed(&self) -> bool {
        let used = |cost: Cost| cost.strangers.iter().any(|used| *used > STRANGERS_MAX);
        self.cost.is_some_and(used)
    }

    /// PSS of 5,000 streams in MiB: what the proxy has without any, and so much more for each.
    pub(crate) fn pss_of_5000_mib(&self) -> Option<f64> {
        let streams = f64::from(self.scenario.streams?);
        let cost = self.cost?;
        let idle = cost.pss_idle_kib as f64;
        let per_stream = (cost.pss_loaded_kib as f64 - idle) / streams;
        Some((idle + per_stream * 5_000.0) / 1_024.0)
    }

    /// A quantile of the latency of a request or event, or of the first byte.
    pub(crate) fn latency_us(&self, field: &str, quantile: &str) -> Option<f64> {
        self.load[field][quantile].as_f64()
    }

    pub(crate) fn summary(&self) -> String {
        let cpu = match self.cpu_us_per_unit() {
            Some(us) => format!("{us:.2} µs of CPU per {}, ", self.scenario.unit.name()),
            None => String::new(),
        };
        let astray = match self.cost {
            Some(cost) if cost.threads_off_core > 0 => {
                format!("; {} threads NOT PINNED", cost.threads_off_core)
            }
            _ => String::new(),
        };
        let (scenario, proxy) = (self.scenario.name, self.proxy.name());
        let rate = self.units_per_second();
        let disturbed = match self.is_disturbed() {
            true => "; DISTURBED by others",
            false => "",
        };
        let latency = self
            .latency_us(self.scenario.unit.latency_field(), "p99")
            .map_or(String::new(), |us| format!(", p99 {us:.0} µs"));
        format!("{scenario} {proxy}: {cpu}{rate:.0}/s{latency}{astray}{disturbed}")
    }

    pub(crate) fn to_json(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let cost = self.cost.map(|cost| {
            json!({
                "core_running": cost.usage.running,
                "core_waiting": cost.usage.waiting,
                "others_running": cost.others,
                "strangers": cost.strangers,
                "pss_idle_kib": cost.pss_idle_kib,
                "pss_loaded_kib": cost.pss_loaded_kib,
                "threads_off_core": cost.threads_off_core,
            })
        });
        json!({
            "unix_time_s": now.map_or(0, |now| now.as_secs()),
            "proxy": self.proxy.name(),
            "version": self.proxy.version(),
            "flags": self.proxy.flags(),
            "scenario": self.scenario.name,
            "load_args": self.scenario.args,
            "warmup_s": WARMUP_SECONDS,
            "unit": self.scenario.unit.name(),
            "cpu_us_per_unit": self.cpu_us_per_unit(),
            "units_per_s": self.units_per_second(),
            "pss_of_5000_streams_mib": self.pss_of_5000_mib(),
            "cost": cost,
            "load": self.load,
            "flood_args": self.scenario.flood,
            "flood": self.flood,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenarios;

    fn measured() -> Measured {
        Measured {
            proxy: Proxy::Nginx,
            scenario: scenarios::named("sse").unwrap()[0],
            load: json!({"duration_s": 2.0, "events": 60_000, "event_us": {"p50": 80.0}}),
            flood: None,
            cost: Some(Cost {
                usage: Usage {
                    running: 0.45,
                    waiting: 0.0,
                },
                others: 0.3,
                strangers: [0.0, 0.0],
                pss_idle_kib: 2_048,
                pss_loaded_kib: 12_048,
                threads_off_core: 0,
            }),
        }
    }

    #[test]
    fn cpu_is_divided_by_what_the_scenario_counts() {
        assert_eq!(measured().units_per_second(), 30_000.0);
        assert_eq!(measured().cpu_us_per_unit(), Some(15.0));
        assert_eq!(measured().cpu_us_per_unit_of_all(), Some(25.0));
        let direct = Measured {
            cost: None,
            ..measured()
        };
        assert_eq!(direct.cpu_us_per_unit(), None);
    }

    #[test]
    fn memory_is_scaled_by_what_a_stream_adds() {
        let mib = measured().pss_of_5000_mib().unwrap();
        assert!((mib - (2_048.0 + 50_000.0) / 1_024.0).abs() < 1e-9);
    }

    #[test]
    fn result_line_has_what_a_reader_needs() {
        let line = measured().to_json();
        assert_eq!(line["proxy"], "nginx");
        assert_eq!(line["scenario"], "sse");
        assert_eq!(line["cpu_us_per_unit"], 15.0);
        assert_eq!(line["load"]["event_us"]["p50"], 80.0);
    }
}
