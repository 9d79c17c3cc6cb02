//! What a request asks for, whichever dialect it comes in, and what is answered.

use serde_json::{Value, json};

/// The three request forms that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's Responses
    Responses,
    /// OpenAI's Chat Completions
    Chat,
    /// Anthropic's Messages
    Messages,
}

/// The parts of a request that the script goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) stream: bool,
    /// Chat Completions: does the stream end with a usage chunk?
    pub(super) include_usage: bool,
    /// The last text of the user.
    pub(super) prompt: String,
    /// What a tool gave back after that text.
    pub(super) tool_output: Option<String>,
    /// The client's tool that runs commands.
    pub(super) shell: Option<ShellTool>,
    /// About one for four bytes of the request.
    pub(super) input_tokens: usize,
}

/// A function that takes a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShellTool {
    name: String,
    /// Name of the parameter that takes the command.
    parameter: &'static str,
    /// Does it want words instead of one line?
    wants_words: bool,
}

/// What the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Text(String),
    Call {
        id: String,
        name: String,
        /// A JSON object, as text.
        arguments: String,
    },
}

impl Ask {
    /// Understands a request body, or says why not.
    pub(super) fn read(dialect: Dialect, body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| format!("The body is not valid JSON: {error}"))?;
        let model = body["model"]
            .as_str()
            .ok_or("You must provide a model parameter.")?;
        let mut ask = Self {
            dialect,
            model: model.to_owned(),
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"]
                .as_bool()
                .unwrap_or(false),
            prompt: String::new(),
            tool_output: None,
            shell: body["tools"]
                .as_array()
                .and_then(|tools| tools.iter().find_map(shell_tool)),
            input_tokens: body.to_string().len().div_ceil(4),
        };
        let key = if dialect == Dialect::Responses {
            "input"
        } else {
            "messages"
        };
        match &body[key] {
            Value::String(prompt) if dialect == Dialect::Responses => ask.prompt.clone_from(prompt),
            Value::Array(items) => items.iter().for_each(|item| ask.take(item)),
            _ => return Err(format!("Missing required parameter: '{key}'.")),
        }
        Ok(ask)
    }

    /// Takes in one item of the conversation; later ones replace earlier ones.
    fn take(&mut self, item: &Value) {
        match (item["role"].as_str(), item["type"].as_str()) {
            (Some("user"), _) => {
                let blocks = item["content"].as_array().map_or(&[][..], Vec::as_slice);
                let result = blocks.iter().find(|block| block["type"] == "tool_result");
                if let Some(result) = result {
                    self.tool_output = Some(text_of(&result["content"]));
                } else {
                    self.prompt = text_of(&item["content"]);
                    self.tool_output = None;
                }
            }
            (Some("tool"), _) => self.tool_output = Some(text_of(&item["content"])),
            (None, Some("function_call_output")) => {
                self.tool_output = Some(text_of(&item["output"]));
            }
            _ => {}
        }
    }

    /// Half of the prompt counts as cached, so that the field is there to be metered.
    pub(super) fn cached_tokens(&self) -> usize {
        self.input_tokens / 2
    }
}

impl Answer {
    /// The answer; with `words` it is that long.
    pub(super) fn to(ask: &Ask, words: Option<usize>) -> Self {
        if let Some(words) = words {
            return Self::Text((1..=words).map(|number| format!("word{number} ")).collect());
        }
        if let Some(output) = &ask.tool_output {
            return Self::Text(format!("The command has printed: {}", output.trim()));
        }
        let command = ask
            .prompt
            .lines()
            .find_map(|line| line.trim().strip_prefix("run:"));
        if let (Some(command), Some(shell)) = (command, &ask.shell) {
            let command = command.trim();
            let value = if shell.wants_words {
                json!(["bash", "-lc", command])
            } else {
                json!(command)
            };
            return Self::Call {
                id: fresh_id("call"),
                name: shell.name.clone(),
                arguments: json!({ shell.parameter: value }).to_string(),
            };
        }
        let quoted: String = ask.prompt.trim().chars().take(200).collect();
        Self::Text(format!(
            "This is the demo provider speaking. You have said: {quoted}"
        ))
    }

    /// The text or the arguments as a model would emit them: piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &str> {
        let (Self::Text(text)
        | Self::Call {
            arguments: text, ..
        }) = self;
        text.split_inclusive(' ')
    }

    /// The same before its first piece.
    pub(super) fn emptied(&self) -> Self {
        match self {
            Self::Text(_) => Self::Text(String::new()),
            Self::Call { id, name, .. } => Self::Call {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
            },
        }
    }

    /// One for each piece, and those of the reasoning.
    pub(super) fn output_tokens(&self) -> usize {
        self.pieces().count() + REASONING_TOKENS
    }
}

/// Tokens that the model is said to have thought with.
pub(super) const REASONING_TOKENS: usize = 8;

/// An identifier in the provider's style.
pub(super) fn fresh_id(prefix: &str) -> String {
    format!("{prefix}_{:016x}", fastrand::u64(..))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |elapsed| elapsed.as_secs())
}

/// The tool, if it runs commands: under this name in Codex, its predecessors and Claude Code.
fn shell_tool(tool: &Value) -> Option<ShellTool> {
    let function = if tool["function"].is_object() {
        &tool["function"]
    } else {
        tool
    };
    let name = function["name"].as_str()?;
    if ![
        "exec_command",
        "shell",
        "shell_command",
        "local_shell",
        "Bash",
    ]
    .contains(&name)
    {
        return None;
    }
    let schema = ["parameters", "input_schema"].map(|key| &function[key]["properties"]);
    let properties = schema
        .into_iter()
        .find(|properties| properties.is_object())?;
    let parameter = ["cmd", "command"]
        .into_iter()
        .find(|key| properties[key].is_object())?;
    let wants_words = properties[parameter]["type"] == "array";
    Some(ShellTool {
        name: name.to_owned(),
        parameter,
        wants_words,
    })
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: Dialect, body: &Value) -> Ask {
        Ask::read(dialect, body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_last_user_text_counts_and_an_older_tool_output_does_not() {
        let ask = read(
            Dialect::Responses,
            &json!({"model": "demo", "stream": true, "input": [
                {"type": "message", "role": "developer", "content": "run: ls"},
                {"type": "function_call_output", "call_id": "1", "output": "old"},
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            ]}),
        );
        assert!(ask.stream);
        assert_eq!((ask.prompt.as_str(), ask.tool_output), ("a\nb", None));
    }

    #[test]
    fn every_dialect_gives_back_its_tool_output() {
        let responses = json!({"model": "demo", "input": [
            {"role": "user", "content": "run: date"},
            {"type": "function_call_output", "call_id": "1", "output": "out"}]});
        let chat = json!({"model": "demo", "messages": [
            {"role": "user", "content": "run: date"},
            {"role": "tool", "tool_call_id": "1", "content": "out"}]});
        let messages = json!({"model": "demo", "messages": [
            {"role": "user", "content": "run: date"},
            {"role": "user", "content": [{"type": "tool_result", "content": "out"}]}]});
        for (dialect, body) in [
            (Dialect::Responses, responses),
            (Dialect::Chat, chat),
            (Dialect::Messages, messages),
        ] {
            let ask = read(dialect, &body);
            assert_eq!(ask.prompt, "run: date");
            let answer = Answer::to(&ask, None);
            assert_eq!(
                answer,
                Answer::Text("The command has printed: out".to_owned())
            );
        }
    }

    #[test]
    fn a_command_is_given_to_the_tool_in_the_form_it_declares() {
        let tools = [
            (
                json!({"type": "function", "name": "exec_command",
                    "parameters": {"properties": {"cmd": {"type": "string"}}}}),
                json!({"cmd": "echo a b"}),
            ),
            (
                json!({"type": "function", "function": {"name": "shell",
                    "parameters": {"properties": {"command": {"type": "array"}}}}}),
                json!({"command": ["bash", "-lc", "echo a b"]}),
            ),
            (
                json!({"name": "Bash", "input_schema": {"properties": {"command": {"type": "string"}}}}),
                json!({"command": "echo a b"}),
            ),
        ];
        for (tool, expected) in tools {
            let ask = read(
                Dialect::Responses,
                &json!({"model": "demo", "input": "please\nrun: echo a b", "tools": [
                    {"type": "web_search"}, {"type": "function", "name": "other"}, tool]}),
            );
            let Answer::Call { arguments, .. } = Answer::to(&ask, None) else {
                panic!("no call")
            };
            assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), expected);
        }
    }

    #[test]
    fn without_a_shell_tool_the_prompt_is_answered_with_text() {
        let ask = read(
            Dialect::Responses,
            &json!({"model": "demo", "input": "run: ls"}),
        );
        let Answer::Text(text) = Answer::to(&ask, None) else {
            panic!("a call")
        };
        assert!(text.ends_with("You have said: run: ls"), "{text}");
    }

    #[test]
    fn a_body_that_lacks_something_is_refused_by_name() {
        for (dialect, body, expected) in [
            (Dialect::Responses, "{", "not valid JSON"),
            (Dialect::Responses, r#"{"input":"x"}"#, "model"),
            (Dialect::Responses, r#"{"model":"demo"}"#, "'input'"),
            (
                Dialect::Chat,
                r#"{"model":"demo","messages":"x"}"#,
                "'messages'",
            ),
        ] {
            let reason = Ask::read(dialect, body.as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{body}: {reason}");
        }
    }
}
