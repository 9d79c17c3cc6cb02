//! The programs that make load, and what they say of it.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::configs::TENANT_KEY;
use super::process::pinned;
use super::scenarios::{Program, Scenario};
use super::{LOAD_CORE, Programs};

/// Not measured at the beginning: connections are opened, caches filled, streams started.
pub(crate) const WARMUP_SECONDS: f64 = 1.0;

/// Where load goes.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) address: &'a str,
    /// The authority of its certificate, if TLS is spoken.
    pub(crate) ca_file: Option<PathBuf>,
    /// For files of ours.
    pub(crate) dir: &'a Path,
}

impl Target<'_> {
    fn add_to(&self, command: &mut Command) {
        command.args(["--target", self.address]);
        if let Some(ca_file) = &self.ca_file {
            command.arg("--tls").arg(ca_file);
        }
    }
}

/// A program that makes load.
pub(crate) struct Load {
    running: Running,
    /// What it said at the end of its window.
    result: Value,
}

enum Running {
    /// Says itself when its window begins and ends.
    Telling(Talker),
    /// h2load, whose log is looked at afterwards.
    Logging(Logger),
}

impl Load {
    pub(crate) fn start(
        programs: &Programs,
        target: &Target<'_>,
        scenario: &Scenario,
        seconds: f64,
    ) -> Result<Self, Box<dyn Error>> {
        let window = [
            format!("--warmup={WARMUP_SECONDS}"),
            format!("--seconds={seconds}"),
        ];
        let running = match scenario.program {
            Program::Load => {
                let mut command = pinned(LOAD_CORE, &programs.load);
                command.args(scenario.args);
                target.add_to(&mut command);
                command.args(["--key", TENANT_KEY, "--hold"]).args(window);
                Running::Telling(Talker::start(&mut command)?)
            }
            Program::Flood => {
                let mut command = pinned(LOAD_CORE, &programs.flood);
                target.add_to(&mut command);
                command.args(window).args(scenario.args);
                Running::Telling(Talker::start(&mut command)?)
            }
            Program::H2load => {
                Running::Logging(Logger::start(programs, target, scenario, seconds)?)
            }
        };
        Ok(Self {
            running,
            result: Value::Null,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        match &self.running {
            Running::Telling(talker) => talker.child.id(),
            Running::Logging(logger) => logger.talker.child.id(),
        }
    }

    pub(crate) fn wait_for_start(&mut self) -> Result<(), Box<dyn Error>> {
        match &mut self.running {
            Running::Telling(talker) => talker.wait_for("measuring").map(drop),
            Running::Logging(logger) => {
                thread::sleep(Duration::from_secs_f64(WARMUP_SECONDS));
                logger.started_us = unix_time_us();
                Ok(())
            }
        }
    }

    pub(crate) fn wait_for_end(&mut self) -> Result<(), Box<dyn Error>> {
        match &mut self.running {
            Running::Telling(talker) => self.result = talker.wait_for("measured")?,
            Running::Logging(logger) => {
                thread::sleep(logger.window);
                logger.ended_us = unix_time_us();
            }
        }
        Ok(())
    }

    /// Lets it end; an error if it saw any.
    pub(crate) fn result(self) -> Result<Value, Box<dyn Error>> {
        match self.running {
            Running::Telling(mut talker) => talker.finish().map(|()| self.result),
            Running::Logging(logger) => logger.result(),
        }
    }
}

/// A program that runs and says a line of JSON at times; dropped, it is ended.
struct Talker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Talker {
    fn start(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout),
        })
    }

    /// Waits for the line that tells of this event.
    fn wait_for(&mut self, event: &str) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            self.finish()?;
            return Err(format!("the load generator ended before it was {event}").into());
        }
        let line: Value = serde_json::from_str(&line)?;
        if line["event"] != event {
            return Err(format!("{line} instead of {event}").into());
        }
        Ok(line)
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        if self.child.wait()?.success() {
            Ok(())
        } else {
            Err(said.trim().to_owned().into())
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Already gone where it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// bench-flood beside the load.
pub(crate) struct Flood(Talker);

impl Flood {
    pub(crate) fn start(
        programs: &Programs,
        target: &Target<'_>,
        args: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let mut command = pinned(LOAD_CORE, &programs.flood);
        target.add_to(&mut command);
        command.args(args);
        if args.contains(&"resets") {
            command.args(["--key", TENANT_KEY]);
        }
        Ok(Self(Talker::start(&mut command)?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.child.id()
    }

    /// What it has done.
    pub(crate) fn end(mut self) -> Result<Value, Box<dyn Error>> {
        drop(self.0.child.stdin.take());
        loop {
            let mut line = String::new();
            if self.0.lines.read_line(&mut line)? == 0 {
                self.0.finish()?;
                return Err("the flood ended and said nothing".into());
            }
            let line: Value = serde_json::from_str(&line)?;
            if line["event"] == "measured" {
                return Ok(line);
            }
        }
    }
}

/// h2load, whose own window cannot be seen from here: what counts is what its log says of ours.
struct Logger {
    talker: Talker,
    log: PathBuf,
    window: Duration,
    started_us: u64,
    ended_us: u64,
}

impl Logger {
    fn start(
        programs: &Programs,
        target: &Target<'_>,
        scenario: &Scenario,
        seconds: f64,
    ) -> Result<Self, Box<dyn Error>> {
        let body = target.dir.join("request-body");
        let log = target.dir.join("h2load.log");
        let written = Command::new(&programs.load).arg("request-body").output()?;
        fs::write(&body, written.stdout)?;
        let mut command = pinned(LOAD_CORE, "h2load");
        command
            .args(scenario.args)
            .args(["--threads=1", "--groups=X25519"])
            .arg("--tls13-ciphers=TLS_AES_128_GCM_SHA256")
            // Longer than our window at both ends.
            .arg(format!(
                "--duration={}",
                (seconds + WARMUP_SECONDS).ceil() as u64 + 1
            ))
            .arg(format!("--data={}", body.display()))
            .arg(format!("--log-file={}", log.display()))
            .arg(format!("--header=x-api-key: {TENANT_KEY}"))
            .arg("--header=content-type: application/json")
            .arg(format!("https://{}/v1/responses", target.address));
        Ok(Self {
            talker: Talker::start(&mut command)?,
            log,
            window: Duration::from_secs_f64(seconds),
            started_us: 0,
            ended_us: 0,
        })
    }

    fn result(mut self) -> Result<Value, Box<dyn Error>> {
        let mut said = String::new();
        self.talker.lines.read_to_string(&mut said)?;
        self.talker.finish()?;
        let log = fs::read_to_string(&self.log)?;
        summary(&log, self.started_us, self.ended_us)
            .map_err(|error| format!("{error}\n{said}").into())
    }
}

/// What a log of h2load says of the requests that were answered in a time: lines of start in µs, status, duration in µs.
fn summary(log: &str, from_us: u64, until_us: u64) -> Result<Value, Box<dyn Error>> {
    let mut durations_us = Vec::new();
    for line in log.lines() {
        let mut columns = line.split('\t');
        let mut column = || columns.next().ok_or_else(|| format!("h2load: {line}"));
        let (start_us, status, duration_us) = (column()?, column()?, column()?);
        if status != "200" {
            return Err(format!("h2load: an answer with {status}").into());
        }
        let (start_us, duration_us) = (start_us.parse::<u64>()?, duration_us.parse::<u64>()?);
        if (from_us..until_us).contains(&(start_us + duration_us)) {
            durations_us.push(duration_us);
        }
    }
    durations_us.sort_unstable();
    let quantile = |share: f64| {
        let rank = (durations_us.len() as f64 * share) as usize;
        durations_us.get(rank).or(durations_us.last())
    };
    Ok(json!({
        "event": "measured",
        "duration_s": until_us.saturating_sub(from_us) as f64 / 1e6,
        "requests": durations_us.len(),
        "request_us": {"p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99)},
    }))
}

fn unix_time_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_within_the_window_count() {
        let log = "100\t200\t5\n120\t200\t40\n130\t200\t20\n190\t200\t20\n";
        let summary = summary(log, 140, 200).unwrap();
        assert_eq!(summary["requests"], 2);
        assert_eq!(summary["request_us"]["p50"], 40);
        assert_eq!(summary["duration_s"], 60e-6);
    }

    #[test]
    fn another_answer_than_200_is_an_error() {
        let error = summary("100\t502\t5\n", 0, 200).unwrap_err();
        assert!(error.to_string().contains("502"), "{error}");
    }
}
