//! `codex-relay egress …`: which connections have left from where, and whether they do.

mod log;

use super::{EX_DATAERR, EX_IOERR, Place, admin, print, table::table};
use clap::Subcommand;
use codex_relay::control::egress::check::{Check, Order};
use serde_json::json;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// How long the gateway may say nothing: longer than any check of a thousand addresses.
const SILENCE_MAX: Duration = Duration::from_secs(300);

#[derive(Subcommand)]
pub(super) enum Egress {
    /// Show connections to providers: those that have ended, or with --open those that have not
    Log(log::Options),
    /// Have the running gateway open one connection for each account and address, and show where it has come from
    Check {
        #[command(flatten)]
        place: Place,
        /// The gateway's admin address, if it is not the configured one
        #[arg(long, value_name = "ADDRESS:PORT")]
        admin: Option<SocketAddr>,
        /// This account alone
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// To `codex-relay egress echo` instead of the provider
        #[arg(long, value_name = "ADDRESS:PORT")]
        to: Option<SocketAddr>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Be the far side of a check: tell everybody who connects, in one line of text, the address that is seen
    Echo {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
}

pub(super) fn run(command: Egress) -> ExitCode {
    match command {
        Egress::Log(options) => log::run(&options),
        Egress::Check {
            place,
            admin,
            account,
            to,
            json,
        } => {
            let policy = match place.policy() {
                Ok(policy) => policy,
                Err(code) => return code,
            };
            check(admin.unwrap_or(policy.admin), &Order { account, to }, json)
        }
        Egress::Echo { listen } => match echo(listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot listen on {listen}: {error}");
                EX_IOERR.into()
            }
        },
    }
}

/// 0 if every connection has come from the address that it should.
fn check(admin: SocketAddr, order: &Order, json: bool) -> ExitCode {
    let answer = admin::call(admin, "/egress/check", Some(&json!(order)), SILENCE_MAX);
    let checks: Vec<Check> = match answer.map(|mut answer| answer["checks"].take()) {
        Ok(checks) => match serde_json::from_value(checks) {
            Ok(checks) => checks,
            Err(error) => {
                eprintln!("the gateway's answer is not understood: {error}");
                return EX_DATAERR.into();
            }
        },
        Err(why) => {
            eprintln!("{why}");
            return why.exit_code();
        }
    };
    let text = if json {
        format!("{:#}\n", json!(checks))
    } else {
        let rows: Vec<_> = checks.iter().map(row).collect();
        let head = [
            "ACCOUNT",
            "ADDRESS",
            "DESTINATION",
            "LEFT FROM",
            "SEEN AS",
            "TIME",
            "RESULT",
        ];
        table(head, &rows)
    };
    let printed = print(text.as_bytes());
    if checks.iter().all(|check| check.error.is_none()) {
        printed
    } else {
        ExitCode::FAILURE
    }
}

fn row(check: &Check) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        check.account.clone(),
        check.address.to_string(),
        or_dash(check.destination.map(|address| address.to_string())),
        or_dash(check.local.map(|address| address.to_string())),
        or_dash(check.seen.clone()),
        or_dash(check.connect_us.map(|time| milliseconds(time.into()))),
        check.error.clone().unwrap_or_else(|| "ok".to_owned()),
    ]
}

/// From microseconds.
fn milliseconds(time_us: u128) -> String {
    format!("{}.{:03} ms", time_us / 1000, time_us % 1000)
}

/// Serves until it is ended.
fn echo(listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    let mut out = io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    for stream in listener.incoming() {
        // One that is gone already has nothing to be told.
        let _ = stream.and_then(tell);
    }
    Ok(())
}

fn tell(mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let seen = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    stream.write_all(format!("{seen}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn who_connects_is_told_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tell(listener.accept().unwrap().0).unwrap();
        let mut line = String::new();
        client.read_to_string(&mut line).unwrap();
        assert_eq!(line, format!("{}\n", client.local_addr().unwrap()));
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let check = Check {
            account: "first".to_owned(),
            address: "127.0.7.1".parse().unwrap(),
            destination: None,
            local: None,
            seen: None,
            connect_us: Some(1_002),
            error: None,
        };
        let expected = ["first", "127.0.7.1", "-", "-", "-", "1.002 ms", "ok"];
        assert_eq!(row(&check), expected);
    }
}
