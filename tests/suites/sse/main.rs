//! Streamed answers: byte for byte, event by event, and never complete unless the provider said so.

mod broken;
mod fidelity;

use relay_tests::http::{LAST_CHUNK, chunk};
use relay_tests::{Config, Exchange, Gateway, Upstream, openai};

/// A gateway in front of an upstream that runs this script after the head of a stream.
fn streaming(script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> (Upstream, Gateway) {
    let upstream = Upstream::start(move |exchange| {
        exchange.send(openai::STREAM_HEAD);
        script(exchange);
    });
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    (upstream, gateway)
}

/// `pieces` as chunks, and the last chunk.
fn chunks<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes: Vec<u8> = pieces.into_iter().flat_map(chunk).collect();
    bytes.extend_from_slice(LAST_CHUNK);
    bytes
}
