use super::*;

/// An event of a Responses or Messages stream.
pub(super) fn typed(event_type: &str, members: &str) -> String {
    format!("event: {event_type}\ndata: {{\"type\":\"{event_type}\"{members}}}\n\n")
}

pub(super) fn data(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// Observes the events in pieces of several sizes, which must make no difference.
pub(super) fn observe(dialect: Dialect, events: &[String]) -> StreamObserver {
    let stream = events.concat();
    let mut whole = StreamObserver::new(dialect, 1024);
    whole.observe(stream.as_bytes());
    for piece_bytes in [1, 5, 33] {
        let mut split = StreamObserver::new(dialect, 1024);
        stream
            .as_bytes()
            .chunks(piece_bytes)
            .for_each(|piece| split.observe(piece));
        assert_eq!(
            described(&split),
            described(&whole),
            "in pieces of {piece_bytes}"
        );
        let rest = |observer: &StreamObserver| {
            let id = observer.response_id().map(str::to_owned);
            (observer.failure(), id, observer.estimated_output_tokens())
        };
        assert_eq!(rest(&split), rest(&whole), "in pieces of {piece_bytes}");
    }
    whole
}

fn described(observer: &StreamObserver) -> (u64, Progress, Option<Terminal>, Option<Usage>, bool) {
    (
        observer.events(),
        observer.progress(),
        observer.terminal(),
        observer.usage(),
        observer.at_boundary(),
    )
}

pub(super) const USAGE: &str = r#""usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2}}"#;
const COUNTED: Option<Usage> = Some(Usage {
    input_tokens: 9,
    cached_tokens: 4,
    output_tokens: 7,
    reasoning_tokens: 2,
});

#[test]
fn a_responses_stream_from_first_to_last() {
    let created = typed("response.created", ",\"response\":{\"usage\":null}");
    let in_progress = typed("response.in_progress", "");
    let keepalive = typed("keepalive", "");
    let limits = typed("codex.rate_limits", ",\"plan_type\":\"pro\"");
    let delta = typed("response.output_text.delta", ",\"delta\":\"hi\"");
    let completed = typed(
        "response.completed",
        &format!(",\"response\":{{\"output\":[],{USAGE}}}"),
    );
    let mut stream = vec![": comment\n\n".to_owned()];
    assert_eq!(
        described(&observe(Dialect::Responses, &stream)),
        (0, Progress::Silent, None, None, true)
    );
    stream.extend([created, limits, in_progress, keepalive]);
    assert_eq!(
        described(&observe(Dialect::Responses, &stream)),
        (4, Progress::Preamble, None, None, true)
    );
    stream.push(delta);
    assert_eq!(
        described(&observe(Dialect::Responses, &stream)),
        (5, Progress::Output, None, None, true)
    );
    stream.push(completed);
    let end = (
        6,
        Progress::Output,
        Some(Terminal::Completed),
        COUNTED,
        true,
    );
    assert_eq!(described(&observe(Dialect::Responses, &stream)), end);
    // Without `event:` lines the data names the type.
    let untyped: Vec<String> = stream
        .iter()
        .map(|event| match event.split_once('\n') {
            Some((first, rest)) if first.starts_with("event:") => rest.to_owned(),
            _ => event.clone(),
        })
        .collect();
    assert_eq!(described(&observe(Dialect::Responses, &untyped)), end);
}

#[test]
fn how_responses_end() {
    let response = format!(",\"response\":{{{USAGE}}}");
    for (event_type, terminal, progress) in [
        (
            "response.completed",
            Some(Terminal::Completed),
            Progress::Output,
        ),
        (
            "response.incomplete",
            Some(Terminal::Completed),
            Progress::Output,
        ),
        (
            "response.failed",
            Some(Terminal::Failed),
            Progress::Preamble,
        ),
        ("response.done", None, Progress::Output),
    ] {
        let observer = observe(Dialect::Responses, &[typed(event_type, &response)]);
        assert_eq!(
            (observer.terminal(), observer.progress()),
            (terminal, progress),
            "{event_type}"
        );
        assert_eq!(observer.usage(), terminal.and(COUNTED));
    }
    let failed = observe(Dialect::Responses, &[typed("error", ",\"code\":\"x\"")]);
    assert_eq!(
        (failed.terminal(), failed.progress()),
        (Some(Terminal::Failed), Progress::Preamble)
    );
    // A failure is not outweighed by what comes after it.
    let after = observe(
        Dialect::Responses,
        &[typed("error", ""), typed("response.completed", "")],
    );
    assert_eq!(after.terminal(), Some(Terminal::Failed));
}

#[test]
fn where_the_type_of_an_event_may_stand() {
    let completed = "response.completed";
    for event in [
        format!("data: {{\"type\":\"{completed}\"}}\n\n"),
        format!("data: {{ \"type\" : \"{completed}\" }}\n\n"),
        format!("data: {{\ndata: \"type\"\ndata: :\"{completed}\"}}\n\n"),
        format!("data: {{\"sequence_number\":1,\"type\":\"{completed}\"}}\n\n"),
        format!(
            "data: {{\"a\":\"{}\",\"type\":\"{completed}\"}}\n\n",
            "x".repeat(100)
        ),
        "data: {\"type\":\"response.\\u0063ompleted\"}\n\n".to_owned(),
        format!("event: x\nevent: {completed}\ndata: {{}}\n\n"),
        format!("event: {completed}\ndata: not JSON\n\n"),
        format!("event: {completed}\ndata: {{\"type\":\"error\"}}\n\n"),
        format!("data: {{\"type\":\"error\"}}\nevent: {completed}\n\n"),
        format!("event:\ndata: {{\"type\":\"{completed}\"}}\n\n"),
    ] {
        let observer = observe(Dialect::Responses, std::slice::from_ref(&event));
        assert_eq!(observer.terminal(), Some(Terminal::Completed), "{event}");
    }
    for event in [
        format!("data: {{\"item\":{{\"type\":\"{completed}\"}}}}\n\n"),
        format!("data: {{\"delta\":\"\\\"type\\\":\\\"{completed}\\\"\"}}\n\n"),
        format!("data: {{\"a\":1,\"type\":\"{completed}\"\n\n"),
        format!("data: {{\"type\":\"{completed}x\"}}\n\n"),
        format!("event: {completed}{}\ndata: {{}}\n\n", "x".repeat(50)),
        format!("event: {}{completed}\ndata: {{}}\n\n", "x".repeat(50)),
        format!("event: {completed}\n\ndata: {{}}\n\n"),
    ] {
        let observer = observe(Dialect::Responses, std::slice::from_ref(&event));
        assert_eq!(
            described(&observer),
            (1, Progress::Output, None, None, true),
            "{event}"
        );
    }
}

#[test]
fn a_chat_stream_from_first_to_last() {
    let chunk = |content: &str| {
        data(&format!(
            r#"{{"choices":[{{"delta":{{"content":"{content}"}}}}],"usage":null}}"#
        ))
    };
    let usage = data(
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
    );
    let mut stream = vec![
        chunk("a"),
        chunk("\\\"usage\\\":{\\\"prompt_tokens\\\":1}"),
        chunk("\\u0041 \\\"error\\\":1"),
    ];
    assert_eq!(
        described(&observe(Dialect::ChatCompletions, &stream)),
        (3, Progress::Output, None, None, true)
    );
    stream.push(usage);
    assert_eq!(observe(Dialect::ChatCompletions, &stream).usage(), COUNTED);
    stream.push(data("[DONE]"));
    let end = (
        5,
        Progress::Output,
        Some(Terminal::Completed),
        COUNTED,
        true,
    );
    assert_eq!(described(&observe(Dialect::ChatCompletions, &stream)), end);
}

#[test]
fn how_chat_streams_fail() {
    for event in [
        data(r#"{"error":{"message":"x"}}"#),
        data(r#"{"err\u006fr":"x"}"#),
        "event: error\ndata: {\"message\":\"x\"}\n\n".to_owned(),
    ] {
        let observer = observe(Dialect::ChatCompletions, std::slice::from_ref(&event));
        assert_eq!(
            described(&observer),
            (1, Progress::Preamble, Some(Terminal::Failed), None, true),
            "{event}"
        );
    }
    for event in [
        data(r#"{"error":null,"choices":[]}"#),
        data(r#"{"choices":[{"error":{"message":"x"}}]}"#),
        data(r#"{"error":{"message":"x"}"#),
        data("[DONE"),
    ] {
        let observer = observe(Dialect::ChatCompletions, std::slice::from_ref(&event));
        assert_eq!(
            (observer.progress(), observer.terminal()),
            (Progress::Output, None),
            "{event}"
        );
    }
}

#[test]
fn chat_usage_in_unusual_writing() {
    let counted = Usage {
        input_tokens: 3,
        output_tokens: 1,
        ..Usage::default()
    };
    for event in [
        data(r#"{"usage" : {"prompt_tokens":3,"completion_tokens":1}}"#),
        data(r#"{"\u0075sage":{"prompt_tokens":3,"completion_tokens":1}}"#),
        "data: {\"usage\":\ndata: {\"prompt_tokens\":3,\ndata:\ndata:\"completion_tokens\":1}}\r\n\r\n".to_owned(),
        "data:{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\r\r".to_owned() + "\n",
        data(r#"{"usage":null,"usage":{"prompt_tokens":3,"completion_tokens":1}}"#),
    ] {
        assert_eq!(observe(Dialect::ChatCompletions, std::slice::from_ref(&event)).usage(), Some(counted), "{event}");
    }
    // Lines of data are joined by line feeds, which separate.
    let broken = "data: {\"usage\":{\"prompt_tokens\":1\ndata: 2}}\n\n".to_owned();
    assert_eq!(observe(Dialect::ChatCompletions, &[broken]).usage(), None);
    // Of several the last counts.
    let later = data(r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#);
    let events = [
        data(r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":1}}}"#),
        later,
    ];
    let usage = Usage {
        input_tokens: 5,
        output_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(
        observe(Dialect::ChatCompletions, &events).usage(),
        Some(usage)
    );
}

#[test]
fn a_messages_stream_from_first_to_last() {
    let start = typed(
        "message_start",
        r#","message":{"usage":{"input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":4,"output_tokens":1}}"#,
    );
    let mut stream = vec![start, typed("ping", "")];
    let usage = |output_tokens| {
        Some(Usage {
            input_tokens: 9,
            cached_tokens: 4,
            output_tokens,
            reasoning_tokens: 0,
        })
    };
    assert_eq!(
        described(&observe(Dialect::Messages, &stream)),
        (2, Progress::Preamble, None, usage(1), true)
    );
    stream.push(typed("content_block_delta", r#","delta":{"text":"hi"}"#));
    assert_eq!(
        observe(Dialect::Messages, &stream).progress(),
        Progress::Output
    );
    stream.push(typed("message_delta", r#","usage":{"output_tokens":5}"#));
    stream.push(typed("message_delta", r#","usage":{"output_tokens":7}"#));
    assert_eq!(observe(Dialect::Messages, &stream).terminal(), None);
    stream.push(typed("message_stop", ""));
    let end = (
        6,
        Progress::Output,
        Some(Terminal::Completed),
        usage(7),
        true,
    );
    assert_eq!(described(&observe(Dialect::Messages, &stream)), end);
    let failed = observe(
        Dialect::Messages,
        &[typed("error", r#","error":{"type":"overloaded_error"}"#)],
    );
    assert_eq!(
        described(&failed),
        (1, Progress::Preamble, Some(Terminal::Failed), None, true)
    );
}

#[test]
fn a_gemini_stream_from_first_to_last() {
    let chunk = |finish: &str| {
        data(&format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"args":{{"finishReason":"STOP"}}}}}}]}}{finish}}}],"usageMetadata":{{"promptTokenCount":9,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":2}}}}"#
        ))
    };
    // Counts are put together from all the events that have some.
    let early =
        data(r#"{"candidates":[],"usageMetadata":{"promptTokenCount":9,"thoughtsTokenCount":2}}"#);
    let late = data(r#"{"usageMetadata":{"candidatesTokenCount":5,"cachedContentTokenCount":4}}"#);
    let neither = data(r#"{"usageMetadata":{"trafficType":"ON_DEMAND"}}"#);
    let events = [early, neither.clone(), late, neither];
    assert_eq!(observe(Dialect::Gemini, &events).usage(), COUNTED);
    let mut stream = vec![chunk(""), chunk(r#","finishReason":null"#)];
    assert_eq!(
        described(&observe(Dialect::Gemini, &stream)),
        (2, Progress::Output, None, COUNTED, true)
    );
    assert_eq!(observe(Dialect::Gemini, &stream).terminal_at_end(), None);
    stream.push(chunk(r#","finishReason":"STOP""#));
    // One candidate is complete; only the end of the body tells that there is no other.
    for events in [3, 4] {
        let observer = observe(Dialect::Gemini, &stream);
        let on_the_way = (events, Progress::Output, None, COUNTED, true);
        assert_eq!(described(&observer), on_the_way);
        assert_eq!(observer.terminal_at_end(), Some(Terminal::Completed));
        stream.push(chunk(r#","index":1"#));
    }
    stream.push(data(r#"{"error":{"code":503}}"#));
    let failed = observe(Dialect::Gemini, &stream);
    assert_eq!(failed.terminal_at_end(), Some(Terminal::Failed));
    let refused = observe(
        Dialect::Gemini,
        &[data(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#)],
    );
    assert_eq!(refused.terminal(), Some(Terminal::Completed));
    let failed = observe(Dialect::Gemini, &[data(r#"{"error":{"code":503}}"#)]);
    assert_eq!(
        (failed.terminal(), failed.progress()),
        (Some(Terminal::Failed), Progress::Preamble)
    );
}

#[test]
fn an_opaque_stream_has_usage_in_either_form() {
    for event in [
        data(&format!("{{{USAGE}}}")),
        data(&format!("{{\"response\":{{{USAGE}}}}}")),
        data(
            r#"{"usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        ),
    ] {
        let observer = observe(Dialect::Opaque, &[event, data("[DONE]")]);
        assert_eq!(
            described(&observer),
            (
                2,
                Progress::Output,
                Some(Terminal::Completed),
                COUNTED,
                true
            )
        );
    }
}

#[test]
fn long_events_are_counted_but_not_read() {
    let padded = |bytes: usize| {
        let event = |padding: usize| {
            typed(
                "response.completed",
                &format!(
                    ",\"x\":\"{}\",\"response\":{{{USAGE}}}",
                    "x".repeat(padding)
                ),
            )
        };
        event(bytes - event(0).len())
    };
    let read = observe(Dialect::Responses, &[padded(1024)]);
    assert_eq!(
        (read.terminal(), read.usage()),
        (Some(Terminal::Completed), COUNTED)
    );
    // That the answer is complete is known from the `event:` line.
    let unread = observe(Dialect::Responses, &[padded(1025)]);
    assert_eq!(
        (unread.terminal(), unread.usage()),
        (Some(Terminal::Completed), None)
    );
    let chunk = data(&format!(
        r#"{{"x":"{}","usage":{{"prompt_tokens":1}}}}"#,
        "x".repeat(1024)
    ));
    let unread = observe(Dialect::ChatCompletions, &[chunk, data("[DONE]")]);
    assert_eq!(
        described(&unread),
        (2, Progress::Output, Some(Terminal::Completed), None, true)
    );
}

#[test]
fn an_event_that_has_not_ended_counts_for_nothing() {
    let completed = typed("response.completed", "");
    let mut observer = StreamObserver::new(Dialect::Responses, 1024);
    observer.observe(&completed.as_bytes()[..completed.len() - 1]);
    assert_eq!(
        described(&observer),
        (0, Progress::Silent, None, None, false)
    );
    observer.observe(b"\n");
    assert_eq!(observer.terminal(), Some(Terminal::Completed));
}
