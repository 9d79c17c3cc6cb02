//! `bench-load`: the load generator.

use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand};
use relay_bench::clock::seconds_to_ns;
use relay_bench::load::{Load, Pace};
use relay_bench::plan::{Plan, Shape};
use relay_bench::poller::use_exact_timers;
use relay_bench::tls::{self, Resumption};
use serde_json::{Value, json};

/// Sends requests through a proxy to bench-upstream, checks every byte of the answers and measures
///
/// Prints {"event":"measuring"} when the measured time begins and {"event":"measured", …} with the result when it ends.
/// Ends with 1 if any answer was wrong or missing. A request's latency counts from the moment it was to be sent, an event's from
/// the moment the upstream sent it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// POST /v1/responses, answered with one JSON document
    Json(Json),
    /// POST /v1/responses, answered with a stream of events
    Sse(Sse),
    /// Prints the body of a request that is answered with a JSON document, for other load generators
    RequestBody {
        /// Length of the answer
        #[arg(long, default_value_t = 1_024)]
        body_bytes: u32,
    },
}

#[derive(Args)]
struct Json {
    #[command(flatten)]
    common: Common,
    /// Connections that are open at any time
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Length of the answer
    #[arg(long, default_value_t = 1_024)]
    body_bytes: u32,
    /// Requests a second over all connections, sent on time whether or not earlier ones were answered; without it, each connection
    /// sends the next request when it has the answer
    #[arg(long)]
    rate: Option<f64>,
    /// A new connection for each request
    #[arg(long)]
    fresh: bool,
}

#[derive(Args)]
struct Sse {
    #[command(flatten)]
    common: Common,
    /// Streams open at any time; one that ends is followed by the next
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Text deltas of one stream
    #[arg(long, default_value_t = 300)]
    events: u32,
    /// Length of the data of one text delta
    #[arg(long, default_value_t = 200)]
    payload_bytes: u32,
    /// Events a second of one stream; 0 is as fast as they can be sent
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
}

#[derive(Args)]
struct Common {
    /// The proxy
    #[arg(long)]
    target: SocketAddrV4,
    /// Speak TLS with a server whose certificate is of the authority in this file
    #[arg(long, value_name = "CA_FILE")]
    tls: Option<PathBuf>,
    /// The tenant's key, sent as X-API-Key
    #[arg(long)]
    key: Option<String>,
    /// Seconds that are not measured, before the window
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// After the window go on until standard input ends, so that the proxy can be looked at under load
    #[arg(long)]
    hold: bool,
}

fn main() -> ExitCode {
    let run = match Cli::parse().mode {
        Mode::Json(json) => json.run(),
        Mode::Sse(sse) => sse.run(),
        Mode::RequestBody { body_bytes } => {
            let shape = Shape::Json { body_bytes };
            let body = Plan { id: 1, shape }.request_body();
            std::io::stdout()
                .write_all(&body)
                .map(|()| None)
                .map_err(|error| error.to_string())
        }
    };
    match run {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(error)) | Err(error) => {
            eprintln!("bench-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_load(load: &Load, hold: bool) -> Result<Option<String>, String> {
    use_exact_timers().map_err(|error| format!("timers: {error}"))?;
    let released = Arc::new(AtomicBool::new(!hold));
    let release = Arc::clone(&released);
    let tally = load.run(
        || print(&json!({"event": "measuring"})),
        |tally| {
            print(&tally.to_json());
            if hold {
                // Begun only now: a thread beside the loop would be measured with it.
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                    release.store(true, Ordering::Relaxed);
                });
            }
        },
        || !released.load(Ordering::Relaxed),
    )?;
    Ok(tally
        .first_error()
        .map(|first| format!("{} errors, the first: {first}", tally.errors())))
}

fn print(line: &Value) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

impl Json {
    fn run(self) -> Result<Option<String>, String> {
        let shape = Shape::Json {
            body_bytes: self.body_bytes,
        };
        let pace = self
            .rate
            .map_or(Pace::Saturated, |rate| Pace::Open { rate });
        let load = Load {
            fresh: self.fresh,
            ..self.common.load(self.connections, shape, pace)?
        };
        run_load(&load, self.common.hold)
    }
}

impl Sse {
    fn run(self) -> Result<Option<String>, String> {
        let shape = Shape::Sse {
            deltas: self.events,
            payload_bytes: self.payload_bytes,
            millirate: (self.rate * 1_000.0) as u32,
        };
        let load = self.common.load(self.streams, shape, Pace::Saturated)?;
        run_load(&load, self.common.hold)
    }
}

impl Common {
    fn load(&self, connections: usize, shape: Shape, pace: Pace) -> Result<Load, String> {
        let client = |ca: &PathBuf| {
            let alpn: [&[u8]; 1] = [b"http/1.1"];
            tls::client(ca, &alpn, Resumption::Used)
                .map_err(|error| format!("{}: {error}", ca.display()))
        };
        Ok(Load {
            target: self.target,
            tls: self.tls.as_ref().map(client).transpose()?,
            key: self.key.clone(),
            connections,
            fresh: false,
            shape,
            pace,
            warmup_ns: seconds_to_ns(self.warmup),
            window_ns: seconds_to_ns(self.seconds),
        })
    }
}
