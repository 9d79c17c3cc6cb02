//! `without-io-uring PROGRAM ARGUMENTS…`: becomes PROGRAM, which then cannot use `io_uring`.
//!
//! The system calls fail with EPERM, as they do in containers whose seccomp profile leaves them out.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register` have the same numbers on every architecture.
const REFUSED: [i64; 3] = [425, 426, 427];

/// EPERM.
const NOT_PERMITTED: u32 = 1;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: without-io-uring PROGRAM ARGUMENTS…");
        return ExitCode::from(64);
    };
    let filter = filter().expect("a filter that compiles");
    seccompiler::apply_filter(&filter).expect("a kernel with seccomp");
    let error = Command::new(program).args(arguments).exec();
    eprintln!("without-io-uring: {error}");
    ExitCode::FAILURE
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<i64, Vec<_>> = REFUSED.into_iter().map(|call| (call, vec![])).collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(NOT_PERMITTED);
    SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?.try_into()
}
