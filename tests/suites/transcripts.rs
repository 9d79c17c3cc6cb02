//! What the dialects read of the recorded answers, at every way of splitting them in two.

use relay_tests::transcripts::{self, Counted, Transcript};
use relay_wire::dialect::{
    AnswerObserver, Dialect, Passed, StreamObserver, Terminal, Usage, UsageChunkFilter,
};
use std::thread;

const EVENT_BYTES_MAX: u64 = 1 << 20;
const DEPTH_MAX: usize = 64;

/// What was read of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    usage: Option<Usage>,
    terminal: Option<Terminal>,
    events: u64,
    estimated_output_tokens: u64,
}

fn dialect(transcript: &Transcript) -> Dialect {
    let (path, _) = transcript
        .path
        .split_once('?')
        .unwrap_or((&transcript.path, ""));
    let dialect = Dialect::of_path(path.as_bytes());
    assert_eq!(dialect.as_str(), transcript.dialect, "{}", transcript.name);
    dialect
}

fn told(transcript: &Transcript, pieces: &[&[u8]]) -> Told {
    let dialect = dialect(transcript);
    if transcript.is_stream() {
        let mut observer = StreamObserver::new(dialect, EVENT_BYTES_MAX);
        pieces.iter().for_each(|piece| observer.observe(piece));
        Told {
            usage: observer.usage(),
            terminal: observer.terminal_at_end(),
            events: observer.events(),
            estimated_output_tokens: observer.estimated_output_tokens(),
        }
    } else {
        let mut observer = AnswerObserver::new(dialect, DEPTH_MAX);
        pieces.iter().for_each(|piece| observer.observe(piece));
        Told {
            usage: observer.usage(),
            terminal: None,
            events: 0,
            estimated_output_tokens: observer.estimated_output_tokens(),
        }
    }
}

fn as_written(transcript: &Transcript) -> (Option<Usage>, Option<Terminal>, u64) {
    let usage = |counted: Counted| Usage {
        input_tokens: counted.input,
        cached_tokens: counted.cached,
        output_tokens: counted.output,
        reasoning_tokens: counted.reasoning,
    };
    let terminal = transcript
        .terminal
        .as_deref()
        .map(|terminal| match terminal {
            "completed" => Terminal::Completed,
            "failed" => Terminal::Failed,
            other => panic!("{}: {other}", transcript.name),
        });
    (transcript.usage.map(usage), terminal, transcript.events)
}

/// What a filter lets pass.
fn passed(pieces: &[&[u8]]) -> Vec<u8> {
    let mut filter = UsageChunkFilter::new();
    let mut passed = Vec::new();
    for piece in pieces {
        let mut parts = Vec::new();
        filter.feed(piece, &mut |part| parts.push(part));
        for part in parts {
            passed.extend_from_slice(match part {
                Passed::Kept(range) => &filter.kept()[range],
                Passed::Piece(range) => &piece[range],
            });
        }
        filter.forget_passed();
    }
    let mut rest = 0..0;
    filter.finish(&mut |part| match part {
        Passed::Kept(range) => rest = range,
        Passed::Piece(range) => panic!("there is no piece: {range:?}"),
    });
    passed.extend_from_slice(&filter.kept()[rest]);
    passed
}

/// Calls it with the body whole, bytewise, in pieces of a few sizes, and at every split in two.
fn at_every_split(body: &[u8], mut check: impl FnMut(&[&[u8]], &str)) {
    for piece_bytes in [1, 2, 3, 7, 16, 64, 1000, body.len()] {
        let pieces: Vec<&[u8]> = body.chunks(piece_bytes).collect();
        check(&pieces, &format!("in pieces of {piece_bytes}"));
    }
    for at in 1..body.len() {
        let (before, behind) = body.split_at(at);
        check(&[before, behind], &format!("split at {at}"));
    }
}

/// Calls it for each of them, on two threads.
fn for_each(transcripts: &[Transcript], check: impl Fn(&Transcript) + Sync) {
    let (even, odd) = (0..transcripts.len()).partition::<Vec<_>, _>(|index| index % 2 == 0);
    thread::scope(|scope| {
        for half in [even, odd] {
            let check = &check;
            scope.spawn(move || {
                for index in half {
                    check(&transcripts[index]);
                }
            });
        }
    });
}

#[test]
fn all_dialects_have_transcripts_with_and_without_an_end() {
    for name in ["responses", "chat_completions", "messages", "gemini"] {
        let transcripts = transcripts::of_dialect(name);
        let has = |wanted: &dyn Fn(&Transcript) -> bool| transcripts.iter().any(wanted);
        assert!(has(&|transcript| !transcript.is_stream()), "{name}");
        assert!(has(
            &|transcript| transcript.is_stream() && transcript.terminal.is_none()
        ));
        for terminal in ["completed", "failed"] {
            let terminal = Some(terminal.to_owned());
            assert!(has(&|transcript| transcript.terminal == terminal), "{name}");
        }
    }
}

#[test]
fn usage_is_what_the_provider_counted_at_every_split() {
    for_each(&transcripts::all(), |transcript| {
        let whole = told(transcript, &[&transcript.body]);
        assert_eq!(
            (whole.usage, whole.terminal, whole.events),
            as_written(transcript),
            "{}",
            transcript.name
        );
        at_every_split(&transcript.body, |pieces, splitting| {
            assert_eq!(
                told(transcript, pieces),
                whole,
                "{} {splitting}",
                transcript.name
            );
        });
    });
}

#[test]
fn an_estimate_begins_anew_at_what_was_counted() {
    for transcript in transcripts::all() {
        let Some(usage) = transcript.usage.filter(|_| transcript.is_stream()) else {
            continue;
        };
        let estimated = told(&transcript, &[&transcript.body]).estimated_output_tokens;
        let is_complete = transcript.terminal.as_deref() == Some("completed");
        // An event or two may come behind the last count; where the stream was cut, more of them.
        let beyond_max = if is_complete { 20 } else { 60 };
        assert!(
            (usage.output..=usage.output + beyond_max).contains(&estimated),
            "{}: {estimated}",
            transcript.name
        );
    }
}

#[test]
fn all_but_the_usage_chunk_passes_unchanged_at_every_split() {
    for_each(&transcripts::of_dialect("chat_completions"), |transcript| {
        if !transcript.is_stream() {
            return;
        }
        let wanted = transcript.body_without_usage_chunk();
        at_every_split(&transcript.body, |pieces, splitting| {
            assert_eq!(passed(pieces), wanted, "{} {splitting}", transcript.name);
        });
    });
    // Of some there is something to take out, of some there is not.
    let is_changed = |transcript: &Transcript| {
        transcript.is_stream() && transcript.body_without_usage_chunk() != transcript.body
    };
    let transcripts = transcripts::of_dialect("chat_completions");
    let changed = transcripts.iter().filter(|t| is_changed(t)).count();
    assert!((5..transcripts.len()).contains(&changed), "{changed}");
}
