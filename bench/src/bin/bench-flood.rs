//! `bench-flood`: what others must not suffer from.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use relay_bench::clock::{now_ns, seconds_to_ns};
use relay_bench::flood::{Handshakes, Resets};
use relay_bench::load::Tally;
use relay_bench::poller::use_exact_timers;
use relay_bench::tls::{self, Resumption};
use serde_json::{Value, json};

/// Floods a server with handshakes or with streams that are reset
///
/// Prints what it has done when its time is over, or when standard input ends.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The server
    #[arg(long)]
    target: SocketAddrV4,
    /// The authority of the server's certificate
    #[arg(long, value_name = "CA_FILE")]
    tls: Option<PathBuf>,
    /// Seconds that are not measured, before the window
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds that are measured; without them, it goes on until standard input ends
    #[arg(long)]
    seconds: Option<f64>,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// TLS handshakes, none of which resumes another
    Handshakes {
        /// How many at a time
        #[arg(long, default_value_t = 32)]
        connections: usize,
        /// Handshakes a second; without it, as many as there can be
        #[arg(long)]
        rate: Option<f64>,
        /// Send the same first message each time and go away after the answer: little work for this side, almost all of the
        /// work for the other
        #[arg(long)]
        replayed: bool,
    },
    /// HTTP/2 streams, each reset as soon as it has begun
    Resets {
        /// Connections at any time
        #[arg(long, default_value_t = 4)]
        connections: usize,
        /// Streams a second over all of them
        #[arg(long, default_value_t = 20_000.0)]
        rate: f64,
        /// The tenant's key, sent as x-api-key
        #[arg(long)]
        key: Option<String>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    use_exact_timers()?;
    let released = Arc::new(AtomicBool::new(false));
    if args.seconds.is_none() {
        let release = Arc::clone(&released);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            release.store(true, Ordering::Relaxed);
        });
    }
    let client = |alpn: &[&[u8]]| {
        let ca_file = args.tls.as_deref();
        let client = ca_file.map(|ca_file| tls::client(ca_file, alpn, Resumption::Never));
        client.transpose()
    };
    let start_ns = now_ns() + seconds_to_ns(args.warmup);
    let end_ns = args
        .seconds
        .map(|seconds| start_ns + seconds_to_ns(seconds));
    let is_over = || match end_ns {
        Some(end_ns) => now_ns() >= end_ns,
        None => released.load(Ordering::Relaxed),
    };
    match args.mode {
        Mode::Handshakes {
            connections,
            rate,
            replayed,
        } => {
            let flood = Handshakes {
                target: args.target,
                tls: client(&[])?.ok_or("handshakes want --tls")?,
                connections,
                rate,
                replayed,
            };
            let mut tally = Tally::default();
            let mut started = false;
            flood.run(&mut tally, |tally| {
                if !started && now_ns() >= start_ns {
                    started = true;
                    tally.start(now_ns());
                    print(&json!({"event": "measuring"}));
                }
                !is_over()
            })?;
            tally.end(now_ns());
            print(&tally.to_json());
        }
        Mode::Resets {
            connections,
            rate,
            key,
        } => {
            let flood = Resets {
                target: args.target,
                tls: client(&[b"h2"])?,
                key,
                connections,
                rate,
            };
            let done = flood.run(|_| !is_over())?;
            print(&json!({"event": "measured", "streams": done.streams, "closed": done.closed}));
        }
    }
    Ok(())
}

fn print(line: &Value) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}
