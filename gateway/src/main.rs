//! Arguments, configuration, workers, wait.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
