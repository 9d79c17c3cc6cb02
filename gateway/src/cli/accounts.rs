//! `codex-relay accounts …`: how the accounts of a running gateway are, and what the operator wants of them.

mod show;

use super::{EX_USAGE, Place, admin, print, times};
use clap::Subcommand;
use codex_relay::control::accounts::{Account, Listing, Order, Verb};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long the gateway may say nothing: it waits for the disk for two seconds at most.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(super) enum Accounts {
    /// Show all accounts: their state, why, and until when
    List {
        #[command(flatten)]
        gateway: Gateway,
        /// Of this upstream alone
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
    },
    /// Show everything that is known of one account
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// Give an account nothing new; what is running goes on, and so does what only this account can answer
    Drain {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wish: Wish,
    },
    /// Ask an account again, as far as its health allows, also one with `enabled = false`
    Enable {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wish: Wish,
    },
    /// Give an account nothing at all; what is running goes on
    Disable {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wish: Wish,
    },
    /// Forget the failures of an account and of its addresses, so that it is asked at once
    Reset {
        #[command(flatten)]
        named: Named,
        /// Why, for those who read the log later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// The gateway that is meant.
#[derive(clap::Args)]
pub(super) struct Gateway {
    /// The configuration file, which names the gateway's admin address
    #[arg(short, long, value_name = "FILE", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// The gateway's admin address, if it is not the configured one
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The account that is meant.
#[derive(clap::Args)]
pub(super) struct Named {
    /// The account
    name: String,
    #[command(flatten)]
    gateway: Gateway,
}

/// What else an order says.
#[derive(clap::Args)]
pub(super) struct Wish {
    /// For how long: `90s`, `30m`, `2h`, `7d`; after that the configuration applies again
    #[arg(long = "for", value_name = "SPAN", value_parser = span, conflicts_with = "until")]
    span: Option<Duration>,
    /// Until when: a time of RFC 3339 such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Why, for those who look at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn span(text: &str) -> Result<Duration, &'static str> {
    match times::parse_span(text) {
        Some(Duration::ZERO) => Err("it would be over at once"),
        Some(span) => Ok(span),
        None => Err("expected a number with its unit, as in 90s, 30m, 2h or 7d"),
    }
}

impl From<Wish> for Order {
    fn from(wish: Wish) -> Self {
        Self {
            for_seconds: wish.span.map(|span| span.as_secs()),
            until: wish.until.map(|until| until.to_string()),
            reason: wish.reason,
        }
    }
}

pub(super) fn run(command: Accounts) -> ExitCode {
    let done = match command {
        Accounts::List { gateway, upstream } => list(&gateway, upstream.as_deref()),
        Accounts::Show { named } => named.show(),
        Accounts::Drain { named, wish } => named.order(Verb::Drain, &wish.into()),
        Accounts::Enable { named, wish } => named.order(Verb::Enable, &wish.into()),
        Accounts::Disable { named, wish } => named.order(Verb::Disable, &wish.into()),
        Accounts::Reset { named, reason } => {
            let order = Order {
                reason,
                ..Order::default()
            };
            named.order(Verb::Reset, &order)
        }
    };
    done.unwrap_or_else(|code| code)
}

fn list(gateway: &Gateway, upstream: Option<&str>) -> Result<ExitCode, ExitCode> {
    let admin = gateway.admin()?;
    let mut listing: Listing = ask(admin, "/accounts", None)?;
    if let Some(upstream) = upstream {
        listing.accounts.retain(|one| one.upstream == upstream);
        listing.panic.retain(|one| one == upstream);
        if listing.accounts.is_empty() {
            eprintln!("the gateway has no account of an upstream `{upstream}`");
            return Err(EX_USAGE.into());
        }
    }
    Ok(if gateway.json {
        print(format!("{:#}\n", json!(listing)).as_bytes())
    } else {
        print(show::listing(&listing, Timestamp::now()).as_bytes())
    })
}

impl Gateway {
    fn admin(&self) -> Result<SocketAddr, ExitCode> {
        match (self.admin, &self.config) {
            (Some(admin), _) => Ok(admin),
            (None, Some(config)) => {
                let config = config.clone();
                Place { config }.policy().map(|policy| policy.admin)
            }
            // `required_unless_present` leaves no such case.
            (None, None) => Err(EX_USAGE.into()),
        }
    }
}

impl Named {
    fn show(&self) -> Result<ExitCode, ExitCode> {
        let account = self.call("", None)?;
        self.print(&account, show::account)
    }

    fn order(&self, verb: Verb, order: &Order) -> Result<ExitCode, ExitCode> {
        let last = format!("/{}", verb.as_str());
        let account = self.call(&last, Some(&json!(order)))?;
        let printed = self.print(&account, |account, now| show::obeyed(verb, account, now))?;
        if !account.saved {
            let why = account.unsaved_reason.as_deref().unwrap_or("not yet");
            eprintln!("this is not on disk ({why}): the gateway would forget it if it ended now");
        }
        Ok(printed)
    }

    fn print(
        &self,
        account: &Account,
        as_text: impl Fn(&Account, Timestamp) -> String,
    ) -> Result<ExitCode, ExitCode> {
        let text = if self.gateway.json {
            format!("{:#}\n", json!(account))
        } else {
            as_text(account, Timestamp::now())
        };
        Ok(print(text.as_bytes()))
    }

    fn call(&self, last: &str, body: Option<&Value>) -> Result<Account, ExitCode> {
        let admin = self.gateway.admin()?;
        if !is_name(&self.name) {
            eprintln!("no account can have the name {:?}", self.name);
            return Err(EX_USAGE.into());
        }
        ask(admin, &format!("/accounts/{}{last}", self.name), body)
    }
}

/// Only such a text can be the name of an account; another could mean something else in a request.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.bytes().all(allowed) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn ask<T: DeserializeOwned>(
    admin: SocketAddr,
    path: &str,
    body: Option<&Value>,
) -> Result<T, ExitCode> {
    let answer = admin::call(admin, path, body, SILENCE_MAX);
    let understood = answer.and_then(|answer| {
        serde_json::from_value(answer).map_err(|error| admin::not_admin(admin, &error))
    });
    understood.map_err(|why| {
        eprintln!("{why}");
        why.exit_code()
    })
}
