//! The JSON answer: the same bytes at both ends, but for the identity of the request.

use std::rc::Rc;

use crate::framing::hex16;

const BEFORE_ID: &str = r#"{"id":"resp_"#;
const BEFORE_TEXT: &str = concat!(
    r#"","object":"response","created_at":1767225600,"status":"completed","model":"bench-model","output":[{"#,
    r#""type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","#,
    r#""annotations":[],"text":""#
);
const AFTER_TEXT: &str = concat!(
    r#""}]}],"usage":{"input_tokens":143,"input_tokens_details":{"cached_tokens":128},"output_tokens":96,"#,
    r#""output_tokens_details":{"reasoning_tokens":0},"total_tokens":239}}"#
);
const ID_BYTES: usize = 16;

/// A JSON answer of one length; cheap to clone.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: Rc<[u8]>,
}

impl Answer {
    /// The shortest answer that there is.
    pub const BYTES_MIN: usize = BEFORE_ID.len() + ID_BYTES + BEFORE_TEXT.len() + AFTER_TEXT.len();
    /// Where the bytes begin that are the same for every identity.
    pub const COMMON_FROM: usize = BEFORE_ID.len() + ID_BYTES;

    /// The answer of `body_bytes`, which must be at least [`Self::BYTES_MIN`].
    ///
    /// # Errors
    /// The length is too small.
    pub fn new(body_bytes: usize) -> Result<Self, String> {
        let text_bytes = body_bytes
            .checked_sub(Self::BYTES_MIN)
            .ok_or_else(|| format!("an answer has at least {} bytes", Self::BYTES_MIN))?;
        let text = filler(text_bytes);
        let id = "0".repeat(ID_BYTES);
        let bytes = [BEFORE_ID, &id, BEFORE_TEXT, &text, AFTER_TEXT].concat();
        Ok(Self {
            bytes: bytes.into_bytes().into(),
        })
    }

    /// All bytes; those before [`Self::COMMON_FROM`] come from [`Self::head`] instead.
    #[must_use]
    pub fn bytes(&self) -> &Rc<[u8]> {
        &self.bytes
    }

    /// The bytes before [`Self::COMMON_FROM`].
    #[must_use]
    pub fn head(id: u64) -> [u8; Self::COMMON_FROM] {
        let mut head = [0; Self::COMMON_FROM];
        head[..BEFORE_ID.len()].copy_from_slice(BEFORE_ID.as_bytes());
        head[BEFORE_ID.len()..].copy_from_slice(&hex16(id));
        head
    }

    /// Checks the piece of an answer that begins `at` bytes into it.
    ///
    /// # Errors
    /// Names the first wrong byte.
    pub fn check(&self, id: u64, at: usize, piece: &[u8]) -> Result<(), String> {
        let end = at + piece.len();
        if end > self.bytes.len() {
            return Err(format!(
                "the answer is longer than its {} bytes",
                self.bytes.len()
            ));
        }
        let own = piece.len().min(Self::COMMON_FROM.saturating_sub(at));
        let (own, common) = piece.split_at(own);
        let right = (own.is_empty() || own == &Self::head(id)[at..at + own.len()])
            && *common == self.bytes[end - common.len()..end];
        if right {
            return Ok(());
        }
        let mut expected = self.bytes.to_vec();
        expected[..Self::COMMON_FROM].copy_from_slice(&Self::head(id));
        Err(mismatch(&expected[at..end], piece, at))
    }
}

/// Names the first byte in which two pieces differ.
pub(crate) fn mismatch(expected: &[u8], got: &[u8], at: usize) -> String {
    let same = expected
        .iter()
        .zip(got)
        .take_while(|(one, other)| one == other)
        .count();
    let around = |bytes: &[u8]| {
        let from = same.saturating_sub(16);
        bytes[from..bytes.len().min(same + 16)]
            .escape_ascii()
            .to_string()
    };
    format!(
        "wrong byte at {}: expected \"{}\", got \"{}\"",
        at + same,
        around(expected),
        around(got)
    )
}

/// Letters in an order that does not repeat, so that bytes which are lost, doubled or moved are noticed.
pub(crate) fn filler(bytes: usize) -> String {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // A space in place of every fifth letter or so makes words of it.
            match (state >> 32) % 32 {
                letter @ 0..26 => char::from(b'a' + letter as u8),
                _ => ' ',
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(answer: &Answer, id: u64) -> Vec<u8> {
        let common = &answer.bytes()[Answer::COMMON_FROM..];
        [&Answer::head(id)[..], common].concat()
    }

    #[test]
    fn answer_is_json_of_exactly_the_length_asked_for() {
        for length in [Answer::BYTES_MIN, 1_024, 1 << 20] {
            let answer = Answer::new(length).unwrap();
            let bytes = whole(&answer, 0xabc);
            assert_eq!(bytes.len(), length);
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["id"], "resp_0000000000000abc");
            assert_eq!(json["usage"]["total_tokens"], 239);
        }
        assert!(Answer::new(Answer::BYTES_MIN - 1).is_err());
    }

    #[test]
    fn right_bytes_pass_however_they_are_cut() {
        let answer = Answer::new(1_024).unwrap();
        let bytes = whole(&answer, 99);
        for size in [1, 7, 28, 29, 500, 1_024] {
            for (index, piece) in bytes.chunks(size).enumerate() {
                assert_eq!(answer.check(99, index * size, piece), Ok(()));
            }
        }
    }

    #[test]
    fn one_wrong_byte_is_found_wherever_it_is() {
        let answer = Answer::new(1_024).unwrap();
        for at in 0..1_024 {
            let mut bytes = whole(&answer, 99);
            bytes[at] ^= 0x20;
            let error = answer.check(99, 0, &bytes).unwrap_err();
            assert!(
                error.starts_with(&format!("wrong byte at {at}:")),
                "{error}"
            );
        }
    }

    #[test]
    fn answer_of_another_request_or_with_more_bytes_is_wrong() {
        let answer = Answer::new(1_024).unwrap();
        let bytes = whole(&answer, 99);
        assert!(answer.check(98, 0, &bytes).is_err());
        assert!(answer.check(99, 1, &bytes[..1_023]).is_err());
        assert!(answer.check(99, 1_024, b"x").is_err());
    }
}
