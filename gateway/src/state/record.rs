//! An account's health as it is kept: by names and addresses, which mean the same to the next process, whatever its
//! configuration looks like.

use crate::config::policy::Account;
use crate::health::{
    BreakerRecord, Cause, LatencyRecord, Moment, Openings, Override, Record, State, Wish,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// What is kept of the credential tells it to nobody, but lets a guess be checked: nobody else may read it.
const FINGERPRINT_DOMAIN: &[u8] = b"codex-relay account credential\0";

#[derive(Serialize)]
struct Kept {
    /// Of the credential by which it was called.
    credential: String,
    operator: Option<Word>,
    account: Breaker,
    addresses: Vec<(IpAddr, Breaker)>,
    latency: Option<Latency>,
}

#[derive(Serialize, Deserialize)]
struct Word {
    wish: String,
    since: u64,
    until: Option<u64>,
    reason: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct Breaker {
    state: String,
    since: Option<u64>,
    cause: Option<String>,
    until: Option<u64>,
    is_stated: bool,
    openings: u32,
    /// Not in records of releases that counted all openings together.
    #[serde(default)]
    openings_of_credential: u32,
    first_opened: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Latency {
    average_us: u64,
    at: u64,
}

/// The payload for a record of this account.
pub(super) fn encode(account: &Account, record: &Record) -> Vec<u8> {
    let addresses = record.addresses.iter();
    let kept = Kept {
        credential: fingerprint(account),
        operator: record.operator.as_ref().map(|said| Word {
            wish: wish_name(said.wish).to_owned(),
            since: said.since.unix_ms(),
            until: said.until.map(Moment::unix_ms),
            reason: said.reason.clone(),
        }),
        account: Breaker::of(&record.account),
        addresses: addresses
            .map(|(address, breaker)| (*address, Breaker::of(breaker)))
            .collect(),
        latency: record.latency.map(|latency| Latency {
            average_us: latency.average.as_micros() as u64,
            at: latency.at.unix_ms(),
        }),
    };
    // Strings, numbers and lists of them: there is nothing that JSON cannot express.
    serde_json::to_vec(&kept).unwrap_or_default()
}

/// What such a payload says of this account, and whether all of it was understood. What was not, by a program of another
/// version perhaps, is as if it had not been said; the rest stands.
pub(super) fn decode(account: &Account, payload: &[u8]) -> (Record, bool) {
    let Ok(mut kept) = serde_json::from_slice::<serde_json::Map<_, _>>(payload) else {
        return (Record::default(), false);
    };
    let mut is_understood = true;
    let mut part = |name: &str| {
        let found = kept.remove(name);
        is_understood &= found.is_some();
        found.unwrap_or_default()
    };
    let [credential, operator, own, addresses, latency] =
        ["credential", "operator", "account", "addresses", "latency"].map(&mut part);
    let mut understand = |is_it: bool| is_understood &= is_it;
    let operator = read::<Option<Word>>(operator).and_then(|word| match word {
        Some(word) => word.understood().map(Some),
        None => Some(None),
    });
    understand(operator.is_some());
    let own = read(own).and_then(Breaker::understood);
    understand(own.is_some());
    let addresses = read::<Vec<Value>>(addresses);
    understand(addresses.is_some());
    let addresses = addresses.unwrap_or_default().into_iter().filter_map(|one| {
        let read = read::<(IpAddr, Breaker)>(one);
        let breaker = read.and_then(|(address, breaker)| Some((address, breaker.understood()?)));
        understand(breaker.is_some());
        breaker
    });
    let addresses = addresses.collect();
    let latency = read::<Option<Latency>>(latency);
    understand(latency.is_some());
    let mut own = own.unwrap_or_default();
    // A credential was exchanged because the old one was refused, or had nothing left.
    if credential.as_str() != Some(&fingerprint(account)) {
        if own.cause.is_some_and(Cause::is_of_credential) {
            own = BreakerRecord::default();
        }
        own.openings.of_credential = 0;
    }
    let record = Record {
        operator: operator.flatten(),
        account: own,
        addresses,
        latency: latency.flatten().map(|latency| LatencyRecord {
            average: Duration::from_micros(latency.average_us),
            at: Moment::from_unix_ms(latency.at),
        }),
    };
    (record, is_understood)
}

fn read<T: DeserializeOwned>(part: Value) -> Option<T> {
    serde_json::from_value(part).ok()
}

/// However the clock was set meanwhile, what the operator has said holds for no longer from now on than it was said for.
pub(super) fn within_its_time(mut record: Record, now: Moment) -> Record {
    if let Some(word) = &mut record.operator {
        let longest = word.until.map(|until| until.since(word.since));
        word.until = word
            .until
            .zip(longest)
            .map(|(until, longest)| until.min(now + longest));
        word.since = word.since.min(now);
    }
    record
}

impl Word {
    fn understood(self) -> Option<Override> {
        let all = [Wish::Enabled, Wish::Drained, Wish::Disabled];
        Some(Override {
            wish: all.into_iter().find(|wish| wish_name(*wish) == self.wish)?,
            since: Moment::from_unix_ms(self.since),
            until: self.until.map(Moment::from_unix_ms),
            reason: self.reason,
        })
    }
}

impl Breaker {
    fn of(record: &BreakerRecord) -> Self {
        Self {
            state: record.state.as_str().to_owned(),
            since: record.since.map(Moment::unix_ms),
            cause: record.cause.map(|cause| cause.as_str().to_owned()),
            until: record.until.map(Moment::unix_ms),
            is_stated: record.is_stated,
            openings: record.openings.others,
            openings_of_credential: record.openings.of_credential,
            first_opened: record.first_opened.map(Moment::unix_ms),
        }
    }

    fn understood(self) -> Option<BreakerRecord> {
        let states = [State::Closed, State::Open, State::HalfOpen];
        let mut states = states.into_iter();
        let cause = match self.cause {
            Some(name) => {
                let mut causes = Cause::ALL.into_iter();
                Some(causes.find(|cause| cause.as_str() == name)?)
            }
            None => None,
        };
        Some(BreakerRecord {
            state: states.find(|state| state.as_str() == self.state)?,
            since: self.since.map(Moment::from_unix_ms),
            cause,
            until: self.until.map(Moment::from_unix_ms),
            is_stated: self.is_stated,
            openings: Openings {
                of_credential: self.openings_of_credential,
                others: self.openings,
            },
            first_opened: self.first_opened.map(Moment::from_unix_ms),
        })
    }
}

fn wish_name(wish: Wish) -> &'static str {
    match wish {
        Wish::Enabled => "enabled",
        Wish::Drained => "drained",
        Wish::Disabled => "disabled",
    }
}

fn fingerprint(account: &Account) -> String {
    let digest = Sha256::new()
        .chain_update(FINGERPRINT_DOMAIN)
        .chain_update(account.credential.expose())
        .finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::policy::UpstreamId;

    fn account(credential: &str) -> Account {
        Account {
            name: "first".to_owned(),
            upstream: UpstreamId(0),
            credential: Secret::new(credential.as_bytes().to_vec()),
            egress: vec![],
            region: "here".to_owned(),
            max_concurrent: 1,
            max_connections: None,
            weight: 1,
            enabled: true,
        }
    }

    fn moment(number: u64) -> Option<Moment> {
        Some(Moment::from_unix_ms(number))
    }

    fn open(cause: Cause) -> BreakerRecord {
        BreakerRecord {
            state: State::Open,
            since: moment(1),
            cause: Some(cause),
            until: moment(2),
            is_stated: true,
            openings: Openings {
                of_credential: 2,
                others: 3,
            },
            first_opened: moment(4),
        }
    }

    fn record(cause: Cause) -> Record {
        Record {
            operator: Some(Override {
                wish: Wish::Drained,
                since: Moment::from_unix_ms(5),
                until: moment(6),
                reason: Some("\"moved\"\n".into()),
            }),
            account: open(cause),
            addresses: vec![
                ("127.0.0.1".parse().unwrap(), BreakerRecord::default()),
                ("::1".parse().unwrap(), open(Cause::Retransmits)),
            ],
            latency: Some(LatencyRecord {
                average: Duration::from_micros(1_500),
                at: Moment::from_unix_ms(7_000),
            }),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let account = account("sk-one");
        for cause in Cause::ALL {
            let record = record(cause);
            let payload = encode(&account, &record);
            assert_eq!(decode(&account, &payload), (record, true));
        }
        for (wish, state) in [
            (Wish::Enabled, State::Closed),
            (Wish::Disabled, State::HalfOpen),
        ] {
            let mut record = record(Cause::Resets);
            record.account.state = state;
            record.operator.as_mut().unwrap().wish = wish;
            let payload = encode(&account, &record);
            assert_eq!(decode(&account, &payload), (record, true));
        }
        let nothing = Record::default();
        assert_eq!(
            decode(&account, &encode(&account, &nothing)),
            (nothing, true)
        );
    }

    #[test]
    fn records_that_count_all_openings_together_are_understood() {
        let account = account("sk-one");
        let record = record(Cause::Resets);
        let payload = String::from_utf8(encode(&account, &record)).unwrap();
        let older = payload.replace(",\"openings_of_credential\":2", "");
        assert_ne!(older, payload);
        let mut expected = record;
        expected.account.openings.of_credential = 0;
        expected.addresses[1].1.openings.of_credential = 0;
        assert_eq!(decode(&account, older.as_bytes()), (expected, true));
    }

    #[test]
    fn what_is_not_understood_takes_nothing_else_with_it() {
        let account = account("sk-one");
        let whole = record(Cause::Resets);
        let payload = String::from_utf8(encode(&account, &whole)).unwrap();
        for (word, other) in [("\"resets\"", "\"moods\""), ("\"open\"", "\"ajar\"")] {
            assert!(payload.contains(word), "{payload}");
            let (read, is_understood) = decode(&account, payload.replace(word, other).as_bytes());
            assert!(!is_understood);
            assert_eq!(read.operator, whole.operator);
            assert_eq!(read.latency, whole.latency);
        }
        let (read, is_understood) = decode(
            &account,
            payload.replace("\"drained\"", "\"wet\"").as_bytes(),
        );
        assert!(!is_understood);
        let expected = Record {
            operator: None,
            ..whole
        };
        assert_eq!(read, expected);
        for payload in ["", "[]", "{}", &payload[1..]] {
            let nothing = (Record::default(), false);
            assert_eq!(decode(&account, payload.as_bytes()), nothing, "{payload}");
        }
    }

    #[test]
    fn no_word_holds_longer_than_it_was_given_for() {
        let hours = |hours| Moment::default() + Duration::from_secs(3_600) * hours;
        let said = |since, until: Option<u32>| Record {
            operator: Some(Override {
                wish: Wish::Drained,
                since: hours(since),
                until: until.map(hours),
                reason: None,
            }),
            ..Record::default()
        };
        let now = hours(100);
        for (kept, known) in [
            (said(99, Some(101)), said(99, Some(101))),
            (said(99, None), said(99, None)),
            (said(5_000, Some(5_002)), said(100, Some(102))),
            (said(5_000, None), said(100, None)),
            (said(90, Some(91)), said(90, Some(91))),
        ] {
            assert_eq!(within_its_time(kept, now), known);
        }
    }

    #[test]
    fn another_credential_begins_anew_where_the_old_one_was_the_reason() {
        for cause in Cause::ALL {
            let payload = encode(&account("sk-one"), &record(cause));
            assert!(!String::from_utf8_lossy(&payload).contains("sk-one"));
            let (read, is_understood) = decode(&account("sk-two"), &payload);
            assert!(is_understood);
            let is_forgotten = matches!(cause, Cause::Refused | Cause::QuotaExhausted);
            let expected = if is_forgotten {
                BreakerRecord::default()
            } else {
                let mut expected = open(cause);
                expected.openings.of_credential = 0;
                expected
            };
            assert_eq!(read.account, expected, "{cause:?}");
            assert_eq!(read.addresses, record(cause).addresses);
            assert_eq!(read.operator, record(cause).operator);
        }
    }
}
