//! What must come back, and the check that it does.

use std::borrow::Cow;

use super::Tally;
use crate::answer::Answer;
use crate::event::EventTexts;
use crate::framing::{BodyLength, ChunkDecoder, Fields};
use crate::plan::{Plan, Shape};

/// The bytes of all answers of a run.
#[derive(Debug)]
pub(crate) enum Expected {
    Json(Answer),
    Sse(EventTexts),
}

impl Expected {
    pub(crate) fn new(shape: Shape) -> Result<Self, String> {
        match shape {
            Shape::Json { body_bytes } => Answer::new(body_bytes as usize).map(Self::Json),
            Shape::Sse { payload_bytes, .. } => {
                EventTexts::new(payload_bytes as usize).map(Self::Sse)
            }
        }
    }
}

/// How far one answer has come.
#[derive(Debug)]
pub(crate) struct Answering {
    plan: Plan,
    begun_ns: u64,
    part: Part,
    closes: bool,
}

#[derive(Debug)]
enum Part {
    Head(Vec<u8>),
    Json { at: usize },
    Sse(Box<Events>),
    Done,
}

#[derive(Debug, Default)]
struct Events {
    decoder: ChunkDecoder,
    next: u32,
    /// The beginning of an event whose end has not come yet.
    partial: Vec<u8>,
}

/// An answer's head is not longer.
const HEAD_BYTES_MAX: usize = 32 * 1024;

impl Answering {
    pub(crate) fn new(plan: Plan, begun_ns: u64) -> Self {
        Self {
            plan,
            begun_ns,
            part: Part::Head(Vec::new()),
            closes: false,
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(&self.part, Part::Head(bytes) if bytes.is_empty())
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.part, Part::Done)
    }

    /// The answer said that the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// Checks what arrived at `now_ns`.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        now_ns: u64,
        expected: &Expected,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let bytes = match &mut self.part {
            Part::Head(earlier) if earlier.is_empty() => Cow::Borrowed(input),
            Part::Head(earlier) => {
                earlier.extend_from_slice(input);
                Cow::Owned(std::mem::take(earlier))
            }
            _ => return self.feed_body(input, now_ns, expected, tally),
        };
        match self.read_head(&bytes, expected)? {
            Some(head_bytes) => self.feed_body(&bytes[head_bytes..], now_ns, expected, tally),
            None => {
                self.part = Part::Head(bytes.into_owned());
                Ok(())
            }
        }
    }

    /// Reads the head if it is there whole, and returns its length.
    fn read_head(&mut self, bytes: &[u8], expected: &Expected) -> Result<Option<usize>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let head_bytes = match head.parse(bytes) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) => return Err("the head has no end".into()),
            Err(error) => {
                return Err(format!(
                    "the head cannot be read: {error}: {}",
                    shown(bytes)
                ));
            }
        };
        if head.code != Some(200) {
            return Err(format!("not 200: {}", shown(bytes)));
        }
        let fields = Fields::read(head.headers)?;
        self.closes = fields.closes;
        self.part = match expected {
            Expected::Json(answer) if fields.length == BodyLength::Known(answer.bytes().len()) => {
                Part::Json { at: 0 }
            }
            Expected::Sse(_) if fields.length == BodyLength::Chunked && fields.event_stream => {
                Part::Sse(Box::default())
            }
            _ => return Err(format!("not the head of this answer: {}", shown(bytes))),
        };
        Ok(Some(head_bytes))
    }

    fn feed_body(
        &mut self,
        input: &[u8],
        now_ns: u64,
        expected: &Expected,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let id = self.plan.id;
        let done = match (&mut self.part, expected) {
            (Part::Json { at }, Expected::Json(answer)) => {
                answer.check(id, *at, input)?;
                *at += input.len();
                *at == answer.bytes().len()
            }
            (Part::Sse(events), Expected::Sse(texts)) => {
                let check = EventCheck {
                    plan: self.plan,
                    texts,
                    begun_ns: self.begun_ns,
                    now_ns,
                };
                events.feed(input, &check, tally)?
            }
            _ if input.is_empty() => false,
            _ => return Err(format!("bytes after the end: {}", shown(input))),
        };
        if done {
            self.part = Part::Done;
        }
        Ok(())
    }
}

struct EventCheck<'a> {
    plan: Plan,
    texts: &'a EventTexts,
    begun_ns: u64,
    now_ns: u64,
}

impl EventCheck<'_> {
    fn deltas(&self) -> u32 {
        match self.plan.shape {
            Shape::Sse { deltas, .. } => deltas,
            Shape::Json { .. } => 0,
        }
    }
}

impl Events {
    /// Returns whether the stream has ended as it should.
    fn feed(
        &mut self,
        input: &[u8],
        check: &EventCheck<'_>,
        tally: &mut Tally,
    ) -> Result<bool, String> {
        let (next, partial) = (&mut self.next, &mut self.partial);
        let used = self.decoder.decode(input, |mut data| {
            while !data.is_empty() {
                if *next > check.deltas() + 1 {
                    return Err(format!("bytes after the last event: {}", shown(data)));
                }
                let template = check.texts.of(*next, check.deltas());
                let missing = template.size() - partial.len();
                let (text, rest) = data.split_at(missing.min(data.len()));
                data = rest;
                let sent_ns = if text.len() < missing {
                    partial.extend_from_slice(text);
                    continue;
                } else if partial.is_empty() {
                    template.check(check.plan.id, *next, text)?
                } else {
                    partial.extend_from_slice(text);
                    let sent_ns = template.check(check.plan.id, *next, partial)?;
                    partial.clear();
                    sent_ns
                };
                if sent_ns < check.begun_ns || sent_ns > check.now_ns {
                    return Err(format!("event {next} was not sent at the time {sent_ns:x}"));
                }
                tally.event(check.now_ns - sent_ns);
                *next += 1;
            }
            Ok(())
        })?;
        if used < input.len() {
            return Err(format!("bytes after the end: {}", shown(&input[used..])));
        }
        if !self.decoder.is_done() {
            return Ok(false);
        }
        if *next == check.deltas() + 2 && partial.is_empty() {
            Ok(true)
        } else {
            Err(format!("the stream ended after {next} events"))
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(400)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u64 = 0x77;
    const DELTAS: u32 = 3;

    fn sse_shape() -> Shape {
        Shape::Sse {
            deltas: DELTAS,
            payload_bytes: 200,
            millirate: 1_000,
        }
    }

    fn sse_answer() -> Vec<u8> {
        let texts = EventTexts::new(200).unwrap();
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n"
            .to_vec();
        for sequence in 0..DELTAS + 2 {
            let chunk = texts.of(sequence, DELTAS).chunked("");
            chunk.write(ID, sequence, 1_000, &mut answer);
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        answer
    }

    fn json_answer() -> Vec<u8> {
        let answer = Answer::new(1_024).unwrap();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1024\r\n\r\n";
        let common = &answer.bytes()[Answer::COMMON_FROM..];
        [head.as_bytes(), &Answer::head(ID), common].concat()
    }

    fn feed(shape: Shape, answer: &[u8], piece_bytes: usize) -> Result<(bool, u64), String> {
        let expected = Expected::new(shape).unwrap();
        let mut tally = Tally::default();
        tally.start(0);
        let mut answering = Answering::new(Plan { id: ID, shape }, 500);
        for piece in answer.chunks(piece_bytes) {
            answering.feed(piece, 3_000, &expected, &mut tally)?;
        }
        Ok((answering.is_done(), tally.events()))
    }

    #[test]
    fn right_answers_pass_however_they_are_cut() {
        let json = Shape::Json { body_bytes: 1_024 };
        for piece_bytes in [1, 2, 3, 17, 100, 242, 5_000] {
            assert_eq!(feed(json, &json_answer(), piece_bytes), Ok((true, 0)));
            assert_eq!(feed(sse_shape(), &sse_answer(), piece_bytes), Ok((true, 5)));
        }
    }

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is() {
        let json = Shape::Json { body_bytes: 1_024 };
        for (shape, answer) in [(json, json_answer()), (sse_shape(), sse_answer())] {
            let body_at = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
            for at in body_at..answer.len() {
                for piece_bytes in [100, 5_000] {
                    let mut wrong = answer.clone();
                    wrong[at] = b'#';
                    assert!(feed(shape, &wrong, piece_bytes).is_err(), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn lost_doubled_and_additional_bytes_are_found() {
        let answer = sse_answer();
        let end = answer.len() - 5;
        assert_eq!(feed(sse_shape(), &answer[..end], 64), Ok((false, 5)));
        let additional = [&answer[..], b"H"].concat();
        assert!(feed(sse_shape(), &additional, 5_000).is_err());

        let size = EventTexts::new(200).unwrap().delta.chunked("").size();
        let last = EventTexts::new(200).unwrap().completed.chunked("").size();
        let delta_at = end - last - size;
        let lost = [&answer[..delta_at], &answer[delta_at + size..]].concat();
        assert!(feed(sse_shape(), &lost, 5_000).is_err());
        let doubled = [&answer[..delta_at + size], &answer[delta_at..]].concat();
        assert!(feed(sse_shape(), &doubled, 5_000).is_err());
        let ended_early = [&answer[..end - last], b"0\r\n\r\n"].concat();
        assert!(feed(sse_shape(), &ended_early, 5_000).is_err());
    }

    #[test]
    fn a_time_of_sending_that_cannot_be_is_found() {
        let expected = Expected::new(sse_shape()).unwrap();
        let answer = sse_answer();
        let plan = Plan {
            id: ID,
            shape: sse_shape(),
        };
        for (begun_ns, now_ns, possible) in
            [(0, 1_000, true), (1_001, 2_000, false), (0, 999, false)]
        {
            let mut answering = Answering::new(plan, begun_ns);
            let fed = answering.feed(&answer, now_ns, &expected, &mut Tally::default());
            assert_eq!(fed.is_ok(), possible, "{begun_ns} {now_ns}");
        }
    }

    #[test]
    fn other_status_length_or_type_is_an_error() {
        let json = Shape::Json { body_bytes: 1_024 };
        for (from, to) in [
            ("200 OK", "502 Bad Gateway"),
            ("length: 1024", "length: 1023"),
            ("content-length: 1024", "transfer-encoding: chunked"),
        ] {
            let answer = String::from_utf8(json_answer())
                .unwrap()
                .replacen(from, to, 1);
            assert!(feed(json, answer.as_bytes(), 5_000).is_err(), "{to}");
        }
        let answer = String::from_utf8(sse_answer()).unwrap();
        let plain = answer.replacen("event-stream", "plain", 1);
        assert!(feed(sse_shape(), plain.as_bytes(), 5_000).is_err());
    }
}
