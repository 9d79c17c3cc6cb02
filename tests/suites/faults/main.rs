//! The fault matrix: every way in which a provider fails, one account or all of them; what the client sees, how often somebody is
//! asked, and how the account stands afterwards.

mod all;
mod one_of_three;
mod operator;
mod paths;
mod streams;

use relay_tests::http::chunk;
use relay_tests::{Account, Config, Exchange, Gateway, RawClient, Request, Upstream, openai};
use serde_json::Value;

/// One way to fail.
struct Fault {
    name: &'static str,
    /// What the provider does with a request.
    act: fn(&mut Exchange),
    /// What the client is told when every account fails like this: status and code; `None`: an answer begins and is cut.
    told: Option<(u16, &'static str)>,
    /// Accounts that are asked before the client is told.
    attempts: &'static str,
    /// How the account stands when that has happened often enough: its state, and why.
    state: (&'static str, Option<&'static str>),
    /// So many requests bring that about.
    requests: usize,
}

/// As often as the breaker allows in a row.
const FAILURES_MAX: usize = 3;

/// An answer that the client's own request has caused; the account is not to blame.
const WELL: (&str, Option<&str>) = ("usable", None);

const FAULTS: &[Fault] = &[
    Fault {
        name: "reset",
        act: Exchange::reset,
        told: Some((502, "upstream_error")),
        attempts: "3",
        state: ("blocked", Some("resets")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "closed",
        act: Exchange::close,
        told: Some((502, "upstream_error")),
        attempts: "3",
        state: ("blocked", Some("resets")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "stall",
        act: |exchange| {
            exchange.wait_closed();
        },
        told: Some((504, "upstream_timeout")),
        attempts: "3",
        state: ("blocked", Some("time_outs")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "401",
        act: |exchange| answer(exchange, 401, "invalid_api_key", &[]),
        told: Some((503, "no_account_available")),
        attempts: "3",
        state: ("blocked", Some("refused")),
        requests: 1,
    },
    Fault {
        name: "403",
        act: |exchange| answer(exchange, 403, "account_deactivated", &[]),
        told: Some((503, "no_account_available")),
        attempts: "3",
        state: ("blocked", Some("refused")),
        requests: 1,
    },
    Fault {
        name: "429 without a time",
        act: |exchange| answer(exchange, 429, "rate_limit_exceeded", &[]),
        told: Some((429, "upstream_rate_limited")),
        attempts: "3",
        state: ("blocked", Some("rate_limited")),
        requests: 1,
    },
    Fault {
        name: "429 with Retry-After",
        act: |exchange| {
            answer(
                exchange,
                429,
                "rate_limit_exceeded",
                &[("retry-after", "600")],
            );
        },
        told: Some((429, "upstream_rate_limited")),
        attempts: "3",
        state: ("blocked", Some("rate_limited")),
        requests: 1,
    },
    Fault {
        name: "429, the quota is used up",
        act: |exchange| answer(exchange, 429, "insufficient_quota", &[]),
        told: Some((429, "upstream_quota_exhausted")),
        attempts: "3",
        state: ("blocked", Some("quota_exhausted")),
        requests: 1,
    },
    Fault {
        name: "500",
        act: |exchange| answer(exchange, 500, "server_error", &[]),
        told: Some((502, "upstream_error")),
        attempts: "3",
        state: ("blocked", Some("server_errors")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "503",
        act: |exchange| answer(exchange, 503, "server_is_overloaded", &[]),
        told: Some((503, "upstream_overloaded")),
        attempts: "3",
        state: ("blocked", Some("server_errors")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "529",
        act: |exchange| answer(exchange, 529, "overloaded_error", &[]),
        told: Some((503, "upstream_overloaded")),
        attempts: "3",
        state: ("blocked", Some("server_errors")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "cut before the first event",
        act: |exchange| {
            exchange.send(openai::STREAM_HEAD);
            exchange.reset();
        },
        told: Some((502, "upstream_stream_incomplete")),
        attempts: "3",
        state: ("blocked", Some("resets")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "cut before the first output",
        act: |exchange| {
            exchange.send([openai::STREAM_HEAD, &chunk(&openai::created())].concat());
            exchange.close();
        },
        told: Some((502, "upstream_stream_incomplete")),
        attempts: "3",
        state: ("blocked", Some("resets")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "cut after the first output",
        act: |exchange| {
            let events = [chunk(&openai::created()), chunk(&openai::delta("half"))].concat();
            exchange.send([openai::STREAM_HEAD, &events].concat());
            exchange.close();
        },
        told: None,
        attempts: "1",
        state: ("blocked", Some("broken_streams")),
        // The client sees each of them: two are enough.
        requests: 2,
    },
    Fault {
        name: "200, then an overload",
        act: |exchange| {
            let overload = b"event: error\ndata: {\"type\":\"error\",\"code\":\"server_is_overloaded\",\"message\":\"x\"}\n\n";
            let events = [chunk(&openai::created()), chunk(overload)].concat();
            exchange.send([openai::STREAM_HEAD, &events].concat());
        },
        told: Some((503, "upstream_overloaded")),
        attempts: "3",
        state: ("blocked", Some("server_errors")),
        requests: FAILURES_MAX,
    },
    Fault {
        name: "501, the client's own",
        act: |exchange| answer(exchange, 501, "unsupported_method", &[]),
        told: Some((501, "unsupported_method")),
        attempts: "1",
        state: WELL,
        requests: 2 * FAILURES_MAX,
    },
    Fault {
        name: "400, the client's own",
        act: |exchange| answer(exchange, 400, "invalid_value", &[]),
        told: Some((400, "invalid_value")),
        attempts: "1",
        state: WELL,
        requests: 2 * FAILURES_MAX,
    },
    Fault {
        name: "404, the client's own",
        act: |exchange| answer(exchange, 404, "model_not_found", &[]),
        told: Some((404, "model_not_found")),
        attempts: "1",
        state: WELL,
        requests: 2 * FAILURES_MAX,
    },
    Fault {
        name: "413, the client's own",
        act: |exchange| answer(exchange, 413, "request_too_large", &[]),
        told: Some((413, "request_too_large")),
        attempts: "1",
        state: WELL,
        requests: 2 * FAILURES_MAX,
    },
];

fn answer(exchange: &mut Exchange, status: u16, code: &str, fields: &[(&str, &str)]) {
    exchange.send(openai::error(status, code, fields));
}

/// The accounts, each with an address of its own.
const NAMES: [&str; 3] = ["first", "second", "third"];

fn account(index: usize) -> Account {
    Account::new(NAMES[index], &format!("127.0.7.{}", index + 1)).set("max_concurrent", 1_000)
}

/// Three accounts; short pauses and time-outs, so that a failure costs little time. Blocks last longer than any test, so that no
/// state depends on how fast the machine is.
fn config(upstream: &Upstream) -> Config {
    (0..NAMES.len())
        .map(account)
        .fold(Config::for_upstream(upstream.address()), Config::account)
        .timeout("response_head", "1s")
        .timeout("queue", "0s")
        .set("limits", "retry_pause", "\"1ms\"")
        .set("health", "backoff_min", "\"5m\"")
        .set("health", "backoff_max", "\"5m\"")
}

/// The account whose credential a request carries.
fn asked(exchange: &Exchange) -> &'static str {
    let key = exchange
        .request
        .head
        .value("authorization")
        .unwrap_or_default();
    let is_meant = |name: &&&str| key.ends_with(account_key(name).as_str());
    NAMES.iter().find(is_meant).expect("one of the accounts")
}

fn account_key(name: &str) -> String {
    let index = NAMES.iter().position(|known| *known == name);
    account(index.expect("one of the accounts"))
        .key()
        .to_owned()
}

/// A provider at which one account fails and the others are served.
fn failing_for(name: &'static str, act: fn(&mut Exchange)) -> Upstream {
    Upstream::with(
        relay_tests::upstream::Options {
            at_head: false,
            record: false,
        },
        move |exchange| {
            if asked(exchange) == name {
                act(exchange);
            } else {
                exchange.send(openai::stream(&["a", "b"]));
            }
        },
    )
}

/// How an account stands, by the admin API.
fn standing(gateway: &Gateway, name: &str) -> (String, Option<String>) {
    let shown: Value = gateway.admin(&format!("/accounts/{name}")).json();
    let state = shown["state"].as_str().unwrap_or_default().to_owned();
    (state, shown["reason"].as_str().map(str::to_owned))
}

/// A request of a conversation.
fn of_conversation(id: &str) -> Request {
    Request::streamed().field("session-id", id)
}

/// A client that opens a new connection after one that was cut.
struct Client<'g> {
    gateway: &'g Gateway,
    connection: Option<RawClient>,
}

impl<'g> Client<'g> {
    fn new(gateway: &'g Gateway) -> Self {
        Self {
            gateway,
            connection: None,
        }
    }

    /// True if the whole answer has come.
    fn is_served(&mut self, request: &Request) -> bool {
        let mut connection = self
            .connection
            .take()
            .unwrap_or_else(|| self.gateway.client());
        let answer = connection.call(request);
        let whole = answer.ending == relay_tests::Ending::Complete;
        let closes = answer.head.value("connection") == Some("close");
        if whole && !closes {
            self.connection = Some(connection);
        }
        let completed = openai::completed();
        whole && answer.status() == 200 && answer.payload.ends_with(&completed)
    }
}
