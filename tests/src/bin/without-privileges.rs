//! `without-privileges PROGRAM ARGUMENTS…`: becomes PROGRAM, as a user who may do nothing.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// `nobody`
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: without-privileges PROGRAM ARGUMENTS…");
        return ExitCode::from(64);
    };
    // By its descriptor, since the directories above it may be closed to everybody else.
    let file = File::open(&program).expect("a program");
    let error = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .args(arguments)
        .gid(NOBODY)
        .uid(NOBODY)
        .exec();
    eprintln!("without-privileges: {error}");
    ExitCode::FAILURE
}
