//! Turns of Codex CLI: `codex exec` with a provider that is the gateway.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::demo::Demo;
use super::transcript::Transcript;
use super::{Cache, packages};

/// Longer than the pauses between the client's own retries together.
const TURN_LIMIT: Duration = Duration::from_secs(120);

/// The model answers this with a call of the shell tool. The shell must have calculated for the sum to come back.
const PROMPT: &str = "run: echo relay-tool-$((40+2))";
const PRINTED: &str = "relay-tool-42";

/// One run of `codex exec`.
pub(super) struct Turn {
    pub(super) name: &'static str,
    model: &'static str,
    credential: Credential,
    /// It opens a WebSocket instead of sending POST.
    by_websocket: bool,
    /// It goes over TLS, and so by HTTP/2 where it sends POST.
    secure: bool,
    ending: Ending,
}

/// How the client is told its key.
enum Credential {
    /// `env_key`: sent as `Authorization: Bearer`.
    Bearer,
    /// `http_headers`: sent as `X-API-Key`, alone.
    ApiKeyHeader,
    /// A key that nobody has given out.
    Wrong,
}

enum Ending {
    /// The command has run and its output has come back in the last message.
    ToolUsed,
    /// The turn has failed with a message that says this.
    Failed(&'static str),
}

/// What is run.
pub(super) const TURNS: &[Turn] = &[
    Turn {
        name: "tool call",
        model: "demo",
        credential: Credential::Bearer,
        by_websocket: false,
        secure: false,
        ending: Ending::ToolUsed,
    },
    Turn {
        name: "tool call with X-API-Key",
        model: "demo",
        credential: Credential::ApiKeyHeader,
        by_websocket: false,
        secure: false,
        ending: Ending::ToolUsed,
    },
    Turn {
        name: "tool call over WebSocket",
        model: "demo",
        credential: Credential::Bearer,
        by_websocket: true,
        secure: false,
        ending: Ending::ToolUsed,
    },
    Turn {
        name: "tool call over TLS and HTTP/2",
        model: "demo",
        credential: Credential::Bearer,
        by_websocket: false,
        secure: true,
        ending: Ending::ToolUsed,
    },
    Turn {
        name: "tool call over TLS and WebSocket",
        model: "demo",
        credential: Credential::Bearer,
        by_websocket: true,
        secure: true,
        ending: Ending::ToolUsed,
    },
    Turn {
        name: "broken stream over TLS and HTTP/2",
        model: "demo-break",
        credential: Credential::Bearer,
        by_websocket: false,
        secure: true,
        ending: Ending::Failed("stream disconnected before completion"),
    },
    Turn {
        name: "broken stream",
        model: "demo-break",
        credential: Credential::Bearer,
        by_websocket: false,
        secure: false,
        ending: Ending::Failed("stream disconnected before completion"),
    },
    Turn {
        name: "wrong key",
        model: "demo",
        credential: Credential::Wrong,
        by_websocket: false,
        secure: false,
        ending: Ending::Failed("401 Unauthorized"),
    },
];

/// Runs the turn in an empty directory with a home of its own.
pub(super) fn run(turn: &Turn, demo: &Demo, cache: &Cache) -> Result<Transcript, Box<dyn Error>> {
    let home = cache.dir.join("codex-home");
    let work = cache.dir.join("codex-work");
    for dir in [&home, &work] {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(home.join("config.toml"), config(turn, demo))?;
    let key = if matches!(turn.credential, Credential::Wrong) {
        "not-a-key"
    } else {
        &demo.key
    };
    let mut client = Command::new(cache.program("node"));
    client
        .arg(
            cache
                .codex()
                .join("node_modules/@openai/codex/bin/codex.js"),
        )
        .args(["exec", "--json", "--skip-git-repo-check"])
        // The sandbox needs namespaces that containers seldom allow; the command comes from our own script.
        .args(["--dangerously-bypass-approvals-and-sandbox", PROMPT])
        .current_dir(&work)
        .env("CODEX_HOME", &home)
        .env("GW_KEY", key)
        .env("CODEX_CA_CERTIFICATE", &demo.certificate.authority)
        .env("PATH", packages::path_with(&cache.dir.join("venv/bin"))?);
    Transcript::of("codex", &mut client, cache, TURN_LIMIT)
}

fn config(turn: &Turn, demo: &Demo) -> String {
    let credential = match turn.credential {
        Credential::Bearer | Credential::Wrong => "env_key = \"GW_KEY\"".to_owned(),
        Credential::ApiKeyHeader => format!("http_headers = {{ \"X-API-Key\" = {:?} }}", demo.key),
    };
    format!(
        "model = {model:?}\n\
         model_provider = \"gw\"\n\
         check_for_update_on_startup = false\n\
         [analytics]\n\
         enabled = false\n\
         [model_providers.gw]\n\
         name = \"gw\"\n\
         base_url = {base_url:?}\n\
         wire_api = \"responses\"\n\
         supports_websockets = {by_websocket}\n\
         {credential}\n",
        by_websocket = turn.by_websocket,
        model = turn.model,
        base_url = if turn.secure {
            &demo.secure_base_url
        } else {
            &demo.base_url
        },
    )
}

/// What has been seen of requests, counted.
pub(super) struct Seen {
    websockets: usize,
    http2_streams: u64,
}

impl Seen {
    /// Until now.
    pub(super) fn of(demo: &Demo) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            websockets: demo.times_seen("GET /v1/responses"),
            http2_streams: demo.http2_streams()?,
        })
    }
}

/// Did the turn go by what it was to go? A client whose WebSocket fails goes on with POST, and one without HTTP/2 with HTTP/1.1.
pub(super) fn check_transport(turn: &Turn, before: &Seen, after: &Seen) -> Result<(), String> {
    if turn.by_websocket && after.websockets == before.websockets {
        return Err("no WebSocket was opened".to_owned());
    }
    if turn.secure && !turn.by_websocket && after.http2_streams == before.http2_streams {
        return Err("it has not spoken HTTP/2".to_owned());
    }
    Ok(())
}

/// Has the turn ended as it should? If not: what is wrong.
pub(super) fn check(turn: &Turn, transcript: &Transcript) -> Result<(), String> {
    let events: Vec<Value> = transcript
        .text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    match turn.ending {
        Ending::ToolUsed => {
            if !transcript.succeeded {
                return Err("it has not ended with success".to_owned());
            }
            tool_used(&events)
        }
        Ending::Failed(expected) => {
            if transcript.succeeded {
                return Err("it has ended with success".to_owned());
            }
            let failure = events.iter().find(|event| event["type"] == "turn.failed");
            let failure = failure.ok_or("there is no turn.failed")?;
            let message = failure["error"]["message"].as_str().unwrap_or_default();
            if message.contains(expected) {
                Ok(())
            } else {
                Err(format!("`{message}` does not say `{expected}`"))
            }
        }
    }
}

fn tool_used(events: &[Value]) -> Result<(), String> {
    let completed_item = |kind: &str| {
        let mut items = events
            .iter()
            .filter(|event| event["type"] == "item.completed");
        items
            .find(|event| event["item"]["type"] == kind)
            .map(|event| &event["item"])
    };
    let contains = |value: &Value| value.as_str().is_some_and(|text| text.contains(PRINTED));

    let command = completed_item("command_execution").ok_or("no command was run")?;
    if command["exit_code"] != 0 || !contains(&command["aggregated_output"]) {
        return Err(format!(
            "the command has not printed `{PRINTED}`: {command}"
        ));
    }
    let message = completed_item("agent_message").ok_or("there is no final message")?;
    if !contains(&message["text"]) {
        return Err(format!(
            "the final message does not quote `{PRINTED}`: {message}"
        ));
    }
    let ending = events
        .last()
        .filter(|event| event["type"] == "turn.completed");
    let ending = ending.ok_or("the last event is not turn.completed")?;
    let tokens = ending["usage"]["output_tokens"].as_u64().unwrap_or(0);
    if tokens == 0 {
        Err(format!("no usage was seen: {ending}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"not JSON
{"type":"item.completed","item":{"type":"command_execution","aggregated_output":"relay-tool-42\n","exit_code":0}}
{"type":"item.completed","item":{"type":"agent_message","text":"It printed: relay-tool-42"}}
{"type":"turn.completed","usage":{"output_tokens":35}}
"#;

    fn verdict(turn: &Turn, succeeded: bool, text: &str) -> Result<(), String> {
        let (name, path) = (String::new(), std::path::PathBuf::new());
        check(
            turn,
            &Transcript {
                name,
                succeeded,
                text: text.to_owned(),
                path,
            },
        )
    }

    #[test]
    fn a_turn_counts_only_with_command_message_and_ending() {
        assert_eq!(verdict(&TURNS[0], true, GOOD), Ok(()));
        assert!(verdict(&TURNS[0], false, GOOD).is_err());
        for index in 1..GOOD.lines().count() {
            let mut lines: Vec<&str> = GOOD.lines().collect();
            lines.remove(index);
            assert!(
                verdict(&TURNS[0], true, &lines.join("\n")).is_err(),
                "without line {index}"
            );
        }
    }

    #[test]
    fn a_failure_must_say_why_and_show_in_the_exit_code() {
        let wrong_key = TURNS.last().unwrap();
        let text =
            r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized"}}"#;
        assert_eq!(verdict(wrong_key, false, text), Ok(()));
        assert!(verdict(wrong_key, true, text).is_err());
        assert!(verdict(wrong_key, false, &text.replace("401", "500")).is_err());
    }
}
