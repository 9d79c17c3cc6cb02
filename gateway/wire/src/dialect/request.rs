//! What the gateway wants to know of a request body, read as it passes.

use super::decode::Source;
use super::usage_chunk::Edit;
use crate::json::{Found, JsonError, JsonScan, Paths};
use std::ops::Range;

static PATHS: Paths = Paths::new(&[
    &["model"],
    &["prompt_cache_key"],
    &["previous_response_id"],
    &["type"],
    &["stream"],
    &["store"],
    &["background"],
    &["stream_options"],
    &["stream_options", "include_usage"],
    &["max_output_tokens"],
    &["max_completion_tokens"],
    &["max_tokens"],
    // Google reads members under either of their names (ProtoJSON).
    &["generationConfig", "maxOutputTokens"],
    &["generation_config", "max_output_tokens"],
    &["n"],
    &["generationConfig", "candidateCount"],
    &["generation_config", "candidate_count"],
]);
const MODEL: usize = 0;
const PROMPT_CACHE_KEY: usize = 1;
const PREVIOUS_RESPONSE_ID: usize = 2;
const TYPE: usize = 3;
/// The strings come first.
const STRINGS: usize = 4;
const STREAM: usize = 4;
const STORE: usize = 5;
const BACKGROUND: usize = 6;
const STREAM_OPTIONS: usize = 7;
const INCLUDE_USAGE: usize = 8;
/// How many tokens an answer may have at most.
const OUTPUT_TOKENS_MAX: Range<usize> = 9..14;
/// How many answers are wanted, each of which may have so many.
const ANSWERS: Range<usize> = 14..17;

/// A maximum that cannot be read is one all the same; whoever can read it may find this in it.
const OUTPUT_TOKENS_UNREADABLE: u64 = u32::MAX as u64;

/// Longer model names and keys are of no use to anybody.
const CAPTURE_BYTES_MAX: usize = 1024;

/// What the gateway wants to know of a request body. Nothing is known of one that had an error.
#[derive(Debug)]
pub struct RequestScan {
    source: Source,
    error: Option<ScanError>,
    /// Of the members that are strings: the text, unescaped, and of which occurrence it is.
    texts: [(u32, Option<Box<str>>); STRINGS],
}

/// Encodings of a request body that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ContentCoding {
    Identity,
    Gzip,
    Zstd,
}

/// Why nothing can be concluded from a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ScanError {
    Json(JsonError),
    /// The compressed data is damaged, or needs a window of more than 8 MiB.
    Compression,
    /// Decoded, the body exceeds the limit.
    DecodedTooLarge,
    /// `model` is there twice, or is not a string of at most 1 KiB.
    AmbiguousModel,
}

impl From<JsonError> for ScanError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl RequestScan {
    /// A scan of a body in this coding, decoding at most `decoded_bytes_max` bytes.
    pub fn new(coding: ContentCoding, depth_max: usize, decoded_bytes_max: u64) -> Self {
        let scan = JsonScan::new(&PATHS, depth_max, CAPTURE_BYTES_MAX);
        let source = match coding {
            ContentCoding::Identity => Source::identity(scan),
            ContentCoding::Gzip => Source::gzip(scan, decoded_bytes_max),
            ContentCoding::Zstd => Source::zstd(scan, decoded_bytes_max),
        };
        Self {
            source,
            error: None,
            texts: Default::default(),
        }
    }

    /// Scans the next piece of the body as it is on the wire. The first error sticks.
    ///
    /// # Errors
    /// See `ScanError`.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        self.checked(|source| source.feed(piece))
    }

    /// The body is over.
    ///
    /// # Errors
    /// It was not a complete JSON object, or one of the earlier errors.
    pub fn finish(&mut self) -> Result<(), ScanError> {
        self.checked(|source| {
            source.finish()?;
            if source.scan().is_complete() {
                Ok(())
            } else {
                Err(JsonError::Invalid.into())
            }
        })
    }

    /// `model`, unescaped.
    pub fn model(&self) -> Option<&str> {
        self.text(MODEL)
    }

    /// `stream`, false if it is not there. Of several the last counts.
    pub fn stream(&self) -> bool {
        self.error.is_none() && self.source.scan().found(STREAM).as_bool() == Some(true)
    }

    /// `prompt_cache_key`. Of several the last counts.
    pub fn prompt_cache_key(&self) -> Option<&str> {
        self.text(PROMPT_CACHE_KEY)
    }

    /// `previous_response_id`. Of several the last counts.
    pub fn previous_response_id(&self) -> Option<&str> {
        self.text(PREVIOUS_RESPONSE_ID)
    }

    /// `type`, which says of a message what it is for. `None` also where it is there twice: nobody knows which one counts.
    pub fn message_type(&self) -> Option<&str> {
        let is_clear = self.source.scan().found(TYPE).times == 1;
        self.text(TYPE).filter(|_| is_clear)
    }

    /// The response may be referred to later on: `store` is not false. Of several the last counts.
    pub fn stores_response(&self) -> bool {
        self.error.is_some() || self.source.scan().found(STORE).as_bool() != Some(false)
    }

    /// The provider is to work on the request in the background: the answer is fetched later on, by other requests. Of several
    /// `background` the last counts.
    pub fn background(&self) -> bool {
        self.error.is_none() && self.source.scan().found(BACKGROUND).as_bool() == Some(true)
    }

    /// How many bytes the body has so far, decoded.
    pub fn decoded_bytes(&self) -> u64 {
        self.source.decoded_bytes()
    }

    /// How many tokens the request lets the provider write, in whichever dialect it says so: all the answers that it asks for
    /// together. Where it says several things, the largest, because this is what may become due; where it cannot be read
    /// what it says, `u32::MAX` for each answer.
    pub fn output_tokens_max(&self) -> Option<u64> {
        if self.error.is_some() {
            return None;
        }
        let scan = self.source.scan();
        let said = |places: Range<usize>| places.map(|index| scan.found(index));
        let answers = said(ANSWERS).filter_map(Found::as_count).max();
        let tokens = said(OUTPUT_TOKENS_MAX)
            .filter(|found| found.is_not_null())
            .map(|found| found.as_count().unwrap_or(OUTPUT_TOKENS_UNREADABLE))
            .max()?;
        Some(tokens.saturating_mul(answers.unwrap_or(1).max(1)))
    }

    /// How a complete request for a Chat stream also becomes one for its usage: where bytes of the body as it was fed, which
    /// has no content coding, are replaced. `None` if it is one already, or cannot be made one with certainty.
    pub fn usage_request_edit(&self) -> Option<Edit> {
        let scan = self.source.scan();
        if self.error.is_some() || !self.source.is_identity() || !scan.is_complete() {
            return None;
        }
        Edit::asking_for_usage(
            scan.found(STREAM),
            scan.found(STREAM_OPTIONS),
            scan.found(INCLUDE_USAGE),
        )
    }

    fn checked(
        &mut self,
        step: impl FnOnce(&mut Source) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        if self.error.is_none() {
            let stepped = step(&mut self.source);
            self.read_texts();
            self.error = stepped.and_then(|()| self.check_model()).err();
        }
        self.error.map_or(Ok(()), Err)
    }

    fn check_model(&self) -> Result<(), ScanError> {
        let model = self.source.scan().found(MODEL);
        let begins_otherwise = model.raw.first().is_some_and(|&byte| byte != b'"');
        let is_no_string = model.complete && self.texts[MODEL].1.is_none();
        if model.times > 1 || begins_otherwise || is_no_string {
            return Err(ScanError::AmbiguousModel);
        }
        Ok(())
    }

    /// Keeps the text of strings, which are asked for more than once.
    fn read_texts(&mut self) {
        for (index, (occurrence, text)) in self.texts.iter_mut().enumerate() {
            let found = self.source.scan().found(index);
            if found.complete && found.times != *occurrence {
                *occurrence = found.times;
                *text = found.as_str().map(Into::into);
            }
        }
    }

    fn text(&self, index: usize) -> Option<&str> {
        let is_known = self.error.is_none() && self.source.scan().found(index).complete;
        self.texts[index].1.as_deref().filter(|_| is_known)
    }
}
