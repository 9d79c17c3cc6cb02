//! Providers that speak HTTP/2: several requests share a connection, and none of them is another one's concern.

mod alive;
mod answers;
mod broken;
mod hostile;
mod sharing;
mod stalled;

use relay_tests::Config;
use relay_tests::openai::{completed, created, delta};
use std::net::SocketAddr;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];

/// One account of a provider that speaks HTTP/2 from the first byte.
fn config(address: SocketAddr) -> Config {
    Config::simple(address).protocol("openai", "http2")
}

/// All of a streamed answer, event by event.
fn events(texts: &[&str]) -> Vec<Vec<u8>> {
    let mut events = vec![created()];
    events.extend(texts.iter().map(|text| delta(text)));
    events.push(completed());
    events
}
