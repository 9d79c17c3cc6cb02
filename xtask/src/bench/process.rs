//! Processes that end with us, and what the kernel tells about them.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A program must listen within this time, and end within it when it is told to.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A program pinned to one core. Should we be killed, the kernel ends it: no destructor runs then.
pub(crate) fn pinned(core: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "taskset", "--cpu-list", core])
        .arg(program.as_ref());
    command
}

/// A server that was started; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Its standard output and error.
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        dir: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let log = dir.join("output.log");
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits for the line in which the program says where it listens.
    pub(crate) fn wait_for_address(&mut self) -> Result<String, Box<dyn Error>> {
        self.wait_for(|process| {
            let output = fs::read_to_string(&process.log).unwrap_or_default();
            output.lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let listening = line["event"] == "listening";
                listening.then(|| line["address"].as_str().map(str::to_owned))?
            })
        })
    }

    /// Waits until somebody listens at an address.
    pub(crate) fn wait_for_listener(&mut self, address: &str) -> Result<(), Box<dyn Error>> {
        self.wait_for(|_| TcpStream::connect(address).ok().map(drop))
    }

    /// Waits until it has started another process: one that listens first and starts its workers then is not ready before.
    pub(crate) fn wait_for_child(&mut self) -> Result<(), Box<dyn Error>> {
        self.wait_for(|process| (process.family().len() > 1).then_some(()))
    }

    fn wait_for<T>(
        &mut self,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        let started = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > PATIENCE {
                let output = fs::read_to_string(&self.log).unwrap_or_default();
                let what = match ended {
                    Some(status) => format!("ended at once with {status}"),
                    None => "does not listen".into(),
                };
                return Err(format!("{} {what}; it said:\n{output}", self.name).into());
            }
            thread::sleep(POLL);
        }
    }

    /// The process and those it started.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            let tasks = numbers_in(&format!("/proc/{pid}/task"));
            for task in tasks {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children"));
                let children = children.unwrap_or_default();
                family.extend(
                    children
                        .split_whitespace()
                        .filter_map(|it| it.parse::<u32>().ok()),
                );
            }
            next += 1;
        }
        family
    }

    /// Ends it and all it started, and waits until it is gone.
    pub(crate) fn end(mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.end_now()?)
    }

    fn end_now(&mut self) -> std::io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let family = self.family();
        signal(self.child.id(), Signal::TERM);
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > PATIENCE {
                eprintln!("{} does not end on SIGTERM and is killed", self.name);
                signal(self.child.id(), Signal::KILL);
                self.child.wait()?;
                break;
            }
            thread::sleep(POLL);
        }
        // What it left behind has a new parent by now.
        for pid in &family[1..] {
            signal(*pid, Signal::KILL);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end_now() {
            eprintln!("{} (process {}): {error}", self.name, self.child.id());
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in the meantime.
        let _ = kill_process(pid, signal);
    }
}

fn numbers_in(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// What the scheduler says of every thread of some processes, at one moment.
#[derive(Debug)]
pub(crate) struct CpuTime {
    at: Instant,
    by_thread: HashMap<u32, ThreadTime>,
}

/// The first two numbers of /proc/PID/schedstat.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ThreadTime {
    running_ns: u64,
    /// Ready to run while something else ran.
    waiting_ns: u64,
}

/// What was used between two moments, as shares of one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    pub(crate) running: f64,
    /// On a core of its own a process waits for next to nothing: more is the work of others.
    pub(crate) waiting: f64,
}

impl ThreadTime {
    fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat.split_whitespace().map(str::parse);
        Some(Self {
            running_ns: numbers.next()?.ok()?,
            waiting_ns: numbers.next()?.ok()?,
        })
    }
}

impl CpuTime {
    pub(crate) fn of(family: &[u32]) -> Self {
        let at = Instant::now();
        let mut by_thread = HashMap::new();
        for pid in family {
            for thread in numbers_in(&format!("/proc/{pid}/task")) {
                let path = format!("/proc/{pid}/task/{thread}/schedstat");
                let text = fs::read_to_string(path).unwrap_or_default();
                if let Some(time) = ThreadTime::parse(&text) {
                    by_thread.insert(thread, time);
                }
            }
        }
        Self { at, by_thread }
    }

    /// What was used since `earlier`.
    ///
    /// The time of threads that ended in between is lost: an error, where there were any.
    pub(crate) fn since(&self, earlier: &Self) -> Result<Usage, String> {
        let ended = earlier.by_thread.keys();
        let ended = ended.filter(|thread| !self.by_thread.contains_key(thread));
        let ended = ended.count();
        if ended > 0 {
            return Err(format!("{ended} threads ended while they were measured"));
        }
        let mut used = ThreadTime::default();
        for (thread, time) in &self.by_thread {
            let before = earlier.by_thread.get(thread).copied().unwrap_or_default();
            used.running_ns += time.running_ns - before.running_ns;
            used.waiting_ns += time.waiting_ns - before.waiting_ns;
        }
        let all_ns = self.at.duration_since(earlier.at).as_nanos() as f64;
        Ok(Usage {
            running: used.running_ns as f64 / all_ns,
            waiting: used.waiting_ns as f64 / all_ns,
        })
    }
}

/// Memory of some processes in KiB, shared pages counted by share (PSS).
pub(crate) fn pss_kib(family: &[u32]) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for pid in family {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let pss = pss.and_then(|pss| pss.split_whitespace().next());
        sum += pss.ok_or("smaps_rollup has no Pss")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Threads that may run on other cores than this one.
pub(crate) fn threads_off_core(family: &[u32], core: &str) -> usize {
    let mut off = 0;
    for pid in family {
        for thread in numbers_in(&format!("/proc/{pid}/task")) {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"));
            let status = status.unwrap_or_default();
            let mut lines = status.lines();
            let cores = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            off += usize::from(cores.is_some_and(|cores| cores.trim() != core));
        }
    }
    off
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn at(at: Instant, threads: &[(u32, u64, u64)]) -> CpuTime {
        let threads = threads.iter().map(|(thread, running_ns, waiting_ns)| {
            let time = ThreadTime {
                running_ns: *running_ns,
                waiting_ns: *waiting_ns,
            };
            (*thread, time)
        });
        CpuTime {
            at,
            by_thread: threads.collect(),
        }
    }

    #[test]
    fn cpu_is_summed_over_threads_old_and_new() {
        let start = Instant::now();
        let earlier = at(start, &[(1, 1_000, 10), (2, 0, 0)]);
        let threads = [(1, 5_000, 1_010), (2, 500, 0), (3, 500, 1_000)];
        let later = at(start + Duration::from_micros(10), &threads);
        let usage = Usage {
            running: 0.5,
            waiting: 0.2,
        };
        assert_eq!(later.since(&earlier), Ok(usage));
    }

    #[test]
    fn lost_time_is_an_error() {
        let start = Instant::now();
        let earlier = at(start, &[(1, 1_000, 0), (2, 0, 0)]);
        let later = at(start + Duration::from_micros(10), &[(1, 5_000, 0)]);
        assert!(later.since(&earlier).is_err());
    }

    #[test]
    fn a_dropped_process_is_gone_with_its_children() {
        let dir = tempdir();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "sleep 1000 & echo '{\"event\":\"listening\",\"address\":\"x\"}'; wait",
        ]);
        let mut process = Process::start("sh", &mut command, &dir).unwrap();
        assert_eq!(process.wait_for_address().unwrap(), "x");
        let family = process.family();
        assert_eq!(family.len(), 2);
        assert!(
            family
                .iter()
                .all(|pid| !CpuTime::of(&[*pid]).by_thread.is_empty())
        );
        assert!(pss_kib(&family).unwrap() > 0);
        drop(process);
        // A killed orphan is gone once its new parent has taken note.
        while family.iter().any(|pid| is_running(*pid)) {
            thread::sleep(POLL);
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_with_what_it_said() {
        let dir = tempdir();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such port >&2; exit 3"]);
        let mut process = Process::start("sh", &mut command, &dir).unwrap();
        let error = process.wait_for_address().unwrap_err().to_string();
        assert!(
            error.contains("no such port") && error.contains('3'),
            "{error}"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    fn is_running(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    fn tempdir() -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-bench-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}
