//! What the egress log says of a connection, and where.

use crate::config::Policy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One connection to a provider: metadata only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The account.
    pub account: String,
    /// The tenant with a cap that used it when it ended, or for which it was opened.
    pub tenant: Option<String>,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// When it was established, if it was.
    pub opened: Option<String>,
    /// When it ended, if it has.
    pub closed: Option<String>,
    /// Payload that the far side has acknowledged.
    pub bytes_sent: u64,
    /// Payload received.
    pub bytes_received: u64,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// It came from an address that is not one of the account's.
    pub violation: bool,
}

impl Record {
    /// As a line of the log.
    pub fn to_line(&self) -> String {
        // Nothing in it can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// The form of all times: they compare as text does.
pub fn format(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The day, by UTC.
pub fn day_of(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// Where the files are.
pub fn directory(policy: &Policy) -> PathBuf {
    policy.node.state_dir.join("egress-log")
}

/// The file of a day.
pub fn file(directory: &Path, day: &str) -> PathBuf {
    directory.join(format!("{day}.jsonl"))
}

/// The files that are there, with their days, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn files(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let day = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jsonl"));
        let is_day = |day: &&str| day.parse::<jiff::civil::Date>().is_ok();
        if let Some(day) = day.filter(is_day) {
            files.push((day.to_owned(), path.clone()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_line() {
        let record = Record {
            account: "first \"1\"\n".to_owned(),
            tenant: None,
            source: "127.0.7.1:4000".parse().unwrap(),
            destination: "[2001:db8::1]:443".parse().unwrap(),
            opened: Some(format(Timestamp::from_second(1).unwrap())),
            closed: None,
            bytes_sent: u64::MAX,
            bytes_received: 0,
            rtt_us: 7,
            retransmits: 1,
            violation: true,
        };
        let line = record.to_line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        assert_eq!(
            record.opened.as_deref(),
            Some("1970-01-01T00:00:01.000000Z")
        );
    }

    #[test]
    fn only_files_of_days_belong_to_the_log() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "2026-01-02.jsonl",
            "2026-01-01.jsonl",
            "2026-13-01.jsonl",
            "2026-01-03",
        ] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let days: Vec<_> = files(directory.path())
            .unwrap()
            .into_iter()
            .map(|(day, _)| day)
            .collect();
        assert_eq!(days, ["2026-01-01", "2026-01-02"]);
    }
}
