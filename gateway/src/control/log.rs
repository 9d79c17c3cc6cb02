//! The log: one JSON object per line; for requests metadata only. Lines that were lost are counted in the next line that
//! gets through.

mod request;

use super::line::{Line, TimeOfDay, member};
use super::lines::Lines;
use crate::config::Policy;
use crate::journal::Record;
use metrics::counter;
use request::Requests;
#[cfg(test)]
pub(super) use request::tests::record;
use std::io;
use std::time::{Duration, SystemTime};

/// The log.
pub struct Log {
    node: String,
    requests: Option<Requests>,
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
            requests: policy.log.requests.then(|| Requests::of(policy)),
            lines: Lines::open_now(policy.log.output.clone())?,
            lost_lines: 0,
            time_of_day: TimeOfDay::default(),
        })
    }

    /// One whose lines stay in memory; of requests by the policy that tests of the control thread go by.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let policy = super::journal::tests::policy(std::path::Path::new("/nowhere"), "off");
        Self {
            node: "test".to_owned(),
            requests: Some(Requests::of(&policy)),
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
        let Some(requests) = &mut self.requests else {
            return;
        };
        let Some(room) = self.lines.next() else {
            return;
        };
        let mut line = Line(room);
        self.time_of_day.begin(&mut line, record.time);
        line.push(&requests.beginning);
        tell_lost(&mut line, &mut self.lost_lines);
        requests.write(&mut line, policy, record);
        line.push("}\n");
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
        self.time_of_day.begin(&mut line, time);
        begin(&mut line, level, event, &self.node);
        tell_lost(&mut line, &mut self.lost_lines);
        fill(&mut line);
        line.push("}\n");
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

/// What comes first, behind the time.
fn begin(line: &mut Line<'_>, level: &str, event: &str, node: &str) {
    line.text("level", level);
    line.text("event", event);
    line.text("node", node);
}

fn tell_lost(line: &mut Line<'_>, lost_lines: &mut u64) {
    if *lost_lines > 0 {
        line.number(member!("lines_lost_before"), *lost_lines);
        *lost_lines = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::tests::policy;
    use super::*;
    use fastrand::Rng;
    use std::path::Path;

    #[test]
    fn lines_that_were_lost_are_told_once_in_the_line_of_a_request() {
        let policy = policy(Path::new("/nowhere"), "off");
        let record = Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(86_400_000_007),
            request_id: "first:1".into(),
            tenant: None,
            ended: "complete",
            ..record(&mut Rng::with_seed(11))
        };
        let mut log = Log::nowhere();
        log.lost_lines = 7;
        log.request(&policy, &record);
        log.request(&policy, &record);
        let begin = format!(
            "{{\"time\":\"1970-01-02T00:00:00.000007Z\",\"level\":\"info\",\"event\":\"request\",\"node\":\"{}\"",
            policy.node.name
        );
        let lines: Vec<_> = log.waiting().split_inclusive('\n').collect();
        assert_eq!(lines.len(), 2);
        for (line, lost) in lines.into_iter().zip([",\"lines_lost_before\":7", ""]) {
            let begin = format!("{begin}{lost},\"request_id\":\"first:1\",");
            assert!(line.starts_with(&begin), "{line}");
            assert!(line.ends_with(",\"ended\":\"complete\"}\n"), "{line}");
        }
    }
}
