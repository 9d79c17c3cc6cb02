//! Answers in the forms of the providers, and what they tell: `tests/transcripts`.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// An answer as it stands on the wire, without framing.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Its file's name, without what comes behind the first point.
    pub name: String,
    /// Path and query of the request that is answered so.
    pub path: String,
    /// The dialect, by its name in logs and metrics.
    pub dialect: String,
    /// Media type of the answer.
    pub content_type: &'static str,
    /// The payload.
    pub body: Vec<u8>,
    /// Tokens as the provider counted them last, if it did.
    pub usage: Option<Counted>,
    /// How the stream says that it is over: `completed` or `failed`.
    pub terminal: Option<String>,
    /// Events that have come to their end.
    pub events: u64,
}

/// Tokens as the provider counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Read, those from and for the cache included.
    pub input: u64,
    /// Of those, read from the cache.
    pub cached: u64,
    /// Written, reasoning included.
    pub output: u64,
    /// Of those, reasoning.
    pub reasoning: u64,
}

/// All of them, by name.
pub fn all() -> Vec<Transcript> {
    let entries = fs::read_dir(directory()).expect("the transcripts are there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name())
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".usage.json")?.to_owned()))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names.iter().map(|name| read(name)).collect()
}

/// Those of a dialect.
pub fn of_dialect(dialect: &str) -> Vec<Transcript> {
    let mut transcripts = all();
    transcripts.retain(|transcript| transcript.dialect == dialect);
    transcripts
}

impl Transcript {
    /// It is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.content_type == "text/event-stream"
    }

    /// The stream without the chunks that have no choices but the usage.
    pub fn body_without_usage_chunk(&self) -> Vec<u8> {
        let text = std::str::from_utf8(&self.body).expect("transcripts are UTF-8");
        let is_usage_chunk = |event: &str| {
            let data = event.strip_prefix("data: ").unwrap_or_default();
            let chunk: Value = serde_json::from_str(data).unwrap_or_default();
            chunk["choices"] == Value::Array(Vec::new()) && chunk["usage"].is_object()
        };
        let event_end = if text.contains("\r\n") {
            "\r\n\r\n"
        } else {
            "\n\n"
        };
        let events = text.split_inclusive(event_end);
        let passing: String = events.filter(|event| !is_usage_chunk(event)).collect();
        passing.into_bytes()
    }
}

fn read(name: &str) -> Transcript {
    let file = |kind: &str| directory().join(format!("{name}.{kind}"));
    let told = fs::read(file("usage.json")).expect("listed a moment ago");
    let told: Value = serde_json::from_slice(&told).expect("a sidecar is JSON");
    let text = |member: &str| told[member].as_str().map(str::to_owned);
    let (content_type, body) = match (fs::read(file("sse")), fs::read(file("json"))) {
        (Ok(body), Err(_)) => ("text/event-stream", body),
        (Err(_), Ok(body)) => ("application/json", body),
        _ => panic!("{name} is neither one stream nor one document"),
    };
    let count = |member: &str| told["usage"][member].as_u64().expect("a count");
    Transcript {
        name: name.to_owned(),
        path: text("path").expect("a path"),
        dialect: text("dialect").expect("a dialect"),
        content_type,
        body,
        usage: told["usage"].is_object().then(|| Counted {
            input: count("input"),
            cached: count("cached"),
            output: count("output"),
            reasoning: count("reasoning"),
        }),
        terminal: text("terminal"),
        events: told["events"].as_u64().expect("a number of events"),
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}
