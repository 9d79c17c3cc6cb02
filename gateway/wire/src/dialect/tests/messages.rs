use super::stream::USAGE;
use super::*;

/// What is told of each message, which must not depend on how it is split.
fn told(observer: &mut MessageObserver, message: &str) -> Told {
    let mut other = MessageObserver::new(Dialect::Responses, 1024);
    message
        .as_bytes()
        .chunks(3)
        .for_each(|piece| other.observe(piece));
    observer.observe(message.as_bytes());
    let told = observer.end_message();
    assert_eq!(other.end_message(), told, "{message}");
    told
}

fn event(event_type: &str, members: &str) -> String {
    format!(r#"{{"type":"{event_type}"{members}}}"#)
}

#[test]
fn one_answer_after_the_other() {
    let mut observer = MessageObserver::new(Dialect::Responses, 1024);
    for (id, tokens) in [("resp_1", 7), ("resp_2", 7)] {
        let response = format!(r#","response":{{"id":"{id}",{USAGE}}}"#);
        assert_eq!(observer.response_id(), None);
        let created = event(
            "response.created",
            &format!(r#","response":{{"id":"{id}"}}"#),
        );
        assert_eq!(told(&mut observer, &created), Told::Nothing);
        assert_eq!(observer.response_id(), Some(id));
        let delta = event("response.output_text.delta", r#","delta":"x""#);
        assert_eq!(told(&mut observer, &delta), Told::Nothing);
        assert_eq!(observer.estimated_output_tokens(), 1);
        assert_eq!(observer.usage(), None);
        let completed = event("response.completed", &response);
        assert_eq!(
            told(&mut observer, &completed),
            Told::Over(Terminal::Completed)
        );
        assert_eq!(observer.usage().unwrap().output_tokens, tokens);
        assert_eq!(observer.messages(), 3);
        observer.start_over();
    }
}

#[test]
fn what_ends_an_answer_and_what_does_not() {
    let completed = Told::Over(Terminal::Completed);
    let failed = Told::Over(Terminal::Failed);
    for (event_type, members, wanted) in [
        (
            "response.incomplete",
            r#","response":{"id":"r"}"#,
            completed,
        ),
        ("response.failed", r#","response":{"id":"r"}"#, failed),
        (
            "error",
            r#","error":{"code":"x"},"status":400"#,
            Told::Failure,
        ),
        (
            "response.in_progress",
            r#","response":{"id":"r"}"#,
            Told::Nothing,
        ),
        ("codex.rate_limits", "", Told::Nothing),
        ("response.output_item.done", "", Told::Nothing),
    ] {
        let mut observer = MessageObserver::new(Dialect::Responses, 1024);
        let found = told(&mut observer, &event(event_type, members));
        assert_eq!(found, wanted, "{event_type}");
    }
    // The type may stand anywhere.
    let mut observer = MessageObserver::new(Dialect::Responses, 1024);
    let turned = r#"{"response":{"id":"resp_1"},"type":"response.completed"}"#;
    assert_eq!(told(&mut observer, turned), completed);
    assert_eq!(observer.response_id(), Some("resp_1"));
    for nothing in ["", "no JSON", "[]", r#"{"type":5}"#] {
        let mut observer = MessageObserver::new(Dialect::Responses, 1024);
        assert_eq!(told(&mut observer, nothing), Told::Nothing, "{nothing}");
    }
}

#[test]
fn another_answer_ends_the_one_before() {
    let mut observer = MessageObserver::new(Dialect::Responses, 1024);
    let of = |id: &str| format!(r#","response":{{"id":"{id}","model":"m-{id}"}}"#);
    told(&mut observer, &event("response.created", &of("a")));
    told(&mut observer, &event("response.in_progress", &of("a")));
    told(&mut observer, &event("response.output_text.delta", ""));
    told(&mut observer, &event("response.cancelled", &of("a")));
    assert_eq!(observer.take_earlier(), None);
    let created = event("response.created", &of("b"));
    assert_eq!(told(&mut observer, &created), Told::Nothing);
    let seen = observer.take_earlier().unwrap();
    assert_eq!((seen.events, seen.estimated_output_tokens), (4, 1));
    assert_eq!(observer.take_earlier(), None);
    assert_eq!(observer.response_id(), Some("b"));
    assert_eq!(observer.messages(), 1);
    assert_eq!(observer.estimated_output_tokens(), 0);
    // Also where the first that is heard of it is its end: the usage is its own.
    let members = format!(r#","response":{{"id":"c","model":"m-c",{USAGE}}}"#);
    let completed = event("response.completed", &members);
    assert_eq!(
        told(&mut observer, &completed),
        Told::Over(Terminal::Completed)
    );
    assert_eq!(observer.take_earlier().unwrap().usage, None);
    assert_eq!(observer.usage().unwrap().output_tokens, 7);
    assert_eq!(observer.model(), Some("m-c"));
}

#[test]
fn a_message_that_is_too_long_still_ends_its_answer() {
    let mut observer = MessageObserver::new(Dialect::Responses, 100);
    let padding = "x".repeat(200);
    let members = format!(r#","response":{{"id":"r","text":"{padding}",{USAGE}}}"#);
    observer.observe(event("response.completed", &members).as_bytes());
    assert_eq!(observer.end_message(), Told::Over(Terminal::Completed));
    assert_eq!(observer.usage(), None);
}

#[test]
fn a_message_names_its_type_once_or_not_at_all() {
    for (text, wanted) in [
        (
            r#"{"type":"response.create","model":"m"}"#,
            Some("response.create"),
        ),
        (
            r#"{"model":"m","type":"response.cr\u0065ate"}"#,
            Some("response.create"),
        ),
        (
            r#"{"type":"response.cancel","type":"response.create"}"#,
            None,
        ),
        (r#"{"model":"m"}"#, None),
        (r#"{"type":5}"#, None),
    ] {
        let mut scan = RequestScan::new(ContentCoding::Identity, 8, 1 << 20);
        scan.feed(text.as_bytes()).unwrap();
        scan.finish().unwrap();
        assert_eq!(scan.message_type(), wanted, "{text}");
    }
}
