//! Arguments → configuration → sockets → workers → wait.

use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args().last().unwrap_or_default();
    match codex_relay::config::load(std::path::Path::new(&path)) {
        Ok(loaded) => codex_relay::run(loaded.policy, &loaded.warnings),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(78)
        }
    }
}
