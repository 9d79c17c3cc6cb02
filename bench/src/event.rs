//! The events of a stream. Each carries its number, the identity of its stream and the moment at which it was sent, in
//! fields of fixed width, so that both ends patch and compare templates and parse nothing.

use crate::answer::{filler, mismatch};
use crate::framing::{hex16, parse_hex16};

/// Added to a sequence number, so that it has the same width throughout without the leading zeros that JSON forbids.
const SEQUENCE_BASE: u32 = 10_000_000;
const SEQUENCE_BYTES: usize = 8;
const HEX_BYTES: usize = 16;

/// A text with three holes, in this order: number, identity, time of sending.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    sequence_at: usize,
    id_at: usize,
    sent_at: usize,
}

impl Template {
    fn new(before_sequence: &str, before_id: &str, before_sent: &str, rest: &str) -> Self {
        let sequence_at = before_sequence.len();
        let id_at = sequence_at + SEQUENCE_BYTES + before_id.len();
        let sent_at = id_at + HEX_BYTES + before_sent.len();
        let hole = "0".repeat(HEX_BYTES);
        let bytes = [
            before_sequence,
            &hole[..SEQUENCE_BYTES],
            before_id,
            &hole,
            before_sent,
            &hole,
            rest,
        ]
        .concat()
        .into_bytes();
        Self {
            bytes,
            sequence_at,
            id_at,
            sent_at,
        }
    }

    /// The same text as one chunk of the chunked coding (RFC 9112, 7.1), followed by `after`.
    #[must_use]
    pub fn chunked(&self, after: &str) -> Self {
        let size = format!("{:x}\r\n", self.bytes.len());
        Self {
            bytes: [
                size.as_bytes(),
                &self.bytes,
                b"\r\n".as_slice(),
                after.as_bytes(),
            ]
            .concat(),
            sequence_at: self.sequence_at + size.len(),
            id_at: self.id_at + size.len(),
            sent_at: self.sent_at + size.len(),
        }
    }

    /// Length of the text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the text to `out`.
    pub fn write(&self, id: u64, sequence: u32, sent_ns: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let text = &mut out[start..];
        text[self.sequence_at..][..SEQUENCE_BYTES].copy_from_slice(&decimal8(sequence));
        text[self.id_at..][..HEX_BYTES].copy_from_slice(&hex16(id));
        text[self.sent_at..][..HEX_BYTES].copy_from_slice(&hex16(sent_ns));
    }

    /// Compares a text of this template's length and reads the time at which it was sent.
    ///
    /// # Errors
    /// Names the first wrong byte.
    pub fn check(&self, id: u64, sequence: u32, text: &[u8]) -> Result<u64, String> {
        let same = |from: usize, to: usize| text[from..to] == self.bytes[from..to];
        let after_sequence = self.sequence_at + SEQUENCE_BYTES;
        let after_id = self.id_at + HEX_BYTES;
        let after_sent = self.sent_at + HEX_BYTES;
        let right = same(0, self.sequence_at)
            && text[self.sequence_at..after_sequence] == decimal8(sequence)
            && same(after_sequence, self.id_at)
            && text[self.id_at..after_id] == hex16(id)
            && same(after_id, self.sent_at)
            && same(after_sent, text.len());
        let sent = &text[self.sent_at..after_sent];
        match parse_hex16(sent) {
            Some(sent_ns) if right => Ok(sent_ns),
            sent_ns => {
                let mut expected = Vec::new();
                self.write(id, sequence, sent_ns.unwrap_or(0), &mut expected);
                let error = mismatch(&expected, text, 0);
                Err(format!("event {sequence}: {error}"))
            }
        }
    }
}

fn decimal8(sequence: u32) -> [u8; SEQUENCE_BYTES] {
    let mut rest = SEQUENCE_BASE + sequence;
    let mut digits = [b'0'; SEQUENCE_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// The events of all streams whose deltas have one length.
#[derive(Clone, Debug)]
pub struct EventTexts {
    /// The first event.
    pub created: Template,
    /// Every event between the first and the last.
    pub delta: Template,
    /// The last event, with the usage.
    pub completed: Template,
}

impl EventTexts {
    /// Builds the texts; the data of a delta, without field name and line ends, has `payload_bytes`.
    ///
    /// # Errors
    /// The length is too small for the fields of a delta.
    pub fn new(payload_bytes: usize) -> Result<Self, String> {
        let created = Template::new(
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":",
            ",\"response\":{\"id\":\"resp_",
            "\",\"object\":\"response\",\"status\":\"in_progress\",\"model\":\"bench-model\",\"metadata\":{\"sent\":\"",
            "\"},\"output\":[],\"usage\":null}}\n\n",
        );
        let completed = Template::new(
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":",
            ",\"response\":{\"id\":\"resp_",
            "\",\"object\":\"response\",\"status\":\"completed\",\"model\":\"bench-model\",\"metadata\":{\"sent\":\"",
            concat!(
                "\"},\"output\":[],\"usage\":{\"input_tokens\":143,\"input_tokens_details\":{\"cached_tokens\":128},",
                "\"output_tokens\":96,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":239}}}\n\n"
            ),
        );
        Ok(Self {
            created,
            delta: Self::delta(payload_bytes)?,
            completed,
        })
    }

    fn delta(payload_bytes: usize) -> Result<Template, String> {
        const LINES: [&str; 2] = ["event: response.output_text.delta\n", "data: "];
        const BEFORE_SEQUENCE: &str =
            "{\"type\":\"response.output_text.delta\",\"sequence_number\":";
        const BEFORE_ID: &str = ",\"item_id\":\"msg_";
        const BEFORE_SENT: &str = "\",\"output_index\":0,\"content_index\":0,\"delta\":\"";
        const END: &str = "\"}";
        let least = [BEFORE_SEQUENCE, BEFORE_ID, BEFORE_SENT, END]
            .concat()
            .len()
            + SEQUENCE_BYTES
            + 2 * HEX_BYTES;
        let text_bytes = payload_bytes
            .checked_sub(least)
            .ok_or_else(|| format!("the data of an event has at least {least} bytes"))?;
        Ok(Template::new(
            &[LINES[0], LINES[1], BEFORE_SEQUENCE].concat(),
            BEFORE_ID,
            BEFORE_SENT,
            &[&filler(text_bytes), END, "\n\n"].concat(),
        ))
    }

    /// The text with this number in a stream of so many deltas; the first event has the number 0.
    #[must_use]
    pub fn of(&self, sequence: u32, deltas: u32) -> &Template {
        match sequence {
            0 => &self.created,
            _ if sequence <= deltas => &self.delta,
            _ => &self.completed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(template: &Template) -> Vec<u8> {
        let mut text = Vec::new();
        template.write(0xfeed, 41, 123_456_789, &mut text);
        text
    }

    #[test]
    fn events_are_what_the_provider_sends() {
        let texts = EventTexts::new(200).unwrap();
        for (sequence, name) in [
            (0, "response.created"),
            (1, "response.output_text.delta"),
            (300, "response.output_text.delta"),
            (301, "response.completed"),
        ] {
            let text = String::from_utf8(text(texts.of(sequence, 300))).unwrap();
            let (first, rest) = text.split_once('\n').unwrap();
            assert_eq!(first, format!("event: {name}"));
            let data = rest
                .strip_prefix("data: ")
                .unwrap()
                .strip_suffix("\n\n")
                .unwrap();
            let json: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(json["type"], name);
            assert_eq!(json["sequence_number"], 10_000_041);
            if name.ends_with("delta") {
                assert_eq!(data.len(), 200);
            }
        }
        assert!(EventTexts::new(100).is_err());
    }

    #[test]
    fn time_comes_back_and_any_wrong_byte_is_found() {
        let texts = EventTexts::new(200).unwrap();
        for template in [&texts.created, &texts.delta, &texts.completed] {
            let right = text(template);
            assert_eq!(right.len(), template.size());
            assert_eq!(template.check(0xfeed, 41, &right), Ok(123_456_789));
            for at in 0..right.len() {
                let mut wrong = right.clone();
                wrong[at] = b'\x07';
                let error = template.check(0xfeed, 41, &wrong).unwrap_err();
                assert!(error.contains("wrong byte"), "{error}");
            }
        }
    }

    #[test]
    fn event_of_another_stream_or_out_of_order_is_wrong() {
        let texts = EventTexts::new(200).unwrap();
        let right = text(&texts.delta);
        assert!(texts.delta.check(0xfeee, 41, &right).is_err());
        assert!(texts.delta.check(0xfeed, 40, &right).is_err());
        assert!(texts.delta.check(0xfeed, 42, &right).is_err());
    }

    #[test]
    fn chunk_holds_the_event_and_nothing_else() {
        let texts = EventTexts::new(200).unwrap();
        let event = text(&texts.delta);
        let chunk = text(&texts.delta.chunked("0\r\n\r\n"));
        let expected = [
            format!("{:x}\r\n", event.len()).as_bytes(),
            &event,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        assert_eq!(chunk, expected);
    }
}
