//! The gateway as a process.

use crate::client::{RawClient, Response};
use crate::config::Config;
use crate::log::{Line, Log};
use crate::request::HOST;
use crate::signal::{DEADLINE, eventually};
use crate::tls::TlsClient;
use crate::{admin, binary, process};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// A process that was started; killed when it goes out of scope.
#[derive(Debug)]
pub struct Started {
    child: Child,
    directory: TempDir,
    output: Log,
    errors: Log,
}

/// How the gateway is started.
#[derive(Clone, Default)]
pub struct Launch {
    wrapper: Option<PathBuf>,
    environment: Vec<(String, String)>,
    prepare: Option<fn(&Path)>,
}

impl Launch {
    /// As an operator would.
    pub fn new() -> Self {
        Self::default()
    }

    /// Under a program that becomes the one named by its arguments.
    pub fn under(mut self, wrapper: &str) -> Self {
        self.wrapper = Some(PathBuf::from(wrapper));
        self
    }

    /// With this environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With more in the directory of the configuration file.
    pub fn prepare(mut self, prepare: fn(&Path)) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// `codex-relay run -c FILE`, where the file holds `config`.
    pub fn run(&self, config: &Config) -> Started {
        self.start(&["run"], |directory| config.write(directory))
    }

    /// `codex-relay check-config -c FILE`, where the file holds `config`.
    pub fn check(&self, config: &Config) -> Started {
        self.start(&["check-config"], |directory| config.write(directory))
    }

    /// `codex-relay ARGUMENTS -c FILE`, where there is no such file.
    pub fn without_file(&self, arguments: &[&str]) -> Started {
        self.start(arguments, |_| {})
    }

    /// `codex-relay ARGUMENTS -c FILE`, where the file holds this text.
    pub fn with_text(&self, arguments: &[&str], text: &str) -> Started {
        let write = |directory: &Path| {
            std::fs::write(directory.join("codex-relay.toml"), text).expect("a writable directory");
        };
        self.start(arguments, write)
    }

    /// `codex-relay ARGUMENTS`, which needs no file.
    pub fn alone(&self, arguments: &[&str]) -> Started {
        let directory = tempfile::tempdir().expect("a temporary directory");
        self.spawn(arguments, directory, false)
    }

    fn start(&self, arguments: &[&str], write: impl FnOnce(&Path)) -> Started {
        let directory = tempfile::tempdir().expect("a temporary directory");
        write(directory.path());
        if let Some(prepare) = self.prepare {
            prepare(directory.path());
        }
        self.spawn(arguments, directory, true)
    }

    fn spawn(&self, arguments: &[&str], directory: TempDir, has_file: bool) -> Started {
        let mut command = match &self.wrapper {
            None => Command::new(binary::path()),
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.arg(binary::path());
                command
            }
        };
        command.args(arguments);
        if has_file {
            command
                .arg("-c")
                .arg(directory.path().join("codex-relay.toml"));
        }
        command
            .envs(self.environment.iter().cloned())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("a gateway that can be started");
        let output = Log::collect(child.stdout.take().expect("a pipe"));
        let errors = Log::collect(child.stderr.take().expect("a pipe"));
        Started {
            child,
            directory,
            output,
            errors,
        }
    }

    /// Starts the gateway and waits until it serves.
    pub fn gateway(&self, config: &Config) -> Gateway {
        Gateway::over(self.run(config))
    }
}

impl Started {
    /// Standard output so far.
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// Standard error so far.
    pub fn errors(&self) -> &Log {
        &self.errors
    }

    /// Where its configuration file is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits for the end of the process; both outputs are complete then.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`].
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = eventually("end of the process", || {
            self.child.try_wait().expect("a child of ours")
        });
        self.output.wait_over();
        self.errors.wait_over();
        status
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None`: a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Finished {
    fn of(arguments: &[&str], directory: &Path) -> Self {
        let mut command = Command::new(binary::path());
        command
            .args(arguments)
            .arg("-c")
            .arg(directory.join("codex-relay.toml"))
            .current_dir(directory)
            .stdin(Stdio::null());
        let output = command.output().expect("a command that can be started");
        let text = |bytes| String::from_utf8(bytes).expect("text in UTF-8");
        Self {
            code: output.status.code(),
            output: text(output.stdout),
            errors: text(output.stderr),
        }
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stdout of the gateway\n{}", tail(&self.output.text()));
            eprintln!("--- stderr of the gateway\n{}", tail(&self.errors.text()));
        }
    }
}

fn tail(text: &str) -> &str {
    let cut = text
        .char_indices()
        .rev()
        .nth(20_000)
        .map_or(0, |(index, _)| index);
    &text[cut..]
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    started: Started,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway and waits until it serves.
    pub fn start(config: &Config) -> Self {
        Launch::new().gateway(config)
    }

    fn over(started: Started) -> Self {
        // An early end shows in standard error: it is in the message when `ready` never comes.
        started.output.wait_event("ready");
        let address = |line: &Line| {
            let address = line.json["address"]
                .as_str()
                .and_then(|address| address.parse().ok());
            address.unwrap_or_else(|| panic!("no address in {}", line.text))
        };
        let of = |event: &str| -> Vec<SocketAddr> {
            let lines = started.output.lines();
            lines
                .iter()
                .filter(|line| line.event() == event)
                .map(address)
                .collect()
        };
        let addresses = of("listening");
        let admin = of("admin")
            .first()
            .copied()
            .expect("a line that names the admin address");
        Self {
            started,
            addresses,
            admin,
        }
    }

    /// Where tenants connect: the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All listeners.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// A new client connection.
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    /// A new client connection over TLS, to [`HOST`].
    ///
    /// # Panics
    /// If the handshake fails.
    pub fn secure_client(&self, client: &TlsClient) -> RawClient {
        let wire = client.connect(self.address(), HOST);
        RawClient::over(wire.unwrap_or_else(|error| panic!("handshake: {error}")))
    }

    /// One request on a connection of its own.
    pub fn call(&self, request: &crate::Request) -> Response {
        self.client().call(request)
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.started.output
    }

    /// Standard error.
    pub fn errors(&self) -> &Log {
        &self.started.errors
    }

    /// The log line of the request with this id, once it is there.
    pub fn logged(&self, id: &str) -> Value {
        self.log().wait_request(id)
    }

    /// GET on the admin API.
    pub fn admin(&self, path: &str) -> Response {
        admin::get(self.admin, path)
    }

    /// The sum of all samples of a metric whose labels contain every one of `labels` (`name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = self.admin("/metrics");
        let text = String::from_utf8(answer.payload).expect("metrics in UTF-8");
        admin::metric(&text, name, labels)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.started.pid()
    }

    /// `codex-relay ARGUMENTS -c FILE` with this gateway's file, to its end.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        Finished::of(arguments, self.directory())
    }

    /// Has it write to its state once, by orders to this account: the database takes its memory and its descriptors with the
    /// first write, which is not what a test wants to measure.
    ///
    /// # Panics
    /// If an order is not obeyed, or not saved.
    pub fn write_state(&self, account: &str) {
        let admin = self.admin.to_string();
        for order in ["drain", "enable"] {
            let done = self.command(&["accounts", order, account, "--admin", &admin]);
            assert_eq!((done.code, done.errors.as_str()), (Some(0), ""), "{order}");
        }
    }

    /// Capabilities that its threads have or could take, as sets of bits.
    pub fn capabilities(&self) -> Vec<u64> {
        process::capabilities(self.started.pid())
    }

    /// Open file descriptors.
    pub fn open_fds(&self) -> usize {
        self.open_files().len()
    }

    /// What the open file descriptors refer to.
    pub fn open_files(&self) -> Vec<String> {
        process::open_files(self.started.pid())
    }

    /// Memory of its own, without that of mapped files.
    pub fn anonymous_bytes(&self) -> u64 {
        process::anonymous_bytes(self.started.pid())
    }

    /// Threads.
    pub fn threads(&self) -> u64 {
        process::threads(self.started.pid())
    }

    /// Its arguments, as others on the host see them.
    pub fn command_line(&self) -> String {
        process::command_line(self.started.pid())
    }

    /// Would a crash write its memory to a file?
    pub fn may_dump_core(&self) -> bool {
        process::may_dump_core(self.started.pid())
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.started.directory()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        let pid = i32::try_from(self.started.pid())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("a child of ours");
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.started.wait_exit()
    }

    /// Asks it to end and checks that it does so in order.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`], or not with 0.
    pub fn stop(mut self) {
        self.terminate();
        let status = self.wait_exit();
        assert!(
            status.success(),
            "ended with {status} after SIGTERM ({DEADLINE:?})"
        );
    }
}
