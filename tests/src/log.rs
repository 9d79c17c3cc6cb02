//! The lines that the gateway logs, collected as they come.

use crate::signal::DEADLINE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// As it was written.
    pub text: String,
    /// `Null` if it is not JSON.
    pub json: Value,
}

impl Line {
    /// Its `event`.
    pub fn event(&self) -> &str {
        self.json["event"].as_str().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<Line>,
    over: bool,
}

/// All lines so far of one output.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Collected>, Condvar)>);

impl Log {
    /// Collects, in a thread, what comes out of `output`.
    pub(crate) fn collect(output: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let collecting = log.clone();
        thread::spawn(move || {
            for text in BufReader::new(output).lines().map_while(Result::ok) {
                let json = serde_json::from_str(&text).unwrap_or_default();
                collecting.collected().lines.push(Line { text, json });
                collecting.0.1.notify_all();
            }
            collecting.collected().over = true;
            collecting.0.1.notify_all();
        });
        log
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.0.lock().expect("no holder panics")
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.collected().lines.clone()
    }

    /// All text so far.
    pub fn text(&self) -> String {
        self.lines()
            .iter()
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// Waits until the lines say what is wanted of them.
    ///
    /// # Panics
    /// After [`DEADLINE`], or when the output is over and they still do not, with the whole log.
    pub fn wait_for<T>(&self, what: &str, mut probe: impl FnMut(&[Line]) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut collected = self.collected();
        loop {
            if let Some(found) = probe(&collected.lines) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || collected.over {
                drop(collected);
                panic!("not in the log: {what}\n{}", self.text());
            }
            collected = self
                .0
                .1
                .wait_timeout(collected, left)
                .expect("no holder panics")
                .0;
        }
    }

    /// Waits for the first line of this event.
    pub fn wait_event(&self, event: &str) -> Value {
        self.wait_for(event, |lines| {
            lines
                .iter()
                .find(|line| line.event() == event)
                .map(|line| line.json.clone())
        })
    }

    /// Waits for so many `request` lines and returns them.
    pub fn wait_requests(&self, count: usize) -> Vec<Value> {
        self.wait_for(&format!("{count} requests"), |lines| {
            let requests = lines.iter().filter(|line| line.event() == "request");
            let requests: Vec<Value> = requests.map(|line| line.json.clone()).collect();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// Waits for the `request` line with this id.
    pub fn wait_request(&self, id: &str) -> Value {
        self.wait_for(&format!("request {id}"), |lines| {
            let mut requests = lines.iter().filter(|line| line.event() == "request");
            requests
                .find(|line| line.json["request_id"] == id)
                .map(|line| line.json.clone())
        })
    }

    /// Waits until the output is over and returns its text.
    pub fn wait_over(&self) -> String {
        let end = Instant::now() + DEADLINE;
        let mut collected = self.collected();
        while !collected.over {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the output goes on");
            collected = self
                .0
                .1
                .wait_timeout(collected, left)
                .expect("no holder panics")
                .0;
        }
        drop(collected);
        self.text()
    }
}
