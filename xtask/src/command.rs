//! Running other programs: each is shown before it runs, and a failure names it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Runs a program with our own standard streams.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("`{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}`: {status}").into())
    }
}

/// Runs a program and gives back what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let line = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{line}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{line}`: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a program whose standard output is passed on line by line and shown to `see` as well.
pub(crate) fn run_seeing(command: &mut Command, mut see: impl FnMut(&str)) -> Outcome {
    let line = shown(command);
    eprintln!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{line}`: {error}"))?;
    let stdout = child.stdout.take().ok_or("standard output was not piped")?;
    for text in BufReader::new(stdout).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        println!("{text}");
        see(&text);
    }
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}`: {status}").into())
    }
}

/// Does the program start, and end well? Its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Like [`run`], but a program that takes longer than `limit` is ended and counts as failed.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Outcome {
    let line = shown(command);
    eprintln!("$ {line}");
    let started = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("`{line}`: {error}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("`{line}`: {status}").into())
            };
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(format!("`{line}`: took longer than {} s", limit.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
