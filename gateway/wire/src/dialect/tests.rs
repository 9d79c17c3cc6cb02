use super::*;

#[test]
fn a_responses_stream_is_followed_to_its_usage() {
    let mut observer = StreamObserver::new(Dialect::Responses, 1 << 20);
    observer.observe(b"event: response.created\ndata: {\"type\":\"response.created\"}\n\n");
    assert_eq!(observer.progress(), Progress::Preamble);
    observer.observe(b"event: response.output_text.delta\ndata: {\"type\":\"resp");
    observer.observe(b"onse.output_text.delta\"}\r\n\r\n");
    assert_eq!(observer.progress(), Progress::Output);
    observer.observe(b"data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":7,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}\n\n");
    assert_eq!(observer.terminal(), Some(Terminal::Completed));
    let usage = Usage {
        input_tokens: 9,
        cached_tokens: 4,
        output_tokens: 7,
        reasoning_tokens: 2,
    };
    assert_eq!(observer.usage(), Some(usage));
    assert_eq!(observer.events(), 3);
    assert!(observer.at_boundary());
}
