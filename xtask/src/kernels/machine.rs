//! A virtual machine whose instructions are translated (TCG): it needs no right and no help of the processor, so that it runs
//! wherever the tests do.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Starts a kernel with its first file system, and hands over the lines of its console until it has ended.
///
/// # Errors
/// It could not be started, or runs for longer than `limit` and was ended.
pub(super) fn run(
    kernel: &Path,
    initrd: &Path,
    parameters: &[&str],
    limit: Duration,
    mut see: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    // Should we be killed, the machine ends too: no destructor runs then.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "2"])
        .args(["-m", "1024", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &command_line(parameters)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the virtual machine cannot be started: {error}"))?;
    let console = child.stdout.take().ok_or("standard output was not piped")?;
    let (line_sender, lines) = channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if line_sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let timed_out = loop {
        match lines.recv_timeout(limit.saturating_sub(began.elapsed())) {
            Ok(line) => see(&line),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if timed_out {
        child.kill()?;
    }
    let status = child.wait()?;
    reader.join().map_err(|_| "reading the console failed")?;
    if timed_out {
        return Err(format!("the machine did not end within {} s", limit.as_secs()).into());
    }
    if !status.success() {
        return Err(format!("the virtual machine ended with {status}").into());
    }
    Ok(())
}

/// A kernel that has lost its footing ends the machine and says why; otherwise the console is for the tests alone.
fn command_line(parameters: &[&str]) -> String {
    let own = [
        "console=ttyS0",
        "quiet",
        "loglevel=1",
        "oops=panic",
        "panic=-1",
    ];
    [&own, parameters].concat().join(" ")
}
