//! `codex-relay demo` as a process of ours.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Cache;
use super::certificate::Certificate;
use super::transcript::Transcript;
use crate::command;

/// From the start to the line with the key; the demo makes two requests before.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From the interrupt to the end.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running demo.
pub(super) struct Demo {
    child: Child,
    log: PathBuf,
    /// What clients are given as the base URL.
    pub(super) base_url: String,
    /// The same over TLS.
    pub(super) secure_base_url: String,
    /// The tenant's key.
    pub(super) key: String,
    /// What the gateway shows over TLS.
    pub(super) certificate: Certificate,
    metrics: String,
}

impl Demo {
    /// Starts it and waits until it has said how to call it.
    pub(super) fn start(binary: &Path, cache: &Cache) -> Result<Self, Box<dyn Error>> {
        let log = cache.transcript("demo");
        let file = File::create(&log)?;
        let certificate = Certificate::make(cache)?;
        let child = Command::new(binary)
            .arg("demo")
            .arg("--certificate")
            .arg(&certificate.certificate)
            .arg("--certificate-key")
            .arg(&certificate.key)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("`{} demo`: {error}", binary.display()))?;
        let mut demo = Self {
            child,
            log,
            base_url: String::new(),
            secure_base_url: String::new(),
            key: String::new(),
            certificate,
            metrics: String::new(),
        };
        let began = Instant::now();
        loop {
            let text = demo.text();
            if let Some([base_url, secure_base_url, key, metrics]) = settings(&text) {
                demo.base_url = base_url;
                demo.secure_base_url = secure_base_url;
                demo.key = key;
                demo.metrics = metrics;
                return Ok(demo);
            }
            if let Some(status) = demo.child.try_wait()? {
                return Err(format!("the demo has ended with {status}:\n{text}").into());
            }
            if began.elapsed() > START_LIMIT {
                return Err(format!("the demo does not name its key:\n{text}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Interrupts it as Ctrl-C does; it must end well.
    pub(super) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                return Err(format!("the demo has ended with {status}:\n{}", self.text()).into());
            }
            if began.elapsed() > STOP_LIMIT {
                return Err(format!("the demo does not heed Ctrl-C:\n{}", self.text()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How often the provider has seen a request that begins like this.
    pub(super) fn times_seen(&self, line: &str) -> usize {
        self.text()
            .matches(&format!("provider has seen {line}"))
            .count()
    }

    /// How many streams of HTTP/2 the gateway has served.
    pub(super) fn http2_streams(&self) -> Result<u64, Box<dyn Error>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail"])
            .arg(&self.metrics);
        let text = command::output(&mut curl)?;
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("relay_http2_streams_total "));
        Ok(count
            .ok_or("the streams of HTTP/2 are not counted")?
            .parse()?)
    }

    /// Shows what the client and the demo have written.
    pub(super) fn blame(&self, transcript: &Transcript, reason: &str) -> Box<dyn Error> {
        println!("== demo ({})\n{}", self.log.display(), self.text());
        println!(
            "== {} ({})\n{}",
            transcript.name,
            transcript.path.display(),
            transcript.text
        );
        reason.into()
    }

    fn text(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |_| String::new(),
            |text| String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base URLs, key and address of the metrics, once all lines are there to their ends.
fn settings(text: &str) -> Option<[String; 4]> {
    let value = |label: &str| {
        let mut lines = text.split_inclusive('\n');
        let line = lines.find_map(|line| line.strip_prefix(label)?.strip_suffix('\n'))?;
        // More may stand behind.
        line.split_whitespace().next().map(str::to_owned)
    };
    Some([
        value("base URL: ")?,
        value("secure base URL: ")?,
        value("key: ")?,
        value("Metrics: ")?,
    ])
}
