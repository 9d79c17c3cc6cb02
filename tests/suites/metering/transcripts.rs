//! Every transcript, as the provider sends it: the client gets the same bytes, and what is metered is what the provider counted.

use relay_tests::http::{LAST_CHUNK, chunk, find, lossy, response};
use relay_tests::transcripts::{self, Transcript};
use relay_tests::upstream::Options;
use relay_tests::{Config, Ending, Gateway, Request, Upstream};
use serde_json::Value;
use std::sync::Arc;

/// In which pieces the body of a stream comes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All at once, in one chunk.
    Whole,
    /// One chunk for each event.
    Events,
    /// One chunk, and one write, for each byte.
    Bytes,
    /// Without chunks: the connection's end is the body's.
    UntilClose,
}

fn wire(transcript: &Transcript, cut: Cut) -> Vec<Vec<u8>> {
    if !transcript.is_stream() {
        let fields = [("content-type", transcript.content_type)];
        return vec![response(200, &fields, &transcript.body)];
    }
    let head = |framing: &str| {
        let content_type = transcript.content_type;
        format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n").into_bytes()
    };
    let pieces: Vec<&[u8]> = match cut {
        Cut::Whole | Cut::UntilClose => vec![&transcript.body],
        Cut::Events => events(&transcript.body),
        Cut::Bytes => transcript.body.chunks(1).collect(),
    };
    if matches!(cut, Cut::UntilClose) {
        return vec![head("connection: close"), transcript.body.clone()];
    }
    let mut wire = vec![head("transfer-encoding: chunked")];
    wire.extend(pieces.into_iter().map(chunk));
    wire.push(LAST_CHUNK.to_vec());
    wire
}

/// The events of a stream, each with its empty line.
fn events(body: &[u8]) -> Vec<&[u8]> {
    let mut events = Vec::new();
    let mut rest = body;
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        while let Some(at) = find(rest, end) {
            let (event, left) = rest.split_at(at + end.len());
            events.push(event);
            rest = left;
        }
    }
    if !rest.is_empty() {
        events.push(rest);
    }
    events
}

fn assert_usage(record: &Value, transcript: &Transcript, what: &str) {
    let Some(expected) = transcript.usage else {
        assert_ne!(record["known"], "final", "{what}: {record}");
        return;
    };
    for (member, count) in [
        ("input_tokens", expected.input),
        ("cached_tokens", expected.cached),
        ("output_tokens", expected.output),
        ("reasoning_tokens", expected.reasoning),
    ] {
        assert_eq!(record[member], count, "{member}, {what}: {record}");
    }
    assert_eq!(record["known"], "final", "{what}: {record}");
}

#[test]
fn what_is_metered_is_what_the_provider_counted() {
    let mut all = transcripts::all();
    // Of a stream that reports a failure, or breaks off, the gateway makes something else.
    let is_completed = |one: &Transcript| one.terminal.as_deref() == Some("completed");
    all.retain(|one| !one.is_stream() || is_completed(one));
    assert!(all.len() >= 20, "{} transcripts", all.len());
    let all = Arc::new(all);
    let cuts = [Cut::Whole, Cut::Events, Cut::Bytes, Cut::UntilClose];
    let served = Arc::clone(&all);
    let upstream = Upstream::with(
        Options {
            at_head: false,
            record: false,
        },
        move |exchange| {
            let wanted = exchange.request.head.value("x-codex-wanted");
            let (index, cut) = wanted
                .and_then(|w| w.split_once('.'))
                .expect("what is wanted");
            let transcript = &served[index.parse::<usize>().expect("a number")];
            let cut = cuts[cut.parse::<usize>().expect("a number")];
            for piece in wire(transcript, cut) {
                exchange.send(&piece);
            }
            if matches!(cut, Cut::UntilClose) && transcript.is_stream() {
                exchange.close();
            }
        },
    );
    let gateway = Gateway::start(&Config::simple(upstream.address()));
    let mut ids = Vec::new();
    for (index, transcript) in all.iter().enumerate() {
        for (cut_index, cut) in cuts.iter().enumerate() {
            if cut_index > 0 && !transcript.is_stream() {
                continue;
            }
            let id = format!("{}-{cut_index}", transcript.name);
            let what = format!("{} {cut:?}", transcript.name);
            let body = format!(
                r#"{{"model":"gpt-5","stream":{},"store":false,"input":"hi"}}"#,
                transcript.is_stream()
            );
            let request = Request::post(&transcript.path, body)
                .field("X-Codex-Wanted", &format!("{index}.{cut_index}"))
                .id(&id);
            let answer = gateway.call(&request);
            assert_eq!(answer.status(), 200, "{what}");
            assert_eq!(answer.ending, Ending::Complete, "{what}");
            assert!(
                answer.payload == transcript.body,
                "{what}: {}",
                lossy(&answer.payload)
            );
            assert_usage(&gateway.logged(&id), transcript, &what);
            ids.push((id, index));
        }
    }
    // The journal says the same as the log.
    let done = relay_tests::eventually("the journal has all of them", || {
        let done = gateway.command(&["audit", "query", "--format", "json", "--limit", "10000"]);
        (done.output.lines().count() >= ids.len()).then_some(done)
    });
    let records: Vec<Value> = done
        .output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    for (id, index) in &ids {
        let record = records.iter().find(|record| record["request_id"] == **id);
        assert_usage(record.expect("a record of each"), &all[*index], id);
    }
}
