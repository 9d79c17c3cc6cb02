//! Tasks of the repository, one file per verb: `cargo xtask VERB`.

use std::error::Error;
use std::process::ExitCode;

mod bench;
mod ci;
mod clients;
mod command;
mod ebpf;
mod kernels;
mod tools;
mod workspace;

/// What a task returns: nothing, or why it could not be done.
type Outcome = Result<(), Box<dyn Error>>;

struct Verb {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "ci",
        about: "format, lints, dependency rules, build, all tests, also under Linux 6.1, SDK clients",
        run: ci::run,
    },
    Verb {
        name: "clients",
        about: "real clients against `codex-relay demo`: openai-python, openai-node, curl, nghttp, h2load, Codex CLI\n\
                --sdks-only  leave out Codex CLI",
        run: clients::run,
    },
    Verb {
        name: "ebpf",
        about: "the kernel programs, built into the object that the gateway carries\n\
                --check  only compare it with a build",
        run: ebpf::run,
    },
    Verb {
        name: "kernels",
        about: "the suites of the kernel programs under Debian's 6.1 in a virtual machine; --help",
        run: kernels::run,
    },
    Verb {
        name: "bench",
        about: "CPU per request and per event of the gateway, nginx, HAProxy and a blind relay",
        run: bench::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        eprint!("xtask: there is no verb `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (verb.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask VERB [OPTIONS]\n\n");
    for verb in VERBS {
        let mut lines = verb.about.lines();
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("  {:<9} {first}\n", verb.name));
        for line in lines {
            text.push_str(&format!("  {:<9}   {line}\n", ""));
        }
    }
    text
}
