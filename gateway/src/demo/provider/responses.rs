//! The Responses API: one object, or the events that build it.

use serde_json::{Value, json};

use super::ask::{Answer, Ask, REASONING_TOKENS, fresh_id, now};

/// The finished response.
pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let envelope = Envelope::new(ask);
    envelope.completed(&item(&fresh_id("item"), answer, "completed"), ask, answer)
}

/// The events of a stream, in the order in which the API sends them.
pub(super) fn events(ask: &Ask, answer: &Answer) -> Vec<String> {
    let envelope = Envelope::new(ask);
    let item_id = fresh_id(if matches!(answer, Answer::Text(_)) {
        "msg"
    } else {
        "fc"
    });
    let done = item(&item_id, answer, "completed");
    let mut script = Events::default();
    let begun = envelope.object("in_progress", &json!([]), &Value::Null);
    script.push("response.created", json!({"response": begun}));
    script.push("response.in_progress", json!({"response": begun}));
    script.push(
        "response.output_item.added",
        json!({"output_index": 0, "item": item(&item_id, &answer.emptied(), "in_progress")}),
    );
    match answer {
        Answer::Text(text) => {
            let place = json!({"item_id": item_id, "output_index": 0, "content_index": 0});
            let part = |text: &str| json!({"part": text_part(text)});
            script.push("response.content_part.added", with(&place, part("")));
            for piece in answer.pieces() {
                let delta = json!({"delta": piece, "logprobs": []});
                script.push("response.output_text.delta", with(&place, delta));
            }
            let text_done = json!({"text": text, "logprobs": []});
            script.push("response.output_text.done", with(&place, text_done));
            script.push("response.content_part.done", with(&place, part(text)));
        }
        Answer::Call {
            name, arguments, ..
        } => {
            let place = json!({"item_id": item_id, "output_index": 0});
            for piece in answer.pieces() {
                let delta = json!({"delta": piece});
                script.push(
                    "response.function_call_arguments.delta",
                    with(&place, delta),
                );
            }
            let done = json!({"name": name, "arguments": arguments});
            script.push("response.function_call_arguments.done", with(&place, done));
        }
    }
    script.push(
        "response.output_item.done",
        json!({"output_index": 0, "item": done}),
    );
    let completed = envelope.completed(&done, ask, answer);
    script.push("response.completed", json!({"response": completed}));
    script.0
}

/// What stays the same in a response from its first event to its last.
struct Envelope {
    id: String,
    created_at: u64,
    model: String,
}

impl Envelope {
    fn new(ask: &Ask) -> Self {
        Self {
            id: fresh_id("resp"),
            created_at: now(),
            model: ask.model.clone(),
        }
    }

    fn object(&self, status: &str, output: &Value, usage: &Value) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": self.created_at, "status": status,
            "background": false, "error": null, "incomplete_details": null, "instructions": null,
            "max_output_tokens": null, "metadata": {}, "model": self.model, "output": output,
            "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null}, "service_tier": "default",
            "store": false, "temperature": 1.0, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
            "usage": usage, "user": null,
        })
    }

    fn completed(&self, item: &Value, ask: &Ask, answer: &Answer) -> Value {
        let output_tokens = answer.output_tokens();
        let usage = json!({
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": ask.cached_tokens()},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
            "total_tokens": ask.input_tokens + output_tokens,
        });
        self.object("completed", &json!([item]), &usage)
    }
}

/// Events numbered in sequence.
#[derive(Default)]
struct Events(Vec<String>);

impl Events {
    fn push(&mut self, kind: &str, body: Value) {
        let head = json!({"type": kind, "sequence_number": self.0.len()});
        self.0
            .push(format!("event: {kind}\ndata: {}\n\n", with(&head, body)));
    }
}

fn item(id: &str, answer: &Answer, status: &str) -> Value {
    match answer {
        Answer::Text(text) => {
            let content = if text.is_empty() {
                json!([])
            } else {
                json!([text_part(text)])
            };
            json!({"id": id, "type": "message", "status": status, "role": "assistant",
                   "content": content})
        }
        Answer::Call {
            id: call_id,
            name,
            arguments,
        } => json!({
            "id": id, "type": "function_call", "status": status, "call_id": call_id,
            "name": name, "arguments": arguments,
        }),
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// The fields of both objects.
fn with(left: &Value, right: Value) -> Value {
    let mut joined = left.clone();
    if let (Value::Object(joined), Value::Object(right)) = (&mut joined, right) {
        joined.extend(right);
    }
    joined
}
