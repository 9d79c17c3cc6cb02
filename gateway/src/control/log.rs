//! The log: one JSON object per line; for requests metadata only.
//!
//! Lines are collected in memory and written out together every few milliseconds. A destination that does not take them
//! (a full disk, a reader that stopped) loses lines and never holds anything up; the loss is counted in the next line
//! that gets through.

use crate::config::Policy;
use crate::config::policy::LogOutput;
use crate::journal::Record;
use jiff::Timestamp;
use metrics::counter;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Bytes of lines that may wait for their destination.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Characters of a value from outside that are kept.
const VALUE_CHARS_MAX: usize = 256;

/// The log.
pub struct Log {
    node: String,
    requests: bool,
    waiting: String,
    lost_lines: u64,
    time_of_day: TimeOfDay,
    output: LogOutput,
    destination: Destination,
    writing: Option<JoinHandle<Written>>,
    /// The memory of lines that were written.
    spare: String,
    is_failing: bool,
}

/// Where bytes go.
type Output = Box<dyn AsyncWrite + Send + Unpin>;

enum Destination {
    Unopened(LogOutput),
    Open(Output),
    Busy,
}

impl Log {
    /// A log to where the policy says.
    ///
    /// # Errors
    /// Its file cannot be opened for appending.
    pub fn open(policy: &Policy) -> io::Result<Self> {
        if let LogOutput::File(path) = &policy.log.output {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?;
        }
        Ok(Self {
            node: policy.node.name.clone(),
            requests: policy.log.requests,
            waiting: String::new(),
            lost_lines: 0,
            time_of_day: TimeOfDay::default(),
            output: policy.log.output.clone(),
            destination: Destination::Unopened(policy.log.output.clone()),
            writing: None,
            spare: String::new(),
            is_failing: false,
        })
    }

    /// A line about the gateway itself; members are strings.
    pub fn event(&mut self, event: &str, members: &[(&str, String)]) {
        self.about("info", event, members);
    }

    /// A line about something that the operator should look at.
    pub fn warning(&mut self, event: &str, members: &[(&str, String)]) {
        self.about("warning", event, members);
    }

    fn about(&mut self, level: &str, event: &str, members: &[(&str, String)]) {
        self.line(level, SystemTime::now(), event, |line| {
            for (name, value) in members {
                line.text(name, value);
            }
        });
    }

    /// The line of a request.
    pub fn request(&mut self, policy: &Policy, record: &Record) {
        if !self.requests {
            return;
        }
        self.line("info", record.time, "request", |line| {
            write_record(line, policy, record);
        });
    }

    fn line(
        &mut self,
        level: &str,
        time: SystemTime,
        event: &str,
        fill: impl FnOnce(&mut Line<'_>),
    ) {
        if self.waiting.len() > WAITING_BYTES_MAX {
            self.lost_lines += 1;
            counter!("relay_log_lines_lost_total").increment(1);
            return;
        }
        if self.is_failing && self.waiting.is_empty() {
            // The last line that was written may have been cut: this one begins on a line of its own.
            self.waiting.push('\n');
        }
        let mut line = Line(&mut self.waiting);
        line.0.push_str("{\"time\":\"");
        self.time_of_day.write(&mut line, time);
        line.0.push('"');
        line.text("level", level);
        line.text("event", event);
        line.text("node", &self.node);
        if self.lost_lines > 0 {
            line.number("lines_lost_before", self.lost_lines);
            self.lost_lines = 0;
        }
        fill(&mut line);
        line.0.push_str("}\n");
    }

    /// Hands what waits to the destination, if it has taken what it was given before.
    pub async fn write_out(&mut self) {
        if let Some(writing) = &mut self.writing {
            if !writing.is_finished() {
                return;
            }
            match writing.await {
                Ok(written) => self.take_back(written),
                Err(_) => self.destination = Destination::Unopened(self.output.clone()),
            }
            self.writing = None;
        }
        if self.waiting.is_empty() {
            return;
        }
        let mut destination = match std::mem::replace(&mut self.destination, Destination::Busy) {
            Destination::Open(open) => open,
            Destination::Unopened(output) => match open(&output).await {
                Ok(open) => open,
                Err(_) => {
                    self.destination = Destination::Unopened(output);
                    return;
                }
            },
            Destination::Busy => return,
        };
        let lines = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        self.writing = Some(tokio::spawn(async move {
            let mut outcome = destination.write_all(lines.as_bytes()).await;
            if outcome.is_ok() {
                outcome = destination.flush().await;
            }
            Written {
                destination,
                lines,
                outcome,
            }
        }));
    }

    fn take_back(&mut self, written: Written) {
        let Written {
            destination,
            mut lines,
            outcome,
        } = written;
        self.destination = Destination::Open(destination);
        self.is_failing = outcome.is_err();
        if self.is_failing {
            // Some of them may have been written; which ones cannot be known.
            let lost = lines.bytes().filter(|&byte| byte == b'\n').count() as u64;
            self.lost_lines += lost;
            counter!("relay_log_lines_lost_total").increment(lost);
        }
        lines.clear();
        self.spare = lines;
    }

    /// Writes out everything, waiting for the destination, but no longer than `limit`, and not for one that fails.
    pub async fn finish(&mut self, limit: Duration) {
        let ends_at = tokio::time::Instant::now() + limit;
        while (!self.waiting.is_empty() || self.writing.is_some())
            && !self.is_failing
            && tokio::time::Instant::now() < ends_at
        {
            self.write_out().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A destination that was given lines, how that went, and the lines' memory for the next ones.
struct Written {
    destination: Output,
    lines: String,
    outcome: io::Result<()>,
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

fn write_record(line: &mut Line<'_>, policy: &Policy, record: &Record) {
    line.text("request_id", record.request_id.as_str());
    if let Some(tenant) = record.tenant {
        line.text("tenant", &policy.tenant(tenant).name);
    }
    if let Some(key_id) = &record.key_id {
        line.text("key", &format!("{:08x}", u32::from_be_bytes(*key_id)));
    }
    line.text(
        "route",
        record
            .route
            .map_or("none", relay_wire::dialect::Dialect::as_str),
    );
    if let Some(model) = &record.model {
        line.text("model", model);
    }
    if let Some(account) = record.account {
        let account = policy.account(account);
        line.text("upstream", &policy.upstream(account.upstream).name);
        line.text("account", &account.name);
        line.text("region", &account.region);
    }
    if let Some(egress) = record.egress {
        line.text("egress", &egress.to_string());
    }
    line.number("status", record.status.into());
    if let Some(code) = record.code {
        line.text("code", code);
    }
    line.number("attempts", record.attempts.into());
    if let Some(overhead) = record.overhead {
        line.number("overhead_us", overhead.as_micros() as u64);
    }
    if let Some(first_byte) = record.first_byte {
        line.milliseconds("ttfb_ms", first_byte);
    }
    line.milliseconds("duration_ms", record.duration);
    line.number("bytes_in", record.bytes_in);
    line.number("bytes_out", record.bytes_out);
    if record.streamed {
        line.number("events", record.events);
    }
    if let Some(usage) = record.usage {
        line.number("input_tokens", usage.input_tokens);
        line.number("cached_tokens", usage.cached_tokens);
        line.number("output_tokens", usage.output_tokens);
        line.number("reasoning_tokens", usage.reasoning_tokens);
    }
    line.text("ended", record.ended);
}

/// A line being written.
struct Line<'l>(&'l mut String);

impl Line<'_> {
    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn milliseconds(&mut self, name: &str, value: Duration) {
        self.name(name);
        self.fraction(value.as_micros() as u64, 1000);
    }

    /// `value / unit` with all digits behind the point.
    fn fraction(&mut self, value: u64, unit: u64) {
        self.0.push_str(itoa::Buffer::new().format(value / unit));
        self.0.push('.');
        // One digit more than the fraction has, so that its leading zeroes are there; the first one is left out.
        self.0
            .push_str(&itoa::Buffer::new().format(value % unit + unit)[1..]);
    }

    /// A value from outside: escaped and cut.
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push('"');
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if value.len() <= VALUE_CHARS_MAX && value.bytes().all(is_plain) {
            self.0.push_str(value);
        } else {
            self.escaped(value);
        }
        self.0.push('"');
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars().take(VALUE_CHARS_MAX) {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.0, "\\u{:04x}", u32::from(control));
                }
                plain => self.0.push(plain),
            }
        }
    }
}

/// Writes times of day; the part that is the same for a whole second is made once a second.
#[derive(Default)]
struct TimeOfDay {
    second: u64,
    text: String,
}

impl TimeOfDay {
    fn write(&mut self, line: &mut Line<'_>, time: SystemTime) {
        let since_epoch = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        if self.second != since_epoch.as_secs() || self.text.is_empty() {
            self.second = since_epoch.as_secs();
            let whole = Timestamp::from_second(self.second as i64).unwrap_or_default();
            self.text = whole.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        line.0.push_str(&self.text);
        line.0.push('.');
        let micros = u64::from(since_epoch.subsec_micros());
        line.0
            .push_str(&itoa::Buffer::new().format(micros + 1_000_000)[1..]);
        line.0.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_outside_cannot_break_a_line() {
        let mut text = String::new();
        Line(&mut text).text("model", "a\"b\\c\nd\u{1b}[31m\u{2028}é");
        let object = format!("{{{}}}", &text[1..]);
        let value: serde_json::Value = serde_json::from_str(&object).unwrap();
        assert_eq!(value["model"], "a\"b\\c\nd\u{1b}[31m\u{2028}é");
        assert!(!text.contains('\n') && !text.contains('\u{1b}'));
    }

    #[test]
    fn long_values_are_cut() {
        let mut text = String::new();
        Line(&mut text).text("model", &"x".repeat(1000));
        assert_eq!(text.matches('x').count(), VALUE_CHARS_MAX);
    }
}
