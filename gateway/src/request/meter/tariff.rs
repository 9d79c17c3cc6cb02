//! What a request costs: as far as it can be said before, and once its answer is over.

use super::Transcript;
use crate::config::policy::Price;
use crate::limits::{Consumption, Estimate};
use crate::request::Request;
use crate::request::body::RequestBody;
use crate::request::forward::Ending;
use crate::usage::Known;
use crate::worker::Worker;
use relay_wire::dialect::{Dialect, RequestScan, Usage};
use relay_wire::head::Method;

/// Of a request's text, about as many bytes as a token stands for.
const BYTES_PER_TOKEN: u64 = 4;

/// What is charged for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expense {
    /// Nothing but the request itself: it asks for what is there already.
    Nothing,
    /// What the provider says that it has used, if it says so.
    AsTold,
    /// That too; where the provider has not said it, what follows from the length of what has passed: there is a model that
    /// has read the one and written the other.
    ByLength,
}

/// How what a request uses is found.
#[derive(Clone, Copy)]
pub struct Tariff {
    expense: Expense,
    price: Option<&'static Price>,
    /// Tokens that it has the model read, as the length of its text has it; of a text that has not come yet, at least so many.
    input_tokens: u64,
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
        Self {
            expense,
            price,
            input_tokens: request.body.text_bytes().div_ceil(BYTES_PER_TOKEN),
        }
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
    pub fn estimate(&self, body: &RequestBody<'_>, output_tokens_assumed: u64) -> Estimate {
        if self.expense == Expense::AsTold && !body.is_scanned() {
            // A file, of whatever kind: its length says nothing.
            return Estimate::default();
        }
        let output_tokens_max = body.said().and_then(RequestScan::output_tokens_max);
        self.estimate_of(output_tokens_max.unwrap_or(output_tokens_assumed))
    }

    fn estimate_of(&self, output_tokens: u64) -> Estimate {
        let cost = |price: &Price| price.cost(self.input_tokens, 0, output_tokens);
        Estimate {
            tokens: self.input_tokens.saturating_add(output_tokens),
            cost: self.price.map(cost).unwrap_or_default(),
        }
    }

    /// What is charged for an answer to a request whose body had so many bytes.
    pub fn charge(&self, transcript: &Transcript, body_bytes: u64) -> Charge {
        // A stream that stands for an error answer has the status that the client saw before there was one.
        let is_good = transcript.status < 400 && transcript.ending != Ending::Replaced;
        if !is_good || self.expense == Expense::Nothing {
            return Charge::default();
        }
        let input_tokens = self.input_tokens.max(body_bytes.div_ceil(BYTES_PER_TOKEN));
        match known_usage(self.expense, transcript, input_tokens) {
            Some((known, usage)) => Charge {
                used: self.priced(usage),
                known: Some(known),
            },
            None => Charge::default(),
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
fn known_usage(
    expense: Expense,
    transcript: &Transcript,
    input_tokens: u64,
) -> Option<(Known, Usage)> {
    let by_length = transcript.estimated_output_tokens;
    match transcript.usage {
        Some(told) if transcript.is_final => Some((Known::Final, told)),
        // Of a stream that was cut some providers have said until then what they have read, and not what they have written.
        Some(told) if expense == Expense::ByLength && by_length > told.output_tokens => Some((
            Known::Estimated,
            Usage {
                output_tokens: by_length,
                ..told
            },
        )),
        Some(told) => Some((Known::Partial, told)),
        None if expense == Expense::ByLength => Some((
            Known::Estimated,
            Usage {
                input_tokens,
                output_tokens: by_length,
                ..Usage::default()
            },
        )),
        None => None,
    }
}

fn expense(request: &Request<'_>) -> Expense {
    let body = &request.body;
    // What has no body asks no model for anything, though it may be a POST: a response is cancelled so.
    if request.head.method != Method::Post || body.is_complete() && body.received_bytes() == 0 {
        return Expense::Nothing;
    }
    expense_of_post(request.dialect, request.path())
}

fn expense_of_post(dialect: Dialect, path: &[u8]) -> Expense {
    let is_one_of = |resources: &[&str]| {
        let unversioned = path.strip_prefix(b"/v1").unwrap_or(path);
        let mut resources = resources.iter();
        resources.any(|resource| unversioned == resource.as_bytes())
    };
    let generates = match dialect {
        Dialect::Responses => is_one_of(&["/responses", "/responses/compact"]),
        Dialect::ChatCompletions => true,
        Dialect::Messages => is_one_of(&["/messages"]),
        Dialect::Gemini => {
            path.ends_with(b":generateContent") || path.ends_with(b":streamGenerateContent")
        }
        Dialect::Opaque => return Expense::AsTold,
    };
    match dialect {
        _ if generates => Expense::ByLength,
        // Embeddings; what only counts tokens says nothing of use.
        Dialect::Gemini => Expense::AsTold,
        _ => Expense::Nothing,
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
        }
    }

    #[test]
    fn how_use_is_known() {
        use Expense::{AsTold, ByLength, Nothing};
        let told = Some(TOLD);
        let longer = Usage {
            output_tokens: 9,
            ..TOLD
        };
        let by_length = Usage {
            input_tokens: 26,
            output_tokens: 9,
            ..Usage::default()
        };
        for (expense, usage, is_final, length, known) in [
            (ByLength, told, true, 0, Some((Known::Final, TOLD))),
            // What the provider says last counts, whatever it looks like.
            (ByLength, told, true, 900, Some((Known::Final, TOLD))),
            (AsTold, told, true, 900, Some((Known::Final, TOLD))),
            (ByLength, told, false, 7, Some((Known::Partial, TOLD))),
            (ByLength, told, false, 9, Some((Known::Estimated, longer))),
            (AsTold, told, false, 9, Some((Known::Partial, TOLD))),
            (
                ByLength,
                None,
                false,
                9,
                Some((Known::Estimated, by_length)),
            ),
            (ByLength, None, true, 9, Some((Known::Estimated, by_length))),
            (AsTold, None, true, 9, None),
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
        for status in [400, 404, 429, 500] {
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
        let estimate = tariff(Expense::ByLength).estimate_of(500);
        assert_eq!(estimate.tokens, 520);
        assert_eq!(estimate.cost, Money::from_nano(4_020_000));
        let endless = tariff(Expense::ByLength).estimate_of(u64::MAX);
        assert_eq!(endless.tokens, u64::MAX);
    }

    #[test]
    fn what_is_charged_for_by_its_length() {
        use Expense::{AsTold, ByLength, Nothing};
        for (path, expense) in [
            ("/v1/responses", ByLength),
            ("/responses", ByLength),
            ("/v1/responses/compact", ByLength),
            ("/v1/responses/input_tokens", Nothing),
            ("/v1/responses/resp_1/cancel", Nothing),
            ("/v1/chat/completions", ByLength),
            ("/v1/messages", ByLength),
            ("/messages", ByLength),
            ("/v1/messages/count_tokens", Nothing),
            ("/v1/messages/batches", Nothing),
            ("/v1beta/models/gemini-3:generateContent", ByLength),
            ("/v1beta/models/gemini-3:streamGenerateContent", ByLength),
            ("/v1beta/models/gemini-3:countTokens", AsTold),
            ("/v1beta/models/gemini-3:embedContent", AsTold),
            ("/v1/embeddings", AsTold),
            ("/v1/completions", AsTold),
        ] {
            let dialect = Dialect::of_path(path.as_bytes());
            assert_eq!(expense_of_post(dialect, path.as_bytes()), expense, "{path}");
        }
    }
}
