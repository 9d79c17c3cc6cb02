//! The Messages API: one object, or the events that build it.

use serde_json::{Value, json};

use super::ask::{Answer, Ask, fresh_id};

/// The finished message.
pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let block = match answer {
        Answer::Text(text) => json!({"type": "text", "text": text}),
        Answer::Call {
            id,
            name,
            arguments,
        } => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    };
    message(
        ask,
        &json!([block]),
        Some(stop_reason(answer)),
        answer.output_tokens(),
    )
}

/// The events of a stream, in the order in which the API sends them.
pub(super) fn events(ask: &Ask, answer: &Answer) -> Vec<String> {
    let begun = message(ask, &json!([]), None, 1);
    let block = match answer {
        Answer::Text(_) => json!({"type": "text", "text": ""}),
        Answer::Call { id, name, .. } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": {}})
        }
    };
    let mut script = vec![
        event(&json!({"type": "message_start", "message": begun})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": block})),
        event(&json!({"type": "ping"})),
    ];
    script.extend(answer.pieces().map(|piece| {
        let delta = match answer {
            Answer::Text(_) => json!({"type": "text_delta", "text": piece}),
            Answer::Call { .. } => json!({"type": "input_json_delta", "partial_json": piece}),
        };
        event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}))
    }));
    script.push(event(&json!({"type": "content_block_stop", "index": 0})));
    script.push(event(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": answer.output_tokens()},
    })));
    script.push(event(&json!({"type": "message_stop"})));
    script
}

fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap_or_default()
    )
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text(_) => "end_turn",
        Answer::Call { .. } => "tool_use",
    }
}

fn message(ask: &Ask, content: &Value, stop_reason: Option<&str>, output_tokens: usize) -> Value {
    json!({
        "id": fresh_id("msg"), "type": "message", "role": "assistant", "model": ask.model,
        "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {
            // Here, unlike in OpenAI's dialects, cached tokens are not part of `input_tokens`.
            "input_tokens": ask.input_tokens - ask.cached_tokens(),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": ask.cached_tokens(),
            "output_tokens": output_tokens,
        },
    })
}
