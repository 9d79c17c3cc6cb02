//! TLS towards providers: who is believed to be one, who is not, and what ties two connections together.

mod accepted;
mod probes;
mod refused;
mod sessions;

use relay_tests::{Account, Authority, Config, Tenant};
use std::net::SocketAddr;

/// The name of the provider, where it has one.
const NAME: &str = "api.provider.example";

/// One account of a provider that has to prove to be of this name.
fn named(address: SocketAddr, authority: &Authority, name: &str) -> Config {
    Config::simple_secure(address, authority).upstream_key(
        "openai",
        "server_name",
        &format!("{name:?}"),
    )
}

/// The same with two accounts.
fn two_accounts(address: SocketAddr, authority: &Authority) -> Config {
    Config::bare()
        .upstream("openai", &format!("https://{address}"))
        .trust("openai", authority)
        .upstream_key("openai", "server_name", &format!("{NAME:?}"))
        .tenant(Tenant::acme())
        .account(Account::new("first", "127.0.7.1"))
        .account(Account::new("second", "127.0.7.2"))
}
