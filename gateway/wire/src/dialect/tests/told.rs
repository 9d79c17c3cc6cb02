//! What a stream tells besides how far it is and what it used.

use super::stream::{USAGE, data, observe, typed};
use super::*;

#[test]
fn what_kind_of_failure_a_stream_reports() {
    let failed = |error: &str| {
        typed(
            "response.failed",
            &format!(",\"response\":{{\"id\":\"r\",\"error\":{error}}}"),
        )
    };
    for (dialect, event, kind) in [
        (
            Dialect::Responses,
            failed(r#"{"code":"server_error","message":"m"}"#),
            ErrorKind::Overloaded,
        ),
        (
            Dialect::Responses,
            failed(r#"{"code":"rate_limit_exceeded","message":"m"}"#),
            ErrorKind::RateLimited,
        ),
        (
            Dialect::Responses,
            failed(r#"{"code":"context_length_exceeded"}"#),
            ErrorKind::Other,
        ),
        (Dialect::Responses, failed("null"), ErrorKind::Other),
        (
            Dialect::Responses,
            typed("error", r#","code":"server_is_overloaded","message":"m""#),
            ErrorKind::Overloaded,
        ),
        (
            Dialect::Responses,
            typed("error", r#","error":{"type":"usage_limit_reached"}"#),
            ErrorKind::QuotaExhausted,
        ),
        (
            Dialect::Responses,
            "event: error\ndata: server_error\n\n".to_owned(),
            ErrorKind::Other,
        ),
        (
            Dialect::Messages,
            typed(
                "error",
                r#","error":{"type":"overloaded_error","message":"m"}"#,
            ),
            ErrorKind::Overloaded,
        ),
        (
            Dialect::ChatCompletions,
            data(
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            ),
            ErrorKind::QuotaExhausted,
        ),
        (
            Dialect::ChatCompletions,
            "event: error\ndata: {\"code\":\"rate_limit_exceeded\"}\n\n".to_owned(),
            ErrorKind::RateLimited,
        ),
        (
            Dialect::Opaque,
            data(r#"{"error":{"message":"slow_down","code":null}}"#),
            ErrorKind::Other,
        ),
        (
            Dialect::Gemini,
            data(r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#),
            ErrorKind::Overloaded,
        ),
    ] {
        let observer = observe(dialect, std::slice::from_ref(&event));
        assert_eq!(
            observer.failure().map(|report| report.kind),
            Some(kind),
            "{event}"
        );
    }
    let fine = observe(Dialect::Responses, &[typed("response.completed", "")]);
    assert_eq!(fine.failure(), None);
}

#[test]
fn a_stream_tells_when_its_failure_is_over() {
    let event = typed(
        "response.failed",
        r#","response":{"error":{"code":"usage_limit_reached","resets_at":1738888888,"resets_in_seconds":60}}"#,
    );
    let report = observe(Dialect::Responses, &[event]).failure().unwrap();
    assert_eq!(
        (report.resets_at, report.resets_after),
        (
            Some(std::time::Duration::from_secs(1_738_888_888)),
            Some(std::time::Duration::from_secs(60))
        )
    );
}

#[test]
fn the_first_event_that_has_it_names_the_response() {
    let long = "x".repeat(700);
    let named = |event_type: &str, id: &str| {
        typed(
            event_type,
            &format!(r#","response":{{"object":"response","id":"{id}","instructions":"{long}"}}"#),
        )
    };
    let id = |events: &[String]| {
        observe(Dialect::Responses, events)
            .response_id()
            .map(str::to_owned)
    };
    let first = named("response.created", "resp_1");
    assert_eq!(id(std::slice::from_ref(&first)).as_deref(), Some("resp_1"));
    let untyped = first.split_once('\n').unwrap().1.to_owned();
    assert_eq!(id(&[untyped]).as_deref(), Some("resp_1"));
    // It is asked once, and found wherever it stands.
    let events = [
        typed("response.created", ""),
        named("response.in_progress", "resp_2"),
        first,
    ];
    assert_eq!(id(&events).as_deref(), Some("resp_2"));
    let far = typed(
        "response.created",
        &format!(r#","response":{{"a":"{long}","id":"resp_3"}}"#),
    );
    assert_eq!(id(&[far]).as_deref(), Some("resp_3"));
    let last = typed("response.completed", r#","response":{"id":"resp_4"}"#);
    assert_eq!(id(&[last]).as_deref(), Some("resp_4"));
    for other in [
        typed("response.created", r#","id":"resp_5""#),
        typed("response.created", r#","response":{"id":7}"#),
        named("response.created", &"i".repeat(257)),
        named("response.output_text.delta", "resp_6"),
        named("response.created", "resp_7").trim_end().to_owned() + "\n",
    ] {
        assert_eq!(id(std::slice::from_ref(&other)), None, "{other}");
    }
    let longest = "i".repeat(256);
    assert_eq!(id(&[named("response.created", &longest)]), Some(longest));
}

#[test]
fn what_a_cut_stream_is_taken_for() {
    let estimated = |dialect, events: &[String]| observe(dialect, events).estimated_output_tokens();
    let delta = |kind: &str| typed(kind, ",\"delta\":\"a few words\"");
    let mut responses = vec![
        typed("response.created", ""),
        delta("response.output_text.delta"),
        delta("response.code_interpreter_call_code.delta"),
        typed("response.output_text.done", ",\"text\":\"a few words\""),
        delta("response.reasoning_summary_text.delta")
            .split_once('\n')
            .unwrap()
            .1
            .to_owned(),
    ];
    assert_eq!(estimated(Dialect::Responses, &responses), 3);
    responses.push(typed(
        "response.completed",
        &format!(",\"response\":{{{USAGE}}}"),
    ));
    assert_eq!(estimated(Dialect::Responses, &responses), 7);

    let chunk = data(r#"{"choices":[{"delta":{"content":"a"}}]}"#);
    let chat = [
        chunk.clone(),
        chunk.clone(),
        data(r#"{"error":{}}"#),
        data("[DONE]"),
    ];
    assert_eq!(estimated(Dialect::ChatCompletions, &chat), 2);
    assert_eq!(estimated(Dialect::Opaque, &chat), 2);

    let text = |text: &str| {
        typed(
            "content_block_delta",
            &format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#),
        )
    };
    let usage = |output: u64| {
        typed(
            "message_delta",
            &format!(",\"usage\":{{\"output_tokens\":{output}}}"),
        )
    };
    let mut messages = vec![
        typed(
            "message_start",
            r#","message":{"usage":{"input_tokens":3}}"#,
        ),
        typed("ping", ""),
        typed("content_block_start", r#","index":0"#),
        text("a"),
    ];
    assert_eq!(estimated(Dialect::Messages, &messages), 1);
    // 412 bytes, of which 90 are not text.
    messages.push(text(&"x".repeat(332)));
    assert_eq!(estimated(Dialect::Messages, &messages), 81);
    messages.push(usage(50));
    assert_eq!(estimated(Dialect::Messages, &messages), 50);
    messages.push(text("a"));
    assert_eq!(estimated(Dialect::Messages, &messages), 51);
    messages.extend([usage(u64::MAX), text("a")]);
    // No answer has so many: what is summed up stays within reason.
    assert_eq!(estimated(Dialect::Messages, &messages), (1 << 40) + 1);

    let chunk = |usage: &str| {
        let text = "x".repeat(80 - usage.len());
        data(&format!(r#"{{"candidates":["{text}"]{usage}}}"#))
    };
    let mut gemini = vec![
        chunk(""),
        chunk(r#","usageMetadata":{"promptTokenCount":9}"#),
    ];
    assert_eq!(estimated(Dialect::Gemini, &gemini), 24);
    gemini.push(chunk(
        r#","usageMetadata":{"candidatesTokenCount":5,"thoughtsTokenCount":2}"#,
    ));
    assert_eq!(estimated(Dialect::Gemini, &gemini), 7);
    gemini.push(chunk(""));
    assert_eq!(estimated(Dialect::Gemini, &gemini), 19);
}
