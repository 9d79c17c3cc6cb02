//! Tools that speak one protocol each, as they were told: curl, nghttp, h2load; and sslscan, which looks at what TLS is offered.

use std::process::Command;
use std::time::Duration;

use super::Cache;
use super::demo::Demo;
use super::transcript::Transcript;
use crate::Outcome;

/// None of them takes more than a few seconds.
const TOOL_LIMIT: Duration = Duration::from_secs(30);

const BODY: &str = r#"{"model":"demo","stream":true,"input":"hello"}"#;

/// A command and what its output has to say.
struct Check {
    name: &'static str,
    command: Command,
    /// All of these are there.
    wanted: Vec<String>,
    /// None of these is.
    unwanted: &'static [&'static str],
}

/// Runs all of them.
pub(super) fn run(demo: &Demo, cache: &Cache) -> Result<String, Box<dyn std::error::Error>> {
    let checks = checks(demo);
    let count = checks.len();
    for check in checks {
        check_one(check, demo, cache)?;
    }
    Ok(format!(
        "curl, nghttp, h2load, sslscan: {count} checks passed"
    ))
}

fn check_one(mut check: Check, demo: &Demo, cache: &Cache) -> Outcome {
    let file = check.name.replace([' ', '/'], "-");
    let transcript = Transcript::of(&file, &mut check.command, cache, TOOL_LIMIT)?;
    let text = &transcript.text;
    let missing = check.wanted.iter().find(|wanted| !text.contains(*wanted));
    let excess = check
        .unwanted
        .iter()
        .find(|unwanted| text.contains(**unwanted));
    let reason = match (transcript.succeeded, missing, excess) {
        (false, _, _) => "failed".to_owned(),
        (_, Some(missing), _) => format!("does not say `{missing}`"),
        (_, _, Some(excess)) => format!("says `{excess}`"),
        (true, None, None) => return Ok(()),
    };
    Err(demo.blame(&transcript, &format!("{}: {reason}", check.name)))
}

fn checks(demo: &Demo) -> Vec<Check> {
    let (plain, secure) = (&demo.base_url, &demo.secure_base_url);
    let authorization = format!("authorization: Bearer {}", demo.key);
    let mut checks = Vec::new();
    for (name, url, option, version) in [
        ("curl HTTP/2 over TLS", secure, "--http2", "2"),
        ("curl HTTP/1.1 over TLS", secure, "--http1.1", "1.1"),
        ("curl TLS 1.2", secure, "--tls-max=1.2", "2"),
        (
            "curl HTTP/2 in plain text",
            plain,
            "--http2-prior-knowledge",
            "2",
        ),
        (
            "curl that offers an upgrade to h2c",
            plain,
            "--http2",
            "1.1",
        ),
    ] {
        let mut command = Command::new("curl");
        let option = option.split('=');
        command
            .args([
                "--silent",
                "--show-error",
                "--no-buffer",
                "--max-time",
                "20",
            ])
            .args(option)
            .arg("--cacert")
            .arg(&demo.certificate.authority)
            .args([
                "--header",
                &authorization,
                "--header",
                "content-type: application/json",
            ])
            .args([
                "--data",
                BODY,
                "--write-out",
                "\nversion %{http_version} status %{http_code}\n",
            ])
            .arg(format!("{url}/responses"));
        checks.push(Check {
            name,
            command,
            wanted: vec![
                "response.completed".to_owned(),
                format!("version {version} status 200"),
            ],
            unwanted: &[],
        });
    }
    let mut nghttp = Command::new("nghttp");
    nghttp
        .args([
            "--null-out",
            "--stat",
            "--header",
            &authorization,
            "--header",
            "accept: */*",
        ])
        .arg("--multiply=20")
        .arg(format!("{secure}/models"));
    checks.push(Check {
        name: "nghttp",
        command: nghttp,
        wanted: vec![" 200 ".to_owned()],
        unwanted: &[
            " 401 ",
            " 429 ",
            " 502 ",
            "Some requests were not processed",
        ],
    });
    for (name, url) in [("h2load over TLS", secure), ("h2load in plain text", plain)] {
        let mut h2load = Command::new("h2load");
        h2load
            .args([
                "--requests=300",
                "--clients=4",
                "--max-concurrent-streams=10",
            ])
            .args(["--header", &authorization])
            .arg(format!("{url}/models"));
        checks.push(Check {
            name,
            command: h2load,
            wanted: vec![
                "Application protocol: h2".to_owned(),
                "300 succeeded, 0 failed, 0 errored, 0 timeout".to_owned(),
            ],
            unwanted: &[],
        });
    }
    let mut sslscan = Command::new("sslscan");
    sslscan.args(["--no-colour", "--no-check-certificate"]);
    sslscan.arg(
        secure
            .trim_start_matches("https://")
            .trim_end_matches("/v1"),
    );
    checks.push(Check {
        name: "sslscan",
        command: sslscan,
        wanted: vec![
            "TLSv1.3   enabled".to_owned(),
            "TLSv1.2   enabled".to_owned(),
        ],
        unwanted: &[
            "SSLv2     enabled",
            "SSLv3     enabled",
            "TLSv1.0   enabled",
            "TLSv1.1   enabled",
            "TLSv1.2 vulnerable",
            "TLSv1.3 vulnerable",
            "Insecure session renegotiation",
            "Compression enabled",
            // Suites that end like this are those with CBC.
            "-SHA ",
            "RC4",
            "NULL",
        ],
    });
    checks
}
