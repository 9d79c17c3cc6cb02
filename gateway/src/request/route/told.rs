//! What a request is told that nobody serves: what the last account said, or why none can be asked; and when to come again.

use super::survey::Lack;
use crate::health::{Cause, Moment, Standing};
use crate::request::egress::Failure;
use crate::request::refusal::{RETRY_LATER_SECONDS, RETRY_SOON_SECONDS, Refusal};
use std::time::Duration;

/// An account that the request could have used, as it stands when the request is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// It was asked, and failed.
    pub(super) was_tried: bool,
}

/// What is to be expected of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outlook {
    /// Until the first of them may be asked with some hope. `None`: there is nobody to hope for.
    after_seconds: Option<u32>,
    used_up: Option<UsedUp>,
}

/// All have used up what they may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UsedUp {
    /// The first end that the provider has stated.
    resets_at: Option<Moment>,
}

/// What the client is told.
pub(super) fn refusal(
    last_failure: Option<Failure>,
    lack: Lack,
    is_owned: bool,
    accounts: impl Iterator<Item = Seen> + Clone,
    now: Moment,
) -> Refusal {
    let told = match last_failure.map(Failure::into_refusal) {
        // Nobody else was asked, whatever the others could do.
        Some(Refusal::NoAccountAvailable) | None if is_owned => Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: None,
        },
        Some(told) => told,
        None if lack == Lack::Blocked => Refusal::AccountsRateLimited {
            retry_after_seconds: 0,
        },
        None => Refusal::NoAccountAvailable,
    };
    at_the_right_time(told, accounts, now)
}

/// The time that one account stated says nothing about the others: what counts is when the first of all may be asked. A client that
/// is told to come again in an hour sleeps for an hour.
fn at_the_right_time(
    told: Refusal,
    accounts: impl Iterator<Item = Seen> + Clone,
    now: Moment,
) -> Refusal {
    let stated = match &told {
        Refusal::UpstreamRateLimited {
            retry_after_seconds,
        }
        | Refusal::UpstreamOverloaded {
            retry_after_seconds,
        } => *retry_after_seconds,
        Refusal::AccountsRateLimited { .. }
        | Refusal::ResponseOwnerUnavailable { .. }
        | Refusal::NoAccountAvailable => None,
        _ => return told,
    };
    let outlook = outlook(accounts, stated, now);
    if let Some(used_up) = outlook.used_up
        && !matches!(told, Refusal::UpstreamOverloaded { .. })
    {
        return Refusal::UpstreamQuotaExhausted {
            retry_after_seconds: outlook.after_seconds.unwrap_or(RETRY_LATER_SECONDS),
            resets_at: used_up.resets_at.map(|until| until.unix_ms() / 1000),
        };
    }
    let after = outlook.after_seconds;
    match told {
        Refusal::UpstreamRateLimited { .. } => Refusal::UpstreamRateLimited {
            retry_after_seconds: after.or(stated),
        },
        Refusal::UpstreamOverloaded { .. } => Refusal::UpstreamOverloaded {
            retry_after_seconds: after.or(stated),
        },
        Refusal::AccountsRateLimited { .. } => Refusal::AccountsRateLimited {
            retry_after_seconds: after.unwrap_or(RETRY_LATER_SECONDS),
        },
        Refusal::ResponseOwnerUnavailable { .. } => Refusal::ResponseOwnerUnavailable {
            retry_after_seconds: after,
        },
        other => other,
    }
}

fn outlook(
    accounts: impl Iterator<Item = Seen> + Clone,
    stated_seconds: Option<u32>,
    now: Moment,
) -> Outlook {
    let seconds = |seen: Seen| seconds_until(seen, stated_seconds, now);
    let in_service =
        |seen: &Seen| !matches!(seen.standing, Standing::Draining | Standing::Disabled);
    let mut ends = accounts.clone().filter(in_service).map(quota_end);
    let used_up = ends.next().flatten().and_then(|first| {
        ends.try_fold(first, |first, end| end.map(|end| earlier(first, end)))
            .map(|resets_at| UsedUp { resets_at })
    });
    Outlook {
        after_seconds: accounts.filter_map(seconds).min(),
        used_up,
    }
}

/// Until it may be asked with some hope.
fn seconds_until(seen: Seen, stated_seconds: Option<u32>, now: Moment) -> Option<u32> {
    match seen.standing {
        Standing::Usable { .. } | Standing::Due if seen.was_tried => {
            Some(stated_seconds.unwrap_or(RETRY_LATER_SECONDS))
        }
        Standing::Usable { .. } | Standing::Due => Some(RETRY_SOON_SECONDS),
        Standing::Blocked {
            until,
            stated,
            cause,
        } => {
            let end = in_whole_seconds(until.since(now));
            // Where nobody is well a guess of ours keeps nobody from being asked.
            let is_sure = stated || cause == Cause::QuotaExhausted;
            Some(if is_sure {
                end
            } else {
                end.min(RETRY_LATER_SECONDS)
            })
        }
        Standing::Draining | Standing::Disabled => None,
    }
}

/// Whether it has used up what it may use; and until when, if the provider has said so.
fn quota_end(seen: Seen) -> Option<Option<Moment>> {
    match seen.standing {
        Standing::Blocked {
            until,
            stated,
            cause: Cause::QuotaExhausted,
        } => Some(stated.then_some(until)),
        _ => None,
    }
}

fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Rounded up: who comes back a moment too early comes in vain.
fn in_whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000))
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::egress::Reset;
    use relay_wire::dialect::ErrorKind;

    const NOW: Moment = Moment::from_unix_ms(1_800_000_000_000);

    fn status(status: u16, after_seconds: Option<u64>) -> Option<Failure> {
        Some(Failure::Status {
            status,
            kind: ErrorKind::Other,
            resets: after_seconds.map(|seconds| Reset {
                until: NOW + Duration::from_secs(seconds),
                after: Duration::from_secs(seconds),
            }),
        })
    }

    const WELL: Standing = Standing::Usable { share: 1.0 };

    fn seen(standing: Standing, was_tried: bool) -> Seen {
        Seen {
            standing,
            was_tried,
        }
    }

    fn blocked(stated: bool, cause: Cause, ms: u64) -> Seen {
        let until = NOW + Duration::from_millis(ms);
        let standing = Standing::Blocked {
            until,
            stated,
            cause,
        };
        seen(standing, true)
    }

    fn limited(seconds: u64) -> Seen {
        blocked(true, Cause::RateLimited, seconds * 1000)
    }

    fn used_up(stated: bool, seconds: u64) -> Seen {
        blocked(stated, Cause::QuotaExhausted, seconds * 1000)
    }

    /// Status, code and `Retry-After`.
    fn told(
        failure: Option<Failure>,
        lack: Lack,
        is_owned: bool,
        accounts: &[Seen],
    ) -> (u16, &'static str, Option<u32>) {
        let attempts = u32::from(failure.is_some());
        let refusal = refusal(failure, lack, is_owned, accounts.iter().copied(), NOW);
        let shape = refusal.shape(attempts);
        (shape.status, shape.code, shape.retry_after_seconds)
    }

    #[test]
    fn whoever_could_not_be_served_is_told_why_and_when_the_first_account_may_be_asked() {
        let (busy, full) = ("no_account_available", seen(WELL, false));
        let (rate_limited, owner) = ("upstream_rate_limited", "response_owner_unavailable");
        for (lack, is_owned, accounts, expected) in [
            (Lack::Full, false, &[full][..], (503, busy, Some(1))),
            (Lack::None, false, &[], (503, busy, Some(1))),
            (
                Lack::Blocked,
                false,
                &[limited(2)],
                (429, rate_limited, Some(2)),
            ),
            (
                Lack::Blocked,
                false,
                &[limited(90), limited(7)],
                (429, rate_limited, Some(7)),
            ),
            // Rounded up, and never at once.
            (
                Lack::Blocked,
                false,
                &[blocked(true, Cause::RateLimited, 2_001)],
                (429, rate_limited, Some(3)),
            ),
            (
                Lack::Blocked,
                false,
                &[limited(0)],
                (429, rate_limited, Some(1)),
            ),
            // Hours are not slept through.
            (
                Lack::Blocked,
                false,
                &[limited(5 * 3600)],
                (429, rate_limited, Some(120)),
            ),
            (Lack::Full, true, &[full], (503, owner, Some(1))),
            (Lack::Blocked, true, &[limited(9)], (503, owner, Some(9))),
            (
                Lack::Blocked,
                true,
                &[limited(3600)],
                (503, owner, Some(120)),
            ),
            (
                Lack::None,
                true,
                &[seen(Standing::Disabled, false)],
                (503, owner, Some(5)),
            ),
        ] {
            let found = told(None, lack, is_owned, accounts);
            assert_eq!(found, expected, "{lack:?} {is_owned} {accounts:?}");
        }
    }

    #[test]
    fn an_owner_whose_credential_is_not_taken_is_not_all_accounts() {
        let owner = [blocked(false, Cause::Refused, 600_000)];
        let found = told(status(401, None), Lack::None, true, &owner);
        assert_eq!(found, (503, "response_owner_unavailable", Some(5)));
        let found = told(status(401, None), Lack::None, false, &owner);
        assert_eq!(found, (503, "no_account_available", Some(5)));
    }

    #[test]
    fn one_accounts_time_is_not_that_of_all() {
        let limit = || status(429, Some(3600));
        let code = "upstream_rate_limited";
        let (idle, tried) = (seen(WELL, false), seen(WELL, true));
        let guess = blocked(false, Cause::ServerErrors, 300_000);
        for (failure, accounts, expected) in [
            // Others are free, or full: a place is.
            (limit(), &[limited(3600), idle][..], (429, code, Some(1))),
            (
                limit(),
                &[limited(3600), seen(Standing::Due, false)],
                (429, code, Some(1)),
            ),
            // Others have to recover.
            (limit(), &[limited(3600), guess], (429, code, Some(5))),
            (
                limit(),
                &[limited(3600), limited(7), limited(60)],
                (429, code, Some(7)),
            ),
            (limit(), &[limited(3600)], (429, code, Some(120))),
            (
                limit(),
                &[limited(3600), seen(Standing::Disabled, false)],
                (429, code, Some(120)),
            ),
            (status(429, None), &[limited(9)], (429, code, Some(9))),
            // One that only says when it is less busy is not blocked for it.
            (
                status(503, Some(30)),
                &[tried],
                (503, "upstream_overloaded", Some(30)),
            ),
            (
                status(503, None),
                &[tried],
                (503, "upstream_overloaded", Some(5)),
            ),
            (
                status(503, Some(30)),
                &[tried, idle],
                (503, "upstream_overloaded", Some(1)),
            ),
            (
                status(401, None),
                &[limited(9)],
                (503, "no_account_available", Some(5)),
            ),
            (
                status(500, None),
                &[limited(9)],
                (502, "upstream_error", None),
            ),
        ] {
            let name = format!("{failure:?} {accounts:?}");
            assert_eq!(
                told(failure, Lack::None, false, accounts),
                expected,
                "{name}"
            );
        }
        let owned = told(status(500, None), Lack::None, true, &[limited(9)]);
        assert_eq!(owned, (502, "upstream_error", None));
    }

    #[test]
    fn a_quota_is_told_as_one_where_all_accounts_have_used_theirs_up() {
        let quota = "upstream_quota_exhausted";
        let limit = "upstream_rate_limited";
        let off = seen(Standing::Disabled, false);
        let ms = |seconds: u64| Some(1_800_000_000 + seconds);
        for (accounts, code, after, resets_at) in [
            (&[used_up(true, 30)][..], quota, 30, ms(30)),
            (
                &[used_up(true, 9_000), used_up(true, 600)],
                quota,
                120,
                ms(600),
            ),
            (
                &[used_up(false, 600), used_up(true, 9_000)],
                quota,
                120,
                ms(9_000),
            ),
            (&[used_up(false, 600)], quota, 120, None),
            (&[off, used_up(true, 600)], quota, 120, ms(600)),
            (&[used_up(true, 9_000), limited(20)], limit, 20, None),
            (&[used_up(true, 9_000), seen(WELL, true)], limit, 5, None),
        ] {
            for (failure, is_owned) in [(None, false), (None, true), (status(429, None), false)] {
                let was_asked = failure.is_some();
                let told = refusal(
                    failure,
                    Lack::Blocked,
                    is_owned,
                    accounts.iter().copied(),
                    NOW,
                );
                let shape = told.shape(1);
                let code = match code {
                    "upstream_rate_limited" if is_owned => "response_owner_unavailable",
                    code => code,
                };
                let found = (shape.code, shape.retry_after_seconds, shape.resets_at);
                assert_eq!(
                    found,
                    (code, Some(after), resets_at),
                    "{accounts:?} {was_asked}"
                );
            }
        }
        // What failed otherwise is told as such.
        let found = told(status(500, None), Lack::None, false, &[used_up(true, 600)]);
        assert_eq!(found.1, "upstream_error");
    }
}
