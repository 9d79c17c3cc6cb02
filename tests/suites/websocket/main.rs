//! WebSocket: what is agreed on, what passes, how it ends, and what it costs.
#![allow(clippy::unwrap_used, reason = "a test")]

mod ends;
mod handshake;
mod limits;
mod metering;
mod passage;

use relay_tests::websocket::{Message, ProviderSocket};
use relay_tests::{Account, Config, Exchange, Upstream};
use std::net::SocketAddr;

/// A configuration with one upstream that takes WebSockets.
fn config(address: SocketAddr) -> Config {
    let account = Account::first().set("max_concurrent", 1000);
    Config::for_upstream(address).account(account).websocket()
}

/// A provider that agrees to every WebSocket and does this with it.
fn provider(talk: impl Fn(&mut ProviderSocket<'_>) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |exchange: &mut Exchange| exchange.websocket(&[], &talk))
}

/// Sends every message back, until the client closes.
fn echo(socket: &mut ProviderSocket<'_>) {
    while let Ok(message) = socket.read() {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).is_err()
        {
            return;
        }
    }
}
