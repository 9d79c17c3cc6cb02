//! `codex-relay kernel …`: what the kernel enforces, seen from outside of a gateway.

use super::{EX_IOERR, Place, print, table::table};
use clap::Subcommand;
use codex_relay::config::Policy;
use codex_relay::kernel::places;
use relay_ebpf::abi::map;
use relay_ebpf::{AttachedTo, LiveCount, Status};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum Kernel {
    /// Show which programs are in force, what they count and what they have decided
    Status {
        #[command(flatten)]
        place: Place,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take the programs away; from then on nothing is enforced for this node
    Detach {
        #[command(flatten)]
        place: Place,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Kernel) -> ExitCode {
    match command {
        Kernel::Status { place, json } => match place.policy() {
            Ok(policy) => status(&policy, *json),
            Err(code) => code,
        },
        Kernel::Detach { place, json } => match place.policy() {
            Ok(policy) => detach(&policy, *json),
            Err(code) => code,
        },
    }
}

/// 0 if something is in force, 1 if nothing is.
fn status(policy: &Policy, json: bool) -> ExitCode {
    let status = match relay_ebpf::status(&places(policy)) {
        Ok(status) => status,
        Err(missing) => {
            eprintln!("what is in force cannot be seen: {missing}");
            return EX_IOERR.into();
        }
    };
    let text = if json {
        format!("{:#}\n", as_json(policy, &status))
    } else {
        as_text(policy, &status)
    };
    let is_in_force = |link: &relay_ebpf::LinkStatus| link.attached_to != AttachedTo::Nothing;
    let printed = print(text.as_bytes());
    if status.links.iter().any(is_in_force) {
        printed
    } else {
        ExitCode::FAILURE
    }
}

fn attached_to(place: AttachedTo) -> String {
    match place {
        AttachedTo::Cgroup => "the gateway's cgroup".to_owned(),
        AttachedTo::OtherCgroup(id) => format!("the cgroup with number {id}"),
        AttachedTo::Nothing => "nothing: its cgroup was removed".to_owned(),
    }
}

/// Tenants and accounts by their names.
fn named(policy: &Policy, count: &LiveCount) -> String {
    let number = count.of.parse::<usize>().ok();
    let name = match count.map {
        map::TENANTS_INBOUND | map::TENANTS_UPSTREAM => number
            .and_then(|number| policy.tenants.get(number))
            .map(|tenant| &tenant.name),
        map::ACCOUNTS_UPSTREAM => number
            .and_then(|number| policy.accounts.get(number))
            .map(|account| &account.name),
        _ => None,
    };
    name.unwrap_or(&count.of).clone()
}

fn as_json(policy: &Policy, status: &Status) -> Value {
    let links = status.links.iter().map(|link| {
        json!({
            "program": link.name,
            "program_id": link.program_id,
            "attached_to": attached_to(link.attached_to),
        })
    });
    let live = status.live.iter().map(|count| {
        json!({
            "count": count.map.to_lowercase(),
            "of": named(policy, count),
            "connections": count.connections,
        })
    });
    let counters = status
        .counters
        .iter()
        .map(|(counter, total)| (counter.as_str().to_owned(), Value::from(*total)));
    json!({
        "abi_version": status.abi_version,
        "pins": status.pins,
        "cgroup": status.cgroup,
        "held_by": status.held_by,
        "lease_s": status.lease.map(|left| left.as_secs()),
        "links": links.collect::<Vec<_>>(),
        "live": live.collect::<Vec<_>>(),
        "counters": serde_json::Map::from_iter(counters),
    })
}

fn as_text(policy: &Policy, status: &Status) -> String {
    let cgroup = status.cgroup.as_ref();
    let mut text = format!(
        "version  {}\npins     {}\ncgroup   {}\ngateway  {}\ncaps     {}\n\n",
        status.abi_version,
        status.pins.display(),
        cgroup.map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
        status.held_by.map_or_else(
            || "none holds these pins".to_owned(),
            |pid| format!("process {pid}")
        ),
        status.lease.map_or_else(
            || "not enforced: nobody watches over the counts".to_owned(),
            |left| format!("enforced for {} s more", left.as_secs())
        ),
    );
    if status.links.is_empty() {
        return text + "Nothing is in force.\n";
    }
    let links: Vec<_> = status
        .links
        .iter()
        .map(|link| {
            [
                link.name.clone(),
                link.program_id.to_string(),
                attached_to(link.attached_to),
            ]
        })
        .collect();
    text += &table(["PROGRAM", "ID", "ATTACHED TO"], &links);
    let live: Vec<_> = status
        .live
        .iter()
        .map(|count| {
            [
                count.map.to_lowercase(),
                named(policy, count),
                count.connections.to_string(),
            ]
        })
        .collect();
    if !live.is_empty() {
        text += "\n";
        text += &table(["COUNT", "OF", "CONNECTIONS"], &live);
    }
    let counters = status.counters.iter().filter(|(_, total)| *total > 0);
    let counters: Vec<_> = counters
        .map(|(counter, total)| [counter.as_str().to_owned(), total.to_string()])
        .collect();
    if !counters.is_empty() {
        text += "\n";
        text += &table(["EVENT", "TOTAL"], &counters);
    }
    text
}

fn detach(policy: &Policy, json: bool) -> ExitCode {
    match relay_ebpf::detach(&places(policy)) {
        Ok(removed) if json => print(format!("{:#}\n", json!({ "removed": removed })).as_bytes()),
        Ok(removed) if removed.is_empty() => print(b"Nothing was in force.\n"),
        Ok(removed) => {
            let lines = removed
                .iter()
                .map(|path| format!("removed {}\n", path.display()));
            print(lines.collect::<String>().as_bytes())
        }
        Err(missing) => {
            eprintln!("the programs cannot be taken away: {missing}");
            ExitCode::FAILURE
        }
    }
}
