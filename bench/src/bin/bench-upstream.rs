//! `bench-upstream`: a provider that answers as each request's plan says.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use clap::Parser;
use relay_bench::poller::use_exact_timers;
use relay_bench::tls;
use relay_bench::upstream::Upstream;

/// A lean provider on one thread: JSON of a given size, or SSE at a given pace
///
/// What it answers, bench-load asks for in the body of its requests. A request that did not arrive as it was sent is
/// answered with 400. Prints {"event":"listening","address":"IP:PORT"} and serves until it is ended.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address and port; port 0 takes any
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddrV4,
    /// Speak TLS, with a certificate that is made anew and written to this directory: ca.pem, server.pem, server.key
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    use_exact_timers()?;
    let tls = args.tls.as_deref().map(tls::make_server).transpose()?;
    let upstream = Upstream::new(args.listen, tls)?;
    let line = serde_json::json!({"event": "listening", "address": upstream.address()?});
    println!("{line}");
    std::io::stdout().flush()?;
    Ok(upstream.serve()?)
}
