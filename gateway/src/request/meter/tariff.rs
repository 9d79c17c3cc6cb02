//! What a request costs: as far as it can be said before, and once its answer is over.

use super::{BYTES_PER_TOKEN, Transcript};
use crate::config::policy::Price;
use crate::limits::{Consumption, Estimate};
use crate::request::Request;
use crate::request::forward::Ending;
use crate::usage::Known;
use crate::worker::Worker;
use relay_wire::dialect::{Dialect, RequestScan, Usage};
use relay_wire::head::Method;

/// What is charged for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expense {
    /// Nothing but the request itself: it is known that no model has anything to do with it.
    Nothing,
    /// What the provider says that it has used; where it does not say it, what follows from the length of the answer. How long
    /// a recording or a picture is says nothing of how many tokens it stands for.
    ByAnswer,
    /// What the provider says that it has used; where it does not say it, what follows from the length of what has passed.
    ByLength,
}

/// How what a request uses is found.
#[derive(Clone, Copy)]
pub struct Tariff {
    expense: Expense,
    price: Option<&'static Price>,
    /// Tokens that it has the model read, as the length of its text has it; of a text that has not come yet, at least so many.
    input_tokens: u64,
    /// Tokens that it lets the model write, as far as anybody knows.
    output_tokens: u64,
    /// The provider works on it in the background: whoever fetches what comes of it is charged for nothing.
    is_background: bool,
}

/// What is charged for a request that a provider has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// What it has used.
    pub used: Consumption,
    /// How that is known; `None`: it has used nothing, or nobody can say what.
    pub known: Option<Known>,
}

impl Tariff {
    /// For this request, which names this model.
    pub fn of(worker: &'static Worker, request: &Request<'_>, model: Option<&str>) -> Self {
        let expense = expense(request);
        let price = model
            .filter(|_| expense != Expense::Nothing)
            .and_then(|model| worker.policy.price(model));
        let text_bytes = match expense {
            Expense::ByLength => request.body.text_bytes(),
            Expense::Nothing | Expense::ByAnswer => 0,
        };
        let said = request.body.said();
        Self {
            expense,
            price,
            input_tokens: text_bytes.div_ceil(BYTES_PER_TOKEN),
            output_tokens: said
                .and_then(RequestScan::output_tokens_max)
                .unwrap_or(worker.policy.usage.output_tokens_assumed),
            is_background: said.is_some_and(RequestScan::background),
        }
    }

    /// For a message that asks for a response from this model, and is so long.
    pub fn of_message(
        worker: &'static Worker,
        said: &RequestScan,
        model: Option<&str>,
        text_bytes: u64,
    ) -> Self {
        Self {
            expense: Expense::ByLength,
            price: model.and_then(|model| worker.policy.price(model)),
            input_tokens: text_bytes.div_ceil(BYTES_PER_TOKEN),
            output_tokens: said
                .output_tokens_max()
                .unwrap_or(worker.policy.usage.output_tokens_assumed),
            is_background: false,
        }
    }

    /// For a response that nobody is known to have asked for, from this model.
    pub fn of_unasked(worker: &'static Worker, model: Option<&str>) -> Self {
        Self {
            expense: Expense::ByLength,
            price: model.and_then(|model| worker.policy.price(model)),
            input_tokens: 0,
            output_tokens: worker.policy.usage.output_tokens_assumed,
            is_background: false,
        }
    }

    /// It was this model that has answered: its price is the one that counts, if it has one.
    pub(in crate::request) fn was_answered_by(&mut self, worker: &'static Worker, model: &str) {
        self.price = worker.policy.price(model).or(self.price);
    }

    /// More is charged for it than the request itself.
    pub fn costs(&self) -> bool {
        self.expense != Expense::Nothing
    }

    /// Nobody knows what it costs.
    pub fn is_without_price(&self) -> bool {
        self.price.is_none()
    }

    /// What the request will use, which is set aside for it.
    pub fn estimate(&self) -> Estimate {
        let cost = |price: &Price| price.cost(self.input_tokens, 0, self.output_tokens);
        Estimate {
            tokens: self.input_tokens.saturating_add(self.output_tokens),
            cost: self.price.map(cost).unwrap_or_default(),
        }
    }

    /// What is charged for an answer to a request whose body had so many bytes.
    pub fn charge(&self, transcript: &Transcript, body_bytes: u64) -> Charge {
        // A stream that stands for an error answer has the status that the client saw before there was one.
        let is_good =
            matches!(transcript.status, 200..300) && transcript.ending != Ending::Replaced;
        if !is_good || self.expense == Expense::Nothing {
            return Charge::default();
        }
        let output_tokens_min = if self.is_background {
            self.output_tokens
        } else {
            0
        };
        let by_length = Usage {
            input_tokens: self.input_tokens_of(body_bytes),
            output_tokens: transcript.estimated_output_tokens.max(output_tokens_min),
            ..Usage::default()
        };
        let (known, usage) = known_usage(transcript, by_length);
        Charge {
            used: self.priced(usage),
            known: Some(known),
        }
    }

    /// By its length, of a text that has come.
    fn input_tokens_of(&self, body_bytes: u64) -> u64 {
        match self.expense {
            Expense::ByLength => self.input_tokens.max(body_bytes.div_ceil(BYTES_PER_TOKEN)),
            Expense::Nothing | Expense::ByAnswer => 0,
        }
    }

    fn priced(&self, usage: Usage) -> Consumption {
        let cost = |price: &Price| {
            price.cost(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        };
        Consumption {
            usage,
            cost: self.price.map(cost).unwrap_or_default(),
        }
    }
}

/// The table: which usage counts, and how it is known.
fn known_usage(transcript: &Transcript, by_length: Usage) -> (Known, Usage) {
    match transcript.usage {
        Some(told) if transcript.is_final => (Known::Final, told),
        // Of a stream that was cut some providers have said until then what they have read, and not what they have written.
        Some(told) if by_length.output_tokens > told.output_tokens => (
            Known::Estimated,
            Usage {
                output_tokens: by_length.output_tokens,
                ..told
            },
        ),
        Some(told) => (Known::Partial, told),
        None => (Known::Estimated, by_length),
    }
}

fn expense(request: &Request<'_>) -> Expense {
    match request.head.method {
        Method::Get | Method::Head | Method::Delete | Method::Options => Expense::Nothing,
        Method::Post | Method::Put | Method::Patch => {
            expense_of_path(request.dialect, request.path())
        }
    }
}

/// What is not known to be free is charged for: providers have more kinds of requests than this gateway knows.
fn expense_of_path(dialect: Dialect, path: &[u8]) -> Expense {
    let resource = path.strip_prefix(b"/v1").unwrap_or(path);
    let is_one_of = |resources: &[&[u8]]| resources.contains(&resource);
    let is_free = match dialect {
        Dialect::Responses => resource == b"/responses/input_tokens",
        Dialect::Messages => resource == b"/messages/count_tokens",
        Dialect::Gemini => {
            return if path.ends_with(b":countTokens") {
                Expense::Nothing
            } else {
                Expense::ByLength
            };
        }
        Dialect::ChatCompletions => false,
        Dialect::Opaque => {
            is_one_of(&[b"/files", b"/uploads"]) || resource.starts_with(b"/uploads/")
        }
    };
    let is_of_media = dialect == Dialect::Opaque
        && is_one_of(&[
            b"/audio/transcriptions",
            b"/audio/translations",
            b"/images/edits",
            b"/images/variations",
        ]);
    if is_free || resource.ends_with(b"/cancel") {
        Expense::Nothing
    } else if is_of_media {
        Expense::ByAnswer
    } else {
        Expense::ByLength
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::{Money, TokenPrice};

    const TOLD: Usage = Usage {
        input_tokens: 100,
        cached_tokens: 40,
        output_tokens: 7,
        reasoning_tokens: 3,
    };

    fn transcript(usage: Option<Usage>, is_final: bool, by_length: u64) -> Transcript {
        Transcript {
            ending: Ending::ClientGone,
            status: 200,
            body_bytes: 0,
            events: 0,
            usage,
            is_final,
            estimated_output_tokens: by_length,
            streamed: true,
        }
    }

    fn tariff(expense: Expense) -> Tariff {
        // A million tokens cost 1 that were read, 0.1 from the cache, 8 that were written.
        let price = Price {
            models: Vec::new(),
            input: TokenPrice(1_000_000),
            cached_input: TokenPrice(100_000),
            output: TokenPrice(8_000_000),
        };
        Tariff {
            expense,
            price: Some(Box::leak(Box::new(price))),
            input_tokens: 20,
            output_tokens: 500,
            is_background: false,
        }
    }

    #[test]
    fn how_use_is_known() {
        use Expense::{ByAnswer, ByLength, Nothing};
        let told = Some(TOLD);
        let longer = Usage {
            output_tokens: 9,
            ..TOLD
        };
        let by_length = |input_tokens| Usage {
            input_tokens,
            output_tokens: 9,
            ..Usage::default()
        };
        let estimated = |usage| Some((Known::Estimated, usage));
        for (expense, usage, is_final, length, known) in [
            (ByLength, told, true, 0, Some((Known::Final, TOLD))),
            // What the provider says last counts, whatever it looks like.
            (ByLength, told, true, 900, Some((Known::Final, TOLD))),
            (ByAnswer, told, true, 900, Some((Known::Final, TOLD))),
            (ByLength, told, false, 7, Some((Known::Partial, TOLD))),
            (ByLength, told, false, 9, estimated(longer)),
            (ByAnswer, told, false, 9, estimated(longer)),
            (ByLength, None, false, 9, estimated(by_length(26))),
            (ByLength, None, true, 9, estimated(by_length(26))),
            (ByAnswer, None, true, 9, estimated(by_length(0))),
            (Nothing, told, true, 9, None),
            (Nothing, None, false, 9, None),
        ] {
            let row = format!("{expense:?} {usage:?} {is_final} {length}");
            let charge = tariff(expense).charge(&transcript(usage, is_final, length), 101);
            assert_eq!(charge.known, known.map(|(known, _)| known), "{row}");
            let used = known.map(|(_, usage)| usage).unwrap_or_default();
            assert_eq!(charge.used.usage, used, "{row}");
            assert_eq!(charge.used.cost == Money::ZERO, known.is_none(), "{row}");
        }
    }

    #[test]
    fn errors_use_no_tokens() {
        let tariff = tariff(Expense::ByLength);
        for status in [301, 304, 400, 404, 429, 500] {
            let refused = Transcript {
                status,
                ..transcript(Some(TOLD), true, 5)
            };
            assert_eq!(tariff.charge(&refused, 100), Charge::default(), "{status}");
        }
        let replaced = Transcript {
            ending: Ending::Replaced,
            ..transcript(None, false, 0)
        };
        assert_eq!(tariff.charge(&replaced, 100), Charge::default());
    }

    #[test]
    fn what_is_used_has_its_price() {
        let charge = tariff(Expense::ByLength).charge(&transcript(Some(TOLD), true, 0), 0);
        // 60 × 1 µ + 40 × 0.1 µ + 7 × 8 µ
        assert_eq!(charge.used.cost, Money::from_nano(120_000));
        let unpriced = Tariff {
            price: None,
            ..tariff(Expense::ByLength)
        };
        let charge = unpriced.charge(&transcript(Some(TOLD), true, 0), 0);
        assert_eq!((charge.used.usage, charge.used.cost), (TOLD, Money::ZERO));
    }

    #[test]
    fn a_text_is_at_least_as_long_as_it_was_when_the_request_was_admitted() {
        for (body_bytes, input_tokens) in [(0, 20), (80, 20), (81, 21)] {
            let charge = tariff(Expense::ByLength).charge(&transcript(None, false, 0), body_bytes);
            assert_eq!(charge.used.usage.input_tokens, input_tokens);
        }
    }

    #[test]
    fn what_is_set_aside() {
        let estimate = tariff(Expense::ByLength).estimate();
        assert_eq!(estimate.tokens, 520);
        assert_eq!(estimate.cost, Money::from_nano(4_020_000));
        let endless = Tariff {
            output_tokens: u64::MAX,
            ..tariff(Expense::ByLength)
        };
        assert_eq!(endless.estimate().tokens, u64::MAX);
    }

    #[test]
    fn in_the_background_all_that_was_set_aside_is_charged_unless_more_is_known() {
        let background = Tariff {
            is_background: true,
            ..tariff(Expense::ByLength)
        };
        for (usage, is_final, length, known, output_tokens) in [
            (None, true, 9, Known::Estimated, 500),
            (None, false, 0, Known::Estimated, 500),
            (None, false, 900, Known::Estimated, 900),
            (Some(TOLD), false, 9, Known::Estimated, 500),
            (Some(TOLD), true, 9, Known::Final, 7),
        ] {
            let charge = background.charge(&transcript(usage, is_final, length), 80);
            let row = format!("{usage:?} {is_final} {length}");
            assert_eq!(charge.known, Some(known), "{row}");
            assert_eq!(charge.used.usage.output_tokens, output_tokens, "{row}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_free_is_charged_for() {
        use Expense::{ByAnswer, ByLength, Nothing};
        for (path, expense) in [
            ("/v1/responses", ByLength),
            ("/responses", ByLength),
            ("/v1/responses/compact", ByLength),
            ("/v1/responses/input_tokens", Nothing),
            ("/v1/responses/resp_1/cancel", Nothing),
            ("/v1/responses/resp_1/input_tokens", ByLength),
            ("/v1/chat/completions", ByLength),
            ("/v1/messages", ByLength),
            ("/messages", ByLength),
            ("/v1/messages/count_tokens", Nothing),
            ("/v1/messages/batches", ByLength),
            ("/v1/messages/batches/b_1/cancel", Nothing),
            ("/v1beta/models/gemini-3:generateContent", ByLength),
            ("/v1beta/models/gemini-3:streamGenerateContent", ByLength),
            ("/v1beta/models/gemini-3:countTokens", Nothing),
            ("/v1beta/models/gemini-3:embedContent", ByLength),
            ("/v1beta/models/gemini-3:anythingNew", ByLength),
            ("/v1/embeddings", ByLength),
            ("/v1/completions", ByLength),
            ("/v1/batches", ByLength),
            ("/v1/fine_tuning/jobs", ByLength),
            ("/anything/new", ByLength),
            ("/v1/audio/speech", ByLength),
            ("/v1/audio/transcriptions", ByAnswer),
            ("/v1/images/edits", ByAnswer),
            ("/v1/images/generations", ByLength),
            ("/v1/files", Nothing),
            ("/v1/uploads/upload_1/parts", Nothing),
        ] {
            let dialect = Dialect::of_path(path.as_bytes());
            assert_eq!(expense_of_path(dialect, path.as_bytes()), expense, "{path}");
        }
    }
}
