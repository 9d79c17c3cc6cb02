use super::*;

mod messages;
mod report;
mod request;
mod stream;
mod told;
mod usage_chunk;

#[test]
fn paths_have_their_dialect() {
    for (path, dialect) in [
        ("/v1/responses", Dialect::Responses),
        ("/v1/responses/resp_1", Dialect::Responses),
        ("/v1/responses/compact", Dialect::Responses),
        ("/responses", Dialect::Responses),
        ("/responses/compact", Dialect::Responses),
        ("/v1/chat/completions", Dialect::ChatCompletions),
        ("/chat/completions", Dialect::ChatCompletions),
        ("/v1/messages", Dialect::Messages),
        ("/v1/messages/count_tokens", Dialect::Messages),
        (
            "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
            Dialect::Gemini,
        ),
        ("/v1beta/models/x:anything", Dialect::Gemini),
        ("/v1alpha/models/x:streamGenerateContent", Dialect::Gemini),
        ("/v1alpha/models/x:anything", Dialect::Gemini),
        ("/v1alpha/models/x", Dialect::Opaque),
        ("/v1gamma/models/x:generateContent", Dialect::Opaque),
        ("/v1/models/gemini-2.5-pro:generateContent", Dialect::Gemini),
        ("/v1/models", Dialect::Opaque),
        ("/v1/models/ft:gpt-4o:org::id", Dialect::Opaque),
        ("/v1beta/models", Dialect::Opaque),
        ("/v1beta/models/x", Dialect::Opaque),
        ("/v1beta/models/x:", Dialect::Opaque),
        ("/v1beta/models/:x", Dialect::Opaque),
        ("/v1beta/models/a/b:x", Dialect::Opaque),
        ("/v1/responsesx", Dialect::Opaque),
        ("/v1x/responses", Dialect::Opaque),
        ("/v2/responses", Dialect::Opaque),
        ("/V1/Responses", Dialect::Opaque),
        ("/v1/chat/completions/x", Dialect::Opaque),
        ("/v1/embeddings", Dialect::Opaque),
        ("/", Dialect::Opaque),
        ("*", Dialect::Opaque),
        ("", Dialect::Opaque),
    ] {
        assert_eq!(Dialect::of_path(path.as_bytes()), dialect, "{path}");
    }
}

#[test]
fn gemini_has_its_model_in_the_path() {
    let model = |path: &str| {
        Dialect::Gemini
            .model_in_path(path.as_bytes())
            .map(str::to_owned)
    };
    assert_eq!(
        model("/v1beta/models/gemini-2.5-pro:countTokens").unwrap(),
        "gemini-2.5-pro"
    );
    assert_eq!(model("/v1beta/models/a:b:c").unwrap(), "a:b");
    assert_eq!(model("/v1alpha/models/a:b").unwrap(), "a");
    assert_eq!(model("/v1beta/models/a%2Fb:c"), None);
    assert_eq!(model("/v1beta/models"), None);
    assert_eq!(
        Dialect::Responses.model_in_path(b"/v1beta/models/a:b"),
        None
    );
}

#[test]
fn names_are_distinct() {
    let names = Dialect::ALL.map(Dialect::as_str);
    assert_eq!(
        names,
        [
            "responses",
            "chat_completions",
            "messages",
            "gemini",
            "opaque"
        ]
    );
}

/// What an observer of the dialect makes of an event.
fn observed(dialect: Dialect, event: &[u8]) -> StreamObserver {
    let mut observer = StreamObserver::new(dialect, 1024);
    observer.observe(event);
    assert!(observer.at_boundary());
    observer
}

#[test]
fn an_error_event_says_what_happened_and_is_seen_as_a_failure() {
    let message = "it\nbroke: \"x\"\r\u{1}\u{2028}";
    for dialect in Dialect::ALL {
        let Some(event) = dialect.error_event("its_code", message, Some("model"), "req_1") else {
            assert!(matches!(dialect, Dialect::Gemini | Dialect::Opaque));
            continue;
        };
        let observer = observed(dialect, &event);
        assert_eq!(
            (observer.events(), observer.terminal()),
            (1, Some(Terminal::Failed))
        );
        let text = String::from_utf8(event).unwrap();
        let data = text
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        let error = data.get("error").unwrap_or(&data);
        assert_eq!(
            (&error["message"], &error["code"]),
            (&message.into(), &"its_code".into())
        );
        assert!(error["param"] == "model" || dialect == Dialect::Messages);
        assert!(error["request_id"] == "req_1" || data["request_id"] == "req_1");
        assert_eq!(
            text.starts_with("event: error\n"),
            dialect != Dialect::ChatCompletions
        );
    }
}

#[test]
fn a_heartbeat_is_an_event_without_output() {
    for dialect in Dialect::ALL {
        let Some(event) = dialect.heartbeat() else {
            continue;
        };
        let observer = observed(dialect, event);
        assert_eq!(
            (observer.events(), observer.progress()),
            (1, Progress::Preamble)
        );
        assert_eq!(observer.terminal(), None);
    }
    assert!(Dialect::Responses.heartbeat().is_some() && Dialect::Messages.heartbeat().is_some());
}

#[test]
fn plain_answers_have_their_usage() {
    let usage = |input_tokens, cached_tokens, output_tokens, reasoning_tokens| Usage {
        input_tokens,
        cached_tokens,
        output_tokens,
        reasoning_tokens,
    };
    let responses = r#"{"id":"r","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":16}}"#;
    let chat = r#"{"choices":[{"usage":{"prompt_tokens":1}}],"usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
    let messages = r#"{"type":"message","usage":{"input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":4,"output_tokens":7}}"#;
    let gemini = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":2}}"#;
    // Reasoning comes on top, as the sum tells.
    let follower = r#"{"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":2}}}"#;
    let thinking = r#"{"usage":{"input_tokens":9,"output_tokens":7,"output_tokens_details":{"thinking_tokens":2}}}"#;
    let compacted = r#"{"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":7,"iterations":[{"type":"compaction","input_tokens":80,"cache_read_input_tokens":4,"cache_creation_input_tokens":1,"output_tokens":3},{"type":"message","input_tokens":9,"cache_read_input_tokens":4,"output_tokens":7}]}}"#;
    let not_compacted = r#"{"usage":{"input_tokens":9,"output_tokens":7,"iterations":[]}}"#;
    let tools = r#"{"usageMetadata":{"promptTokenCount":6,"toolUsePromptTokenCount":3,"candidatesTokenCount":7}}"#;
    let array = r#"[{"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4}},{"usageMetadata":{"candidatesTokenCount":3}},{"usageMetadata":{"promptTokenCount":9,"toolUsePromptTokenCount":1,"candidatesTokenCount":5,"thoughtsTokenCount":2}}]"#;
    for (dialect, answer, wanted) in [
        (Dialect::ChatCompletions, follower, Some(usage(9, 0, 7, 2))),
        (Dialect::Messages, thinking, Some(usage(9, 0, 7, 2))),
        (Dialect::Messages, compacted, Some(usage(98, 8, 10, 0))),
        (Dialect::Messages, not_compacted, Some(usage(9, 0, 7, 0))),
        (Dialect::Gemini, tools, Some(usage(9, 0, 7, 0))),
        (Dialect::Gemini, array, Some(usage(10, 4, 7, 2))),
        (
            Dialect::ChatCompletions,
            r#"{"usage":{"total_tokens":9}}"#,
            None,
        ),
        (Dialect::Responses, responses, Some(usage(9, 4, 7, 2))),
        (Dialect::ChatCompletions, chat, Some(usage(9, 4, 7, 2))),
        (Dialect::Messages, messages, Some(usage(9, 4, 7, 0))),
        (Dialect::Gemini, gemini, Some(usage(9, 4, 7, 2))),
        (Dialect::Opaque, responses, Some(usage(9, 4, 7, 2))),
        (Dialect::Opaque, chat, Some(usage(9, 4, 7, 2))),
        (Dialect::Opaque, messages, Some(usage(3, 0, 7, 0))),
        (Dialect::Opaque, gemini, None),
        (Dialect::Responses, chat, None),
        (Dialect::Responses, r#"{"usage":null}"#, None),
        (Dialect::Responses, r#"{"usage":{}}"#, None),
        (
            Dialect::Responses,
            r#"{"usage":{"input_tokens":"9"}}"#,
            None,
        ),
        (
            Dialect::Responses,
            r#"{"usage":{"input_tokens":9}}"#,
            Some(usage(9, 0, 0, 0)),
        ),
        (Dialect::Responses, r#"{"usage":{"input_tokens":9}"#, None),
        (Dialect::Responses, r#"{"usage":{"input_tokens":9}}}"#, None),
        (
            Dialect::Responses,
            r#"[{"usage":{"input_tokens":9}}]"#,
            None,
        ),
        (Dialect::Responses, "<html>", None),
    ] {
        for piece_bytes in [1, 7, answer.len()] {
            let mut observer = AnswerObserver::new(dialect, 64);
            answer
                .as_bytes()
                .chunks(piece_bytes)
                .for_each(|piece| observer.observe(piece));
            assert_eq!(observer.usage(), wanted, "{dialect:?} {answer}");
            assert_eq!(observer.estimated_output_tokens(), answer.len() as u64 / 4);
        }
    }
}

#[test]
fn plain_answers_have_their_identifier() {
    let id = |dialect, answer: &str| {
        let mut observer = AnswerObserver::new(dialect, 64);
        answer
            .as_bytes()
            .chunks(5)
            .for_each(|piece| observer.observe(piece));
        observer.response_id().map(str::to_owned)
    };
    let answer = r#"{"id":"resp_0123456789012345678901234567890123456789","object":"response","output":[{"id":"msg_1"}]}"#;
    let wanted = "resp_0123456789012345678901234567890123456789";
    assert_eq!(id(Dialect::Responses, answer).as_deref(), Some(wanted));
    assert_eq!(id(Dialect::Responses, &answer[..answer.len() - 1]), None);
    assert_eq!(
        id(Dialect::Responses, r#"{"response":{"id":"resp_1"}}"#),
        None
    );
    assert_eq!(id(Dialect::ChatCompletions, answer), None);
}
