//! `bench-floor`: the blind TCP relay.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddrV4;

use clap::Parser;
use relay_bench::floor::Floor;

/// A blind TCP relay on one thread: the floor under the cost of any proxy
///
/// Prints {"event":"listening","address":"IP:PORT"} and relays until it is ended.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address and port; port 0 takes any
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddrV4,
    /// Where every connection goes
    #[arg(long)]
    upstream: SocketAddrV4,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let floor = Floor::new(args.listen, args.upstream)?;
    let line = serde_json::json!({"event": "listening", "address": floor.address()?});
    println!("{line}");
    std::io::stdout().flush()?;
    Ok(floor.serve()?)
}
