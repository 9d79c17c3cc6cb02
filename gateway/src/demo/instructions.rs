//! How to call the demo by hand.

use super::files::Files;
use std::net::SocketAddr;

/// The text. The lines `base URL: …`, `secure base URL: …` and `key: …` are read by programs, too.
pub(super) fn text(
    gateway: SocketAddr,
    secure: Option<SocketAddr>,
    key: &str,
    admin: SocketAddr,
    files: &Files,
) -> String {
    let base_url = format!("http://{gateway}/v1");
    let secure = secure.map_or_else(String::new, |address| {
        format!("secure base URL: https://localhost:{}/v1\n", address.port())
    });
    let (config, log) = (files.config(), files.log());
    format!(
        r#"
base URL: {base_url}
{secure}key: {key}

curl:
    curl -N {base_url}/responses -H 'Authorization: Bearer {key}' \
      -H 'Content-Type: application/json' -d '{{"model":"demo","stream":true,"input":"hello"}}'

OpenAI SDKs, model "demo":
    export OPENAI_BASE_URL={base_url} OPENAI_API_KEY={key}

Codex CLI, ~/.codex/config.toml:
    model = "demo"
    model_provider = "relay"
    [model_providers.relay]
    name = "codex-relay"
    base_url = "{base_url}"
    env_key = "RELAY_KEY"
    wire_api = "responses"
then a turn in which the model has a command run:
    RELAY_KEY={key} codex exec 'run: uname -a'

Other models: demo-slow, demo-long (five minutes), demo-break (the provider cuts the stream), demo-429,
demo-500, demo-503.
Metrics: http://{admin}/metrics   Log: {log}   Configuration: {config}

Serving until Ctrl-C.
"#,
        config = config.display(),
        log = log.display(),
    )
}
