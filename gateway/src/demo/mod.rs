//! `codex-relay demo`: the gateway between a scripted provider and a demo tenant, all on loopback.
//!
//! Nothing is faked on the gateway's side: it reads a configuration file, binds its accounts to addresses of their own
//! and keeps its log. Only the provider plays a script.

mod call;
mod files;
mod instructions;
pub mod provider;

use crate::config;
use crate::control::End;
use crate::start::Gateway;
use crate::state::Reader;
use call::{Answer, call};
use files::Files;
use provider::Seen;
use serde_json::json;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use tokio::sync::mpsc;

/// Where the gateway listens unless told otherwise, or unless the port is taken.
const PORT: u16 = 8787;

/// The demo's accounts and where they leave from. All of 127.0.0.0/8 is loopback on Linux, with no set-up.
const ACCOUNTS: [(&str, Ipv4Addr); 2] = [
    ("demo-1", Ipv4Addr::new(127, 0, 7, 1)),
    ("demo-2", Ipv4Addr::new(127, 0, 7, 2)),
];

/// What can be chosen.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The gateway's port on loopback; if none is chosen 8787, or any free one while that is taken.
    pub port: Option<u16>,
    /// The files of a certificate and its key, to listen with TLS on another port.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Shows the gateway at work, and serves until Ctrl-C.
pub fn run(options: &Options) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codex-relay demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let credentials = ACCOUNTS.map(|_| format!("sk-demo-{:016x}", fastrand::u64(..)));
    let (provider, mut seen) = start_provider(&credentials)?;
    let key = crate::keys::generate()?;
    let files = Files::write(
        listen_port(options),
        options.certificate.as_ref(),
        provider,
        &credentials,
        key.expose(),
    )?;
    let loaded = config::load(&files.config())?;
    let gateway = Gateway::start(loaded.policy, &loaded.warnings, Reader::InProcess)?;
    let address = *gateway.listeners.first().ok_or("there is no listener")?;
    let secure = gateway.listeners.get(1).copied();

    // Not `println!`, which panics where nobody reads any more.
    let mut out = io::stdout();
    writeln!(
        out,
        "provider: {provider} (plays a script), gateway: {address}\n"
    )?;
    for stream in [false, true] {
        let prompt = "hello from the demo";
        let body = json!({"model": "demo", "stream": stream, "input": prompt});
        let answer = call(address, key.expose(), &body)?;
        let seen = seen
            .try_recv()
            .map_err(|_| "the provider has not seen the request")?;
        writeln!(out, "{}", outcome(stream, &answer, &seen)?)?;
    }
    let key = std::str::from_utf8(key.expose())?;
    out.write_all(instructions::text(address, secure, key, gateway.admin, &files).as_bytes())?;

    thread::spawn(move || {
        while let Some(seen) = seen.blocking_recv() {
            if writeln!(out, "provider has seen {}", from_account(&seen)).is_err() {
                return;
            }
        }
    });
    match gateway.serve()? {
        End::Drained | End::DrainTimedOut | End::Forced => Ok(()),
        End::WorkerLost => Err("a worker ended unexpectedly".into()),
    }
}

/// Starts the provider on a thread of its own, which ends with the process.
fn start_provider(
    credentials: &[String],
) -> io::Result<(SocketAddr, mpsc::UnboundedReceiver<Seen>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (sender, seen) = mpsc::unbounded_channel();
    let credentials = credentials.to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("demo-provider".to_owned())
        .spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                provider::serve(listener, &credentials, sender).await
            });
            if let Err(error) = served {
                eprintln!("codex-relay demo: the provider has stopped: {error}");
            }
        })?;
    Ok((address, seen))
}

/// The port that was chosen; else the usual one while it is free; else 0, for any.
fn listen_port(options: &Options) -> u16 {
    options
        .port
        .unwrap_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_or(0, |_free| PORT))
}

/// A request and its answer in one line.
fn outcome(stream: bool, answer: &Answer, seen: &Seen) -> Result<String, String> {
    if answer.status != 200 {
        let text = String::from_utf8_lossy(&answer.payload);
        return Err(format!(
            "the gateway has answered {}: {text}",
            answer.status
        ));
    }
    let usage = answer
        .usage()
        .ok_or("the answer does not end with its usage")?;
    let form = if stream {
        let first = answer.first_event.ok_or("the stream has no event")?;
        format!(
            "stream: first event after {first:.1?}, complete after {:.1?}",
            answer.whole
        )
    } else {
        format!("JSON: complete after {:.1?}", answer.whole)
    };
    Ok(format!(
        "{form}\n  provider has seen {}\n  {} input tokens ({} cached), {} output tokens ({} reasoning)",
        from_account(seen),
        usage["input_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    ))
}

fn from_account(seen: &Seen) -> String {
    let (account, _) = ACCOUNTS[seen.account];
    format!(
        "{} from {} with the credential of account {account}",
        seen.line,
        seen.peer.ip()
    )
}
