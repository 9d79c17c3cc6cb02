//! Which account a request uses, from which address it leaves, and what happens when that does not work.

mod affinity;
mod choice;
mod commit;
mod egress;
mod fairness;
mod pool;
mod queue;
mod retry;

use relay_tests::upstream::Received;
use relay_tests::{Account, Config, Upstream};

/// Two accounts, each with an address of its own.
fn two() -> [Account; 2] {
    [
        Account::new("first", "127.0.7.1"),
        Account::new("second", "127.0.7.2"),
    ]
}

fn config(upstream: &Upstream, accounts: impl IntoIterator<Item = Account>) -> Config {
    accounts
        .into_iter()
        .fold(Config::for_upstream(upstream.address()), Config::account)
}

/// The address from which a request came.
fn source(request: &Received) -> String {
    request.peer.expect("a connected peer").ip().to_string()
}

/// The provider's key that came with a request.
fn key(request: &Received) -> String {
    let value = request
        .head
        .value("authorization")
        .expect("the account's credential");
    value
        .strip_prefix("Bearer ")
        .expect("a bearer token")
        .to_owned()
}
