use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Running {
    address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        serve(listener, &["first".to_owned(), "second".to_owned()], sender)
            .await
            .unwrap();
    });
    Running { address, seen }
}

/// Sends one request on a connection of its own and reads to its end.
async fn exchange(address: SocketAddr, target: &str, credential: &str, body: &Value) -> String {
    let body = body.to_string();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: provider\r\nAuthorization: Bearer {credential}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A cut connection may end in a reset; what came before is what counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn event_kinds(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect()
}

#[tokio::test]
async fn only_an_account_is_answered_and_its_request_is_reported() {
    let mut provider = start().await;
    let body = json!({"model": "demo", "input": "hello"});
    let refused = exchange(provider.address, "/v1/responses", "other", &body).await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let answer = exchange(provider.address, "/v1/responses", "second", &body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("You have said: hello"), "{answer}");
    let seen = provider.seen.recv().await.unwrap();
    assert_eq!(
        (seen.account, seen.line.as_str()),
        (1, "POST /v1/responses")
    );
    assert_eq!(seen.headers["host"], "provider");
    assert!(seen.peer.ip().is_loopback());
}

#[tokio::test]
async fn a_responses_stream_has_the_order_of_the_api_and_ends_whole() {
    let provider = start().await;
    let body = json!({"model": "demo", "stream": true, "input": "hello"});
    let answer = exchange(provider.address, "/v1/responses", "first", &body).await;
    let mut kinds = event_kinds(&answer);
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(
        answer.ends_with("\r\n0\r\n\r\n"),
        "the last chunk is missing: {answer}"
    );
    for field in ["\"cached_tokens\":", "\"reasoning_tokens\":"] {
        assert!(answer.contains(field), "{field} is missing: {answer}");
    }
}

#[tokio::test]
async fn a_call_streams_its_arguments() {
    let provider = start().await;
    let tool = json!({"type": "function", "name": "exec_command",
                      "parameters": {"properties": {"cmd": {"type": "string"}}}});
    let body = json!({"model": "demo", "stream": true, "input": "run: echo hi", "tools": [tool]});
    let answer = exchange(provider.address, "/v1/responses", "first", &body).await;
    let mut kinds = event_kinds(&answer);
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
}

#[tokio::test]
async fn a_chat_stream_ends_with_usage_where_it_was_asked_for() {
    let provider = start().await;
    for include_usage in [true, false] {
        let body = json!({"model": "demo", "stream": true,
            "stream_options": {"include_usage": include_usage},
            "messages": [{"role": "user", "content": "hello"}]});
        let answer = exchange(provider.address, "/v1/chat/completions", "first", &body).await;
        assert_eq!(
            answer.contains("\"total_tokens\":"),
            include_usage,
            "{answer}"
        );
        assert!(answer.contains("data: [DONE]\n\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_messages_stream_begins_and_ends_with_its_message() {
    let provider = start().await;
    let body = json!({"model": "demo", "stream": true, "max_tokens": 9,
                      "messages": [{"role": "user", "content": "hello"}]});
    let answer = exchange(provider.address, "/v1/messages", "first", &body).await;
    let kinds = event_kinds(&answer);
    assert_eq!(kinds.first(), Some(&"message_start"));
    assert_eq!(kinds.last(), Some(&"message_stop"));
}

#[tokio::test]
async fn a_break_never_looks_complete() {
    let provider = start().await;
    let streamed = json!({"model": "demo-break", "stream": true, "input": "hello"});
    let answer = exchange(provider.address, "/v1/responses", "first", &streamed).await;
    assert_eq!(event_kinds(&answer).len(), BREAK_EVENTS);
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");

    let whole = json!({"model": "demo-break", "input": "hello"});
    let answer = exchange(provider.address, "/v1/responses", "first", &whole).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    assert!(body.len() < length.parse().unwrap(), "{answer}");
}

#[tokio::test]
async fn faults_are_chosen_by_the_model_name() {
    let provider = start().await;
    for (model, status, retry_after, code) in [
        (
            "demo-429",
            "429 Too Many Requests",
            true,
            "rate_limit_exceeded",
        ),
        (
            "demo-500",
            "500 Internal Server Error",
            false,
            "server_error",
        ),
        ("demo-503", "503 Service Unavailable", true, "server_error"),
        ("gpt-0", "404 Not Found", false, "model_not_found"),
    ] {
        let body = json!({"model": model, "input": "hello"});
        let answer = exchange(provider.address, "/v1/responses", "first", &body).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert_eq!(
            answer.contains("\r\nretry-after: 1\r\n"),
            retry_after,
            "{answer}"
        );
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
    let unknown = exchange(provider.address, "/v1/nothing", "first", &json!({})).await;
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
}
