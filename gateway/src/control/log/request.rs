//! The line of a request.

use super::super::line::{Line, member};
use super::begin;
use crate::config::Policy;
use crate::config::policy::{Account, Limit};
use crate::journal::Record;
use relay_wire::dialect::Dialect;
use std::net::IpAddr;

/// Addresses of which the text is kept, so many at most.
const ADDRESSES: usize = 256;

/// What is the same in the lines of many requests, ready to be copied.
pub(super) struct Requests {
    /// What comes first, behind the time.
    pub(super) beginning: String,
    /// By tenant.
    tenants: Vec<String>,
    /// By account.
    accounts: Vec<String>,
    egress: Addresses,
}

/// Addresses seen lately, each in the place that its last bytes lead to.
struct Addresses(Vec<Option<(IpAddr, String)>>);

impl Requests {
    /// Those that this policy allows.
    pub(super) fn of(policy: &Policy) -> Self {
        let tenants = policy.tenants.iter();
        let accounts = policy.accounts.iter();
        Self {
            beginning: text_of(|line| begin(line, "info", "request", &policy.node.name)),
            tenants: tenants
                .map(|tenant| text_of(|line| line.text("tenant", &tenant.name)))
                .collect(),
            accounts: accounts
                .map(|account| text_of(|line| write_account(line, policy, account)))
                .collect(),
            egress: Addresses(vec![None; ADDRESSES]),
        }
    }

    /// What is behind the beginning.
    pub(super) fn write(&mut self, line: &mut Line<'_>, policy: &Policy, record: &Record) {
        self.write_parties(line, record);
        line.number(member!("status"), record.status.into());
        if let Some(code) = record.code {
            line.word(member!("code"), code);
        }
        line.number(member!("attempts"), record.attempts.into());
        if let Some(chosen) = record.chosen {
            line.word(member!("chosen"), chosen);
        }
        if let Some(status) = record.failed_status {
            line.number(member!("failed_status"), status.into());
        }
        if let Some(queued) = record.queued {
            line.milliseconds(member!("queued_ms"), queued);
        }
        if let Some(overhead) = record.overhead {
            line.number(member!("overhead_us"), overhead.as_micros() as u64);
        }
        if let Some(first_byte) = record.first_byte {
            line.milliseconds(member!("ttfb_ms"), first_byte);
        }
        line.milliseconds(member!("duration_ms"), record.duration);
        line.number(member!("bytes_in"), record.bytes_in);
        line.number(member!("bytes_out"), record.bytes_out);
        if record.streamed {
            line.number(member!("events"), record.events);
        }
        write_use(line, policy, record);
        if let Some(closed) = record.closed {
            line.word(member!("closed_by"), closed.by.as_str());
            line.number(member!("close_code"), closed.code.into());
        }
        line.word(member!("ended"), record.ended);
    }

    /// Who asked for what, and who was asked.
    fn write_parties(&mut self, line: &mut Line<'_>, record: &Record) {
        line.request_id(member!("request_id"), &record.request_id);
        if let Some(tenant) = record.tenant {
            line.push(&self.tenants[usize::from(tenant.0)]);
        }
        if let Some(key_id) = record.key_id {
            line.hexadecimal(member!("key"), key_id);
        }
        line.word(
            member!("route"),
            record.route.map_or("none", Dialect::as_str),
        );
        if let Some(model) = &record.model {
            line.text("model", model);
        }
        if let Some(account) = record.account {
            line.push(&self.accounts[usize::from(account.0)]);
        }
        if let Some(egress) = record.egress {
            line.push(self.egress.text(egress));
        }
    }
}

impl Addresses {
    fn text(&mut self, address: IpAddr) -> &str {
        let place = match address {
            IpAddr::V4(address) => {
                let [_, _, third, last] = address.octets();
                third ^ last
            }
            IpAddr::V6(address) => address.octets().iter().fold(0, |sum, byte| sum ^ byte),
        };
        let place = &mut self.0[usize::from(place)];
        if place.as_ref().is_none_or(|(known, _)| *known != address) {
            let text = address.to_string();
            *place = Some((address, text_of(|line| line.text("egress", &text))));
        }
        place.as_ref().map_or("", |(_, text)| text)
    }
}

fn text_of(write: impl FnOnce(&mut Line<'_>)) -> String {
    let mut text = String::new();
    write(&mut Line(&mut text));
    text
}

fn write_account(line: &mut Line<'_>, policy: &Policy, account: &Account) {
    line.text("upstream", &policy.upstream(account.upstream).name);
    line.text("account", &account.name);
    line.text("region", &account.region);
}

/// What it has used, and what it may use no more.
fn write_use(line: &mut Line<'_>, policy: &Policy, record: &Record) {
    if let Some(usage) = record.usage {
        line.number(member!("input_tokens"), usage.input_tokens);
        line.number(member!("cached_tokens"), usage.cached_tokens);
        line.number(member!("output_tokens"), usage.output_tokens);
        line.number(member!("reasoning_tokens"), usage.reasoning_tokens);
    }
    if let Some(known) = record.known {
        line.word(member!("known"), known.as_str());
        if !policy.prices.is_empty() {
            line.money(member!("cost"), record.cost);
        }
    }
    if let Some((scope, limit)) = record.limit {
        line.word(member!("limit"), limit.as_str());
        line.word(member!("limit_of"), scope.as_str());
    }
    if !record.shadowed.is_empty() {
        let names: Vec<_> = record.shadowed.iter().map(Limit::as_str).collect();
        line.text("shadowed", &names.join(","));
    }
}

#[cfg(test)]
pub(super) mod tests;
