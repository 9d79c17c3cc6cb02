//! The log: one JSON object per line; for requests metadata only. Lines that were lost are counted in the next line that
//! gets through.

use super::line::{Line, TimeOfDay};
use super::lines::Lines;
use crate::config::Policy;
use crate::config::policy::Limit;
use crate::journal::Record;
use metrics::counter;
use std::io;
use std::time::{Duration, SystemTime};

/// The log.
pub struct Log {
    node: String,
    requests: bool,
    lines: Lines,
    lost_lines: u64,
    time_of_day: TimeOfDay,
}

impl Log {
    /// A log to where the policy says.
    ///
    /// # Errors
    /// Its file cannot be opened for appending.
    pub fn open(policy: &Policy) -> io::Result<Self> {
        Ok(Self {
            node: policy.node.name.clone(),
            requests: policy.log.requests,
            lines: Lines::open_now(policy.log.output.clone())?,
            lost_lines: 0,
            time_of_day: TimeOfDay::default(),
        })
    }

    /// One whose lines stay in memory.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self {
            node: "test".to_owned(),
            requests: true,
            lines: Lines::to(crate::config::policy::LogOutput::Stdout),
            lost_lines: 0,
            time_of_day: TimeOfDay::default(),
        }
    }

    /// What has not been written yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &str {
        self.lines.waiting()
    }

    /// A line about the gateway itself; members are strings.
    pub fn event(&mut self, event: &str, members: &[(&str, String)]) {
        self.about("info", event, members);
    }

    /// A line about something that the operator should look at.
    pub fn warning(&mut self, event: &str, members: &[(&str, String)]) {
        self.about("warning", event, members);
    }

    /// A line about a promise that is not kept.
    pub fn error(&mut self, event: &str, members: &[(&str, String)]) {
        self.about("error", event, members);
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
        let Some(room) = self.lines.next() else {
            return;
        };
        let mut line = Line(room);
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
        self.lines.write_out().await;
        let lost = self.lines.take_lost();
        if lost > 0 {
            counter!("relay_log_lines_lost_total").increment(lost);
            self.lost_lines += lost;
        }
    }

    /// Writes out everything, waiting for the destination, but no longer than `limit`, and not for one that fails.
    pub async fn finish(&mut self, limit: Duration) {
        self.lines.finish(limit).await;
    }
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
    if let Some(chosen) = record.chosen {
        line.text("chosen", chosen);
    }
    if let Some(status) = record.failed_status {
        line.number("failed_status", status.into());
    }
    if let Some(queued) = record.queued {
        line.milliseconds("queued_ms", queued);
    }
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
    if let Some(known) = record.known {
        line.text("known", known.as_str());
        if !policy.prices.is_empty() {
            line.money("cost", record.cost);
        }
    }
    if let Some((scope, limit)) = record.limit {
        line.text("limit", limit.as_str());
        line.text("limit_of", scope.as_str());
    }
    if !record.shadowed.is_empty() {
        let names: Vec<_> = record.shadowed.iter().map(Limit::as_str).collect();
        line.text("shadowed", &names.join(","));
    }
    if let Some(closed) = record.closed {
        line.text("closed_by", closed.by.as_str());
        line.number("close_code", closed.code.into());
    }
    line.text("ended", record.ended);
}
