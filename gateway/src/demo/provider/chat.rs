//! The Chat Completions API: one object, or the chunks that build it.

use serde_json::{Value, json};

use super::ask::{Answer, Ask, REASONING_TOKENS, fresh_id, now};

/// The finished completion.
pub(super) fn whole(ask: &Ask, answer: &Answer) -> Value {
    let (message, finish_reason) = match answer {
        Answer::Text(text) => (
            json!({"role": "assistant", "content": text, "refusal": null}),
            "stop",
        ),
        Answer::Call {
            id,
            name,
            arguments,
        } => {
            let function = json!({"name": name, "arguments": arguments});
            let call = json!({"id": id, "type": "function", "function": function});
            (
                json!({"role": "assistant", "content": null, "tool_calls": [call]}),
                "tool_calls",
            )
        }
    };
    json!({
        "id": fresh_id("chatcmpl"), "object": "chat.completion", "created": now(),
        "model": ask.model, "service_tier": "default", "usage": usage(ask, answer),
        "choices": [{"index": 0, "message": message, "logprobs": null,
                     "finish_reason": finish_reason}],
    })
}

/// The chunks of a stream, with the line that ends it.
pub(super) fn events(ask: &Ask, answer: &Answer) -> Vec<String> {
    let id = fresh_id("chatcmpl");
    let created = now();
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": ask.model,
            "service_tier": "default", "choices": choices,
        });
        if ask.include_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish_reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null,
                            "finish_reason": finish_reason});
        chunk(json!([choice]), Value::Null)
    };
    let mut script = Vec::new();
    let finish_reason = match answer {
        Answer::Text(_) => {
            script.push(delta(json!({"role": "assistant", "content": ""}), None));
            script.extend(
                answer
                    .pieces()
                    .map(|piece| delta(json!({"content": piece}), None)),
            );
            "stop"
        }
        Answer::Call { id, name, .. } => {
            let function = json!({"name": name, "arguments": ""});
            let call = json!({"index": 0, "id": id, "type": "function", "function": function});
            let first = json!({"role": "assistant", "content": null, "tool_calls": [call]});
            script.push(delta(first, None));
            script.extend(answer.pieces().map(|piece| {
                let call = json!({"index": 0, "function": {"arguments": piece}});
                delta(json!({"tool_calls": [call]}), None)
            }));
            "tool_calls"
        }
    };
    script.push(delta(json!({}), Some(finish_reason)));
    if ask.include_usage {
        script.push(chunk(json!([]), usage(ask, answer)));
    }
    script.push("data: [DONE]\n\n".to_owned());
    script
}

fn usage(ask: &Ask, answer: &Answer) -> Value {
    let output_tokens = answer.output_tokens();
    json!({
        "prompt_tokens": ask.input_tokens,
        "prompt_tokens_details": {"cached_tokens": ask.cached_tokens(), "audio_tokens": 0},
        "completion_tokens": output_tokens,
        "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        "total_tokens": ask.input_tokens + output_tokens,
    })
}
