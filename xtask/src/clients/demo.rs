//! `codex-relay demo` as a process of ours.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Cache;
use super::transcript::Transcript;

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
    /// The tenant's key.
    pub(super) key: String,
}

impl Demo {
    /// Starts it and waits until it has said how to call it.
    pub(super) fn start(binary: &Path, cache: &Cache) -> Result<Self, Box<dyn Error>> {
        let log = cache.transcript("demo");
        let file = File::create(&log)?;
        let child = Command::new(binary)
            .arg("demo")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("`{} demo`: {error}", binary.display()))?;
        let mut demo = Self {
            child,
            log,
            base_url: String::new(),
            key: String::new(),
        };
        let began = Instant::now();
        loop {
            let text = demo.text();
            if let Some((base_url, key)) = settings(&text) {
                (demo.base_url, demo.key) = (base_url.to_owned(), key.to_owned());
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

    /// Its provider has got a request of this method and target.
    pub(super) fn has_seen(&self, line: &str) -> bool {
        self.text().contains(&format!("provider has seen {line}"))
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

/// The base URL and the key, once both lines are there to their ends.
fn settings(text: &str) -> Option<(&str, &str)> {
    let value = |label: &str| {
        let mut lines = text.split_inclusive('\n');
        lines
            .find_map(|line| line.strip_prefix(label)?.strip_suffix('\n'))
            .map(str::trim)
    };
    Some((value("base URL: ")?, value("key: ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_once_both_lines_are_whole() {
        let text = "provider: 127.0.0.1:9\nbase URL: http://127.0.0.1:8787/v1\nkey: abc\n";
        assert_eq!(settings(text), Some(("http://127.0.0.1:8787/v1", "abc")));
        for length in 0..text.len() {
            assert_eq!(settings(&text[..length]), None, "after {length} bytes");
        }
    }
}
