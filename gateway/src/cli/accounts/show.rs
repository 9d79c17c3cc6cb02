//! Accounts for people to read.

use super::super::{count, printable, table::table, times::show_time};
use codex_relay::control::accounts::{
    Account, Address, Condition, Listing, Measured, Verb, Wish, Word,
};
use jiff::Timestamp;

const NOTHING: &str = "-";

/// One line each, and which upstreams are in panic mode.
pub(super) fn listing(listing: &Listing, now: Timestamp) -> String {
    let rows: Vec<_> = listing.accounts.iter().map(|one| row(one, now)).collect();
    let head = [
        "ACCOUNT",
        "UPSTREAM",
        "REGION",
        "STATE",
        "WHY",
        "UNTIL",
        "IN FLIGHT",
        "ADDRESSES",
    ];
    let mut text = table(head, &rows);
    for upstream in &listing.panic {
        text += &format!(
            "\nNo account of {upstream} is well: those that are blocked are asked all the same.\n"
        );
    }
    text
}

fn row(account: &Account, now: Timestamp) -> [String; 8] {
    let is_well = |one: &&Address| matches!(one.state, Condition::Usable | Condition::Recovering);
    let well = account.addresses.iter().filter(is_well).count();
    [
        account.name.clone(),
        account.upstream.clone(),
        account.region.clone(),
        account.state.as_str().to_owned(),
        why(account),
        until(account.until.as_deref(), now),
        format!("{}/{}", account.in_flight, account.max_concurrent),
        format!("{well}/{}", account.addresses.len()),
    ]
}

/// Everything.
pub(super) fn account(account: &Account, now: Timestamp) -> String {
    let since = account.since.as_deref();
    // An order covers it.
    let is_ordered = matches!(account.state, Condition::Draining | Condition::Disabled);
    let health = is_ordered.then(|| ("health", measured(&account.health, now)));
    let lines = [
        ("account", account.name.clone()),
        ("upstream", account.upstream.clone()),
        ("region", account.region.clone()),
        ("state", account.state.as_str().to_owned()),
        ("why", why(account)),
        ("since", until(since, now)),
        ("until", until(account.until.as_deref(), now)),
        ("operator", operator(&account.wish, now)),
        (
            "back-off",
            format!(
                "blocked {} in a row without a time from the provider",
                count(account.openings as usize, "time")
            ),
        ),
        (
            "in flight",
            format!(
                "{} of {} at most",
                account.in_flight, account.max_concurrent
            ),
        ),
        ("protocol", protocol(account).to_owned()),
        (
            "latency",
            account
                .latency_ms
                .map_or_else(|| "not known".to_owned(), |latency| format!("{latency} ms")),
        ),
        (
            "share",
            format!("{:.0} % of its usual load", account.share * 100.0),
        ),
        ("saved", saved(account)),
    ];
    let mut text: String = lines
        .iter()
        .chain(&health)
        .map(|(name, value)| format!("{name:<9}  {value}\n"))
        .collect();
    let rows: Vec<_> = account
        .addresses
        .iter()
        .map(|one| {
            [
                one.address.to_string(),
                one.state.as_str().to_owned(),
                words(one.reason.as_deref()),
                until(one.until.as_deref(), now),
            ]
        })
        .collect();
    text += "\n";
    text + &table(["ADDRESS", "STATE", "WHY", "UNTIL"], &rows)
}

/// What has become of an order.
pub(super) fn obeyed(verb: Verb, account: &Account, now: Timestamp) -> String {
    let name = &account.name;
    let mut text = format!("{name} is {}", account.state.as_str());
    if account.reason.is_some() {
        text += &format!(" ({})", why(account));
    }
    if account.until.is_some() {
        text += &format!(" until {}", until(account.until.as_deref(), now));
    }
    text += &format!(
        ", {} in flight\n",
        count(account.in_flight as usize, "request")
    );
    if verb == Verb::Enable && account.state == Condition::Blocked {
        text += &format!("`codex-relay accounts reset {name}` has it asked at once.\n");
    }
    text
}

fn protocol(account: &Account) -> &str {
    match account.protocol.as_deref() {
        None => "not known before there is a connection",
        Some("http1") => "HTTP/1.1",
        Some("http2") => "HTTP/2",
        Some(other) => other,
    }
}

fn why(account: &Account) -> String {
    cause(account.reason.as_deref(), account.stated)
}

fn cause(reason: Option<&str>, stated: bool) -> String {
    let reason = words(reason);
    if stated {
        reason + ", stated by the provider"
    } else {
        reason
    }
}

fn measured(health: &Measured, now: Timestamp) -> String {
    let mut text = health.state.as_str().to_owned();
    if health.reason.is_some() {
        text += &format!(" ({})", cause(health.reason.as_deref(), health.stated));
    }
    if health.until.is_some() {
        text += &format!(" until {}", until(health.until.as_deref(), now));
    }
    text
}

fn operator(wish: &Wish, now: Timestamp) -> String {
    let Some(since) = &wish.since else {
        return "nothing said: the configuration applies".to_owned();
    };
    let word = match wish.word {
        Word::Enabled => "enabled",
        Word::Drained => "drained",
        Word::Disabled => "disabled",
    };
    let mut text = format!("{word} since {}", show_time(since, now));
    if let Some(until) = &wish.until {
        text += &format!(", until {}", show_time(until, now));
    }
    if wish.reason.is_some() {
        text += &format!(": {}", words(wish.reason.as_deref()));
    }
    text
}

fn saved(account: &Account) -> String {
    match (account.saved, &account.unsaved_reason) {
        (true, _) => "yes".to_owned(),
        (false, None) => "not yet".to_owned(),
        (false, Some(why)) => format!("no: {}", words(Some(why))),
    }
}

fn until(time: Option<&str>, now: Timestamp) -> String {
    time.map_or_else(|| NOTHING.to_owned(), |time| show_time(time, now))
}

fn words(text: Option<&str>) -> String {
    text.map_or_else(|| NOTHING.to_owned(), printable)
}
