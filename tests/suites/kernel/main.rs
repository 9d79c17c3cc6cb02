//! What the kernel enforces, as the operator meets it: at the start, on the command line, in metrics and at `/ready`.

mod commands;
mod egress;
mod rights;

use relay_tests::{Account, Config, Upstream};

/// Two accounts, the first one with two addresses.
fn two_accounts(upstream: &Upstream) -> Config {
    let first = Account::first().egress("127.0.7.2");
    let second = Account::new("second", "127.0.7.3");
    Config::for_upstream(upstream.address())
        .account(first)
        .account(second)
}
