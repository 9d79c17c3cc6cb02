//! The command line: what was asked for, and the exit code that tells how it went.

mod accounts;
mod admin;
mod audit;
mod csv;
mod egress;
mod kept;
mod kernel;
mod output;
mod table;
mod times;
mod usage;

use clap::{Parser, Subcommand};
use codex_relay::config::{self, ConfigErrors, Loaded, Policy};
use codex_relay::state::{READER_SUBCOMMAND, Reader, read_for_parent};
use codex_relay::{demo, keys};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zeroize::Zeroizing;

// Exit codes of sysexits.h.
const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
const EX_NOINPUT: u8 = 66;
const EX_OSERR: u8 = 71;
const EX_IOERR: u8 = 74;
const EX_CONFIG: u8 = 78;

/// More than any header field could carry.
const KEY_BYTES_MAX: usize = 16 << 10;

/// A gateway that tenants call as if it were the LLM provider.
#[derive(Parser)]
#[command(name = "codex-relay", version, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Check the configuration and exit, like `check-config`
    #[arg(short = 't', requires = "config")]
    test: bool,
    /// The configuration file
    #[arg(short = 'c', long, value_name = "FILE", requires = "test")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve
    Run {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check the configuration and the credentials that it names, and show everything that is wrong
    CheckConfig {
        /// The configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Make and hash tenant keys
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// The operator's accounts in a running gateway
    Accounts {
        #[command(subcommand)]
        command: accounts::Accounts,
    },
    /// Where connections to providers leave from
    Egress {
        #[command(subcommand)]
        command: egress::Egress,
    },
    /// What is kept of each request, of a gateway that runs or does not
    Audit {
        #[command(subcommand)]
        command: audit::Audit,
    },
    /// What tenants have used, by tenant, key, model and day; of a gateway that runs or does not
    Usage(usage::Options),
    /// What the kernel enforces
    Kernel {
        #[command(subcommand)]
        command: kernel::Kernel,
    },
    /// Serve a scripted provider on this host, without configuration, network or privileges
    Demo {
        /// Port of the gateway on loopback; without it 8787, or any free one while that is taken
        #[arg(long)]
        port: Option<u16>,
        /// Certificate of localhost, in PEM: the gateway listens with TLS, too
        #[arg(long, requires = "certificate_key")]
        certificate: Option<PathBuf>,
        /// Its private key
        #[arg(long, requires = "certificate")]
        certificate_key: Option<PathBuf>,
    },
    /// Read the database of accounts' state for a gateway that starts
    #[command(name = READER_SUBCOMMAND, hide = true)]
    ReadState {
        /// The database
        directory: PathBuf,
    },
}

/// Whatever has become of the file that it was started from.
const THIS_PROGRAM: &str = "/proc/self/exe";

#[derive(Subcommand)]
enum Keys {
    /// Print a fresh key, which is not kept anywhere, and its entry for the configuration
    New,
    /// Read a key from standard input and print its entry for the configuration
    Hash,
}

/// The node that is meant.
#[derive(clap::Args)]
struct Place {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Place {
    /// What the file says. Credentials that are in the environment of the gateway need not be in that of the operator.
    fn policy(&self) -> Result<Policy, ExitCode> {
        let text = std::fs::read_to_string(&self.config).map_err(|error| {
            eprintln!("{}: {error}", self.config.display());
            ExitCode::from(EX_CONFIG)
        })?;
        let environment = |name: &str| {
            let set = std::env::var_os(name);
            Some(set.unwrap_or_else(|| "not-needed-here".into()))
        };
        config::parse(&text, &self.config, &environment)
            .map(|loaded| loaded.policy)
            .map_err(|errors| refuse(&self.config, &errors))
    }
}

/// Does what the arguments ask for.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            // There is nowhere left to say that it could not be said.
            let _ = error.print();
            return code.into();
        }
    };
    match (arguments.command, arguments.config) {
        (None, Some(config)) => check_config(&config),
        // `arg_required_else_help` and `requires` leave no such case.
        (None, None) => EX_USAGE.into(),
        (Some(Command::CheckConfig { config }), _) => check_config(&config),
        (Some(Command::Run { config }), _) => match config::load(&config) {
            Ok(Loaded { policy, warnings }) => {
                codex_relay::run(policy, &warnings, Reader::Child(THIS_PROGRAM.into()))
            }
            Err(errors) => refuse(&config, &errors),
        },
        (Some(Command::Schema), _) => print(format!("{:#}\n", config::schema()).as_bytes()),
        (Some(Command::Keys { command: Keys::New }), _) => new_key(),
        (
            Some(Command::Keys {
                command: Keys::Hash,
            }),
            _,
        ) => hash_key(),
        (Some(Command::Accounts { command }), _) => accounts::run(command),
        (Some(Command::Egress { command }), _) => egress::run(command),
        (Some(Command::Audit { command }), _) => audit::run(&command),
        (Some(Command::Usage(options)), _) => usage::run(&options),
        (Some(Command::Kernel { command }), _) => kernel::run(&command),
        (Some(Command::ReadState { directory }), _) => read_for_parent(&directory),
        (
            Some(Command::Demo {
                port,
                certificate,
                certificate_key,
            }),
            _,
        ) => demo::run(&demo::Options {
            port,
            certificate: certificate.zip(certificate_key),
        }),
    }
}

fn check_config(path: &Path) -> ExitCode {
    let Loaded { policy, warnings } = match config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(path, &errors),
    };
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let parts = [
        count(policy.listeners.len(), "listener"),
        count(policy.upstreams.len(), "upstream"),
        count(policy.accounts.len(), "account"),
        count(policy.tenants.len(), "tenant"),
    ];
    let path = path.display();
    print(format!("{path}: configuration is fine: {}\n", parts.join(", ")).as_bytes())
}

fn refuse(path: &Path, errors: &ConfigErrors) -> ExitCode {
    eprintln!(
        "{errors}\n{}: {}",
        path.display(),
        count(errors.problems.len(), "error")
    );
    EX_CONFIG.into()
}

fn count(number: usize, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}

fn new_key() -> ExitCode {
    let key = match keys::generate() {
        Ok(key) => key,
        Err(error) => {
            eprintln!("no key was made: the system gives no random numbers: {error}");
            return EX_OSERR.into();
        }
    };
    eprintln!("This key is shown once. Give it to the tenant; put the second line under `keys`.");
    let mut lines = Zeroizing::new(Vec::with_capacity(256));
    lines.extend_from_slice(key.expose());
    lines.extend_from_slice(format!("\n{}\n", keys::entry(key.expose())).as_bytes());
    print(&lines)
}

fn hash_key() -> ExitCode {
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX + 1));
    if let Err(error) = io::stdin()
        .take(KEY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut key)
    {
        eprintln!("no key could be read: {error}");
        return EX_IOERR.into();
    }
    let end = key
        .strip_suffix(b"\r\n")
        .or_else(|| key.strip_suffix(b"\n"))
        .unwrap_or(&key);
    let fault = match end {
        [] => "there is no key on standard input",
        _ if end.len() > KEY_BYTES_MAX => "this is too long for a key",
        _ if end.contains(&b'\n') => "expected one key, found more than one line",
        _ if !end.iter().all(u8::is_ascii_graphic) => {
            "a key is sent in a header field: it must be visible ASCII without blanks"
        }
        _ => return print(format!("{}\n", keys::entry(end)).as_bytes()),
    };
    eprintln!("{fault}");
    EX_DATAERR.into()
}

/// What somebody has written may be meant for a terminal rather than for whoever sits there.
fn printable(text: &str) -> String {
    let replaced = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(replaced).collect()
}

/// To standard output; a reader that has gone away (`| head`) is a failure, not a panic.
fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => EX_IOERR.into(),
    }
}
