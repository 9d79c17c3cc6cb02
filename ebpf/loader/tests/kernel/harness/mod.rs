//! Each scenario runs in a process of its own, with a network, a mount table, a cgroup, a bpffs and a temporary directory of
//! its own, so that scenarios run side by side and whatever one leaves behind goes with it.
//!
//! The test function runs twice: in the test program it starts itself again and waits; in the process started so it is the
//! scenario. A scenario may start further processes of itself, which play a named role beside it.

pub(crate) mod diag;
pub(crate) mod link;
pub(crate) mod pins;
pub(crate) mod socket;

use relay_ebpf::{Kernel, Places, Plan};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the role of a process that the harness has started.
const ROLE: &str = "RELAY_KERNEL_TEST_ROLE";
const CGROUP: &str = "RELAY_KERNEL_TEST_CGROUP";
const DIRECTORY: &str = "RELAY_KERNEL_TEST_DIRECTORY";

/// Names of the scenarios' groups begin so; the number of the test program follows.
const GROUP_PREFIX: &str = "relay-test-";

/// How much is done: on a machine that is emulated, where it is "small", everything takes some twenty times as long.
const SCALE: &str = "RELAY_KERNEL_SUITE_SCALE";

/// What is done a hundred times is then done five times.
const SMALL_DIVISOR: usize = 20;

/// The role of the process that is the scenario itself.
const MAIN: &str = "main";

/// Marks what a process tells the one that has started it, among what libtest prints.
const MARK: &str = "@@ ";

/// A scenario that has not ended by then hangs, even on an emulated machine.
const SCENARIO_LIMIT: Duration = Duration::from_secs(900);

/// A condition that is not met by then never will be.
const CONDITION_LIMIT: Duration = Duration::from_secs(60);

/// How long the kernel side trusts its counts in scenarios that are not about the lease.
const LEASE: Duration = Duration::from_secs(3_600);

/// Runs `body` as a scenario. `test` is the full name of the test that calls this.
///
/// # Panics
/// If the scenario has failed, hung, or is not the test of that name.
pub(crate) fn scenario(test: &'static str, body: impl FnOnce(&Stage)) {
    if let Ok(role) = std::env::var(ROLE) {
        let stage = Stage::of_this_process(test, role);
        std::thread::spawn(|| {
            std::thread::sleep(SCENARIO_LIMIT);
            eprintln!("not done after {SCENARIO_LIMIT:?}");
            std::process::abort();
        });
        if stage.role == MAIN {
            stage.furnish();
        }
        body(&stage);
        stage.say("done");
        return;
    }
    match lacking() {
        Some(lacking) => note(&format!("SKIPPED: {test}: {lacking}")),
        None => run_apart(test),
    }
}

/// How often to do what is done `count` times where there is time.
pub(crate) fn scaled(count: usize) -> usize {
    match std::env::var_os(SCALE) {
        Some(scale) if scale == "small" => count.div_ceil(SMALL_DIVISOR),
        _ => count,
    }
}

/// Writes a line that is seen even of a test that passes.
pub(crate) fn note(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads it any more: then nobody misses it.
    let _ = writeln!(out, "{line}");
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within the limit.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < CONDITION_LIMIT,
            "not within {CONDITION_LIMIT:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What this process lacks to run scenarios at all.
fn lacking() -> Option<String> {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let effective = effective_capabilities();
    for (name, bit) in [
        ("CAP_SYS_ADMIN", CAP_SYS_ADMIN),
        ("CAP_NET_ADMIN", CAP_NET_ADMIN),
        ("CAP_BPF", CAP_BPF),
        ("CAP_PERFMON", CAP_PERFMON),
    ] {
        if effective & (1 << bit) == 0 {
            return Some(format!("needs root ({name} is missing)"));
        }
    }
    cgroup_of_this_process()
        .is_none()
        .then(|| "no cgroup2 is mounted".to_owned())
}

/// Capabilities of this thread, as a set of bits.
pub(crate) fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("status of this thread");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("effective capabilities");
    u64::from_str_radix(line.trim(), 16).expect("a set of bits")
}

/// The directory of the cgroup (v2) that this process is in.
pub(crate) fn cgroup_of_this_process() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(root.join(own))
}

/// Starts this program again for one test, in namespaces of its own, and waits for it.
fn run_apart(test: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let group = Group::below_own(test);
    let output = directory.path().join("output");
    let file = File::create(&output).expect("a file for the output");
    let mut command = Command::new(std::env::current_exe().expect("the test program"));
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, MAIN)
        .env(CGROUP, &group.path)
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("the same file"))
        .stderr(file);
    // SAFETY: `enter_namespaces` makes system calls only and allocates nothing, as must be between fork and exec.
    unsafe { command.pre_exec(enter_namespaces) };
    let status = command.status().expect("the test program starts");
    drop(group);
    let output = fs::read(&output).expect("the output");
    let output = String::from_utf8_lossy(&output);
    let done = format!("{MARK}done");
    let is_done = output.lines().any(|line| line == done);
    for line in output.lines().filter(|line| is_figure(line)) {
        note(line);
    }
    assert!(
        status.success() && is_done,
        "{test}: {status}\n--- its output\n{output}---"
    );
}

/// Lines of a scenario that are worth reading even if it has passed.
fn is_figure(line: &str) -> bool {
    line.starts_with("FIGURE: ") || line.starts_with("SKIPPED: ")
}

fn enter_namespaces() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: the process has this one thread, and no memory or descriptor is shared with it afterwards.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    Ok(())
}

fn die_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// A cgroup that is removed at the end, with whatever still runs in it.
struct Group {
    path: PathBuf,
}

impl Group {
    fn below_own(test: &str) -> Self {
        let own = cgroup_of_this_process().expect("a cgroup");
        remove_left_behind(&own);
        let name = test.replace("::", "-");
        let path = own.join(format!("{GROUP_PREFIX}{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup for the scenario");
        Self { path }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that the scenario has removed itself is as good.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let began = Instant::now();
        while self.path.exists() && remove_groups(&self.path).is_err() {
            if began.elapsed() > CONDITION_LIMIT {
                note(&format!("{} could not be removed", self.path.display()));
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Removes groups of test programs that were killed. What ran in them died with these.
fn remove_left_behind(own: &Path) {
    for entry in fs::read_dir(own).expect("the groups").flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let (number, _) = name.strip_prefix(GROUP_PREFIX)?.split_once('-')?;
            number.parse::<u32>().ok()
        });
        if number.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists()) {
            // Another test program may be faster.
            let _ = remove_groups(&entry.path());
        }
    }
}

/// Removes a group with those below it. The files in it are no files.
fn remove_groups(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let below = entry?.path();
        if below.is_dir() {
            remove_groups(&below)?;
        }
    }
    fs::remove_dir(path)
}

/// A process of a scenario, and where it runs.
#[derive(Clone)]
pub(crate) struct Stage {
    test: &'static str,
    role: String,
    cgroup: PathBuf,
    directory: PathBuf,
}

impl Stage {
    fn of_this_process(test: &'static str, role: String) -> Self {
        let path = |name| PathBuf::from(std::env::var_os(name).expect("set by the harness"));
        Self {
            test,
            role,
            cgroup: path(CGROUP),
            directory: path(DIRECTORY),
        }
    }

    /// A bpffs and a loopback interface for the new namespaces.
    fn furnish(&self) {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("mounts of its own");
        let bpffs = self.bpffs();
        fs::create_dir(&bpffs).expect("a directory for the bpffs");
        mount("bpf", &bpffs, "bpf", MountFlags::empty(), None).expect("a bpffs");
        link::set_up("lo");
    }

    fn bpffs(&self) -> PathBuf {
        self.directory.join("bpf")
    }

    /// `None` for the scenario itself.
    pub(crate) fn role(&self) -> Option<&str> {
        (self.role != MAIN).then_some(self.role.as_str())
    }

    /// Where the scenario's programs are attached and pinned.
    pub(crate) fn places(&self) -> Places {
        Places {
            cgroup: Some(self.cgroup.clone()),
            pins: self.bpffs().join("pins"),
        }
    }

    /// The scenario's cgroup.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The kernel side of the plan, with every part, and trusted for long.
    pub(crate) fn establish(&self, plan: &Plan) -> Kernel {
        let kernel = Kernel::establish(&self.places(), plan).expect("the programs");
        assert_eq!(kernel.missing(), [], "everything is to be had here");
        kernel.live().renew_lease(LEASE);
        kernel
    }

    /// Starts a process of the same scenario in the namespaces and in the cgroup of this one.
    pub(crate) fn start(&self, role: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("the test program"));
        command
            .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: `die_with_parent` makes one system call and allocates nothing, as must be between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        let mut child = command.spawn().expect("the test program starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Process {
            child,
            input,
            output,
        }
    }

    /// Tells the process that has started this one.
    pub(crate) fn say(&self, message: &str) {
        // libtest leaves its own line about the test open.
        note(&format!("\n{MARK}{message}"));
    }

    /// The next line of the process that has started this one; empty once that has ended.
    pub(crate) fn hear(&self) -> String {
        let mut line = String::new();
        io::stdin().read_line(&mut line).expect("standard input");
        line.trim_end().to_owned()
    }

    /// Says a figure for the record.
    pub(crate) fn figure(&self, figure: &str) {
        note(&format!("\nFIGURE: {}: {figure}", self.test));
    }

    /// Says why a part of the scenario cannot run here.
    pub(crate) fn skip(&self, why: &str) {
        note(&format!("\nSKIPPED: {}: {why}", self.test));
    }
}

/// A process started beside a scenario. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// The next message.
    ///
    /// # Panics
    /// If the process ends without one.
    pub(crate) fn hear(&mut self) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let bytes = self.output.read_line(&mut line).expect("its output");
            assert_ne!(bytes, 0, "the process has ended; it wrote:\n{seen}");
            if let Some(message) = line.strip_prefix(MARK) {
                return message.trim_end().to_owned();
            }
            seen.push_str(&line);
        }
    }

    /// Says a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("its standard input");
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it has failed.
    pub(crate) fn finish(mut self) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        let status = self.child.wait().expect("it has ended");
        assert!(status.success(), "{status}\n{rest}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
