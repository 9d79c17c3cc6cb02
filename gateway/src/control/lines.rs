//! Lines on their way to where they are kept.
//!
//! They are collected in memory and written out together every few milliseconds. A destination that does not take them (a
//! full disk, a reader that stopped) loses lines and never holds anything up; the owner is told how many.

use crate::config::policy::LogOutput;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Bytes of lines that may wait for their destination.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Lines that wait, and where they go.
pub(super) struct Lines {
    waiting: String,
    lost: u64,
    output: LogOutput,
    destination: Destination,
    writing: Option<JoinHandle<Written>>,
    /// The memory of lines that were written.
    spare: String,
    failure: Option<String>,
}

/// Where bytes go.
type Output = Box<dyn AsyncWrite + Send + Unpin>;

enum Destination {
    Unopened,
    Open(Output),
    Busy,
}

/// A destination that was given lines, how that went, and the lines' memory for the next ones.
struct Written {
    output: LogOutput,
    destination: Output,
    lines: String,
    outcome: io::Result<()>,
}

impl Lines {
    /// To this output, which is opened when the first line is there.
    pub(super) fn to(output: LogOutput) -> Self {
        Self {
            waiting: String::new(),
            lost: 0,
            output,
            destination: Destination::Unopened,
            writing: None,
            spare: String::new(),
            failure: None,
        }
    }

    /// The same, opened now: with the rights that the process has at its start.
    pub(super) fn open_now(output: LogOutput) -> io::Result<Self> {
        let mut lines = Self::to(output);
        if let LogOutput::File(path) = &lines.output {
            let mut options = std::fs::OpenOptions::new();
            let file = options.create(true).append(true).open(path)?;
            lines.destination = Destination::Open(Box::new(tokio::fs::File::from_std(file)));
        }
        Ok(lines)
    }

    /// To another output from now on, with what still waits.
    pub(super) fn redirect(&mut self, output: LogOutput) {
        if self.output != output {
            self.output = output;
            if matches!(self.destination, Destination::Open(_)) {
                self.destination = Destination::Unopened;
            }
        }
    }

    /// Memory to write one more line into, with its end; `None`: there is no room, and it is lost.
    pub(super) fn next(&mut self) -> Option<&mut String> {
        if self.waiting.len() > WAITING_BYTES_MAX {
            self.lost += 1;
            return None;
        }
        if self.failure.is_some() && self.waiting.is_empty() {
            // The last line that was written may have been cut: this one begins on a line of its own.
            self.waiting.push('\n');
        }
        Some(&mut self.waiting)
    }

    /// What has not been written yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &str {
        &self.waiting
    }

    /// Lines lost since this was asked the last time.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Why the destination does not take lines, if it was so the last time.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Hands what waits to the destination, if it has taken what it was given before.
    pub(super) async fn write_out(&mut self) {
        if let Some(writing) = &mut self.writing {
            if !writing.is_finished() {
                return;
            }
            match writing.await {
                Ok(written) => self.take_back(written),
                Err(_) => self.destination = Destination::Unopened,
            }
            self.writing = None;
        }
        if self.waiting.is_empty() {
            return;
        }
        let mut destination = match std::mem::replace(&mut self.destination, Destination::Busy) {
            Destination::Open(open) => open,
            Destination::Unopened => match open(&self.output).await {
                Ok(open) => open,
                Err(error) => {
                    self.failure = Some(error.to_string());
                    self.destination = Destination::Unopened;
                    return;
                }
            },
            Destination::Busy => return,
        };
        let output = self.output.clone();
        let lines = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        self.writing = Some(tokio::spawn(async move {
            let mut outcome = destination.write_all(lines.as_bytes()).await;
            if outcome.is_ok() {
                outcome = destination.flush().await;
            }
            Written {
                output,
                destination,
                lines,
                outcome,
            }
        }));
    }

    fn take_back(&mut self, written: Written) {
        let Written {
            output,
            destination,
            mut lines,
            outcome,
        } = written;
        // Meanwhile the lines may have been sent elsewhere.
        self.destination = if output == self.output {
            Destination::Open(destination)
        } else {
            Destination::Unopened
        };
        self.failure = outcome.err().map(|error| error.to_string());
        if self.failure.is_some() {
            // Some of them may have been written; which ones cannot be known.
            self.lost += lines.bytes().filter(|&byte| byte == b'\n').count() as u64;
        }
        lines.clear();
        self.spare = lines;
    }

    /// Writes out everything, waiting for the destination, but no longer than `limit`, and not for one that fails.
    pub(super) async fn finish(&mut self, limit: Duration) {
        let ends_at = tokio::time::Instant::now() + limit;
        while (!self.waiting.is_empty() || self.writing.is_some())
            && self.failure.is_none()
            && tokio::time::Instant::now() < ends_at
        {
            self.write_out().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn open(output: &LogOutput) -> io::Result<Output> {
    Ok(match output {
        LogOutput::Stdout => Box::new(tokio::io::stdout()),
        LogOutput::Stderr => Box::new(tokio::io::stderr()),
        LogOutput::File(path) => Box::new(
            tokio::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .await?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    async fn write(lines: &mut Lines, text: &str) {
        lines.next().unwrap().push_str(text);
        lines.finish(Duration::from_secs(10)).await;
    }

    fn file(path: &Path) -> LogOutput {
        LogOutput::File(path.to_owned())
    }

    #[tokio::test]
    async fn lines_go_where_they_are_sent_at_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let mut lines = Lines::to(file(&first));
        write(&mut lines, "1\n").await;
        lines.redirect(file(&second));
        write(&mut lines, "2\n").await;
        lines.redirect(file(&first));
        write(&mut lines, "3\n").await;
        assert_eq!(std::fs::read_to_string(first).unwrap(), "1\n3\n");
        assert_eq!(std::fs::read_to_string(second).unwrap(), "2\n");
    }

    #[tokio::test]
    async fn what_a_full_disk_does_not_take_is_counted() {
        let mut lines = Lines::to(file(Path::new("/dev/full")));
        write(&mut lines, "1\n2\n").await;
        assert_eq!(lines.take_lost(), 2);
        assert_eq!(lines.take_lost(), 0);
        assert!(lines.failure().is_some_and(|why| why.contains("space")));
        // What comes then begins a line of its own.
        let path = tempfile::NamedTempFile::new().unwrap();
        lines.redirect(file(path.path()));
        lines.next().unwrap().push_str("3\n");
        lines.write_out().await;
        lines.failure = None;
        lines.finish(Duration::from_secs(10)).await;
        assert_eq!(std::fs::read_to_string(path.path()).unwrap(), "\n3\n");
        assert_eq!(lines.failure(), None);
    }

    #[tokio::test]
    async fn lines_without_a_destination_wait_as_long_as_there_is_room() {
        let missing = Path::new("/nonexistent/lines");
        let mut lines = Lines::to(file(missing));
        let line = "x".repeat(1 << 20);
        while let Some(room) = lines.next() {
            room.push_str(&line);
            lines.write_out().await;
        }
        assert!(lines.waiting.len() > WAITING_BYTES_MAX);
        assert!(lines.failure().is_some());
        assert_eq!(lines.take_lost(), 1);
        assert!(Lines::open_now(file(missing)).is_err());
    }
}
