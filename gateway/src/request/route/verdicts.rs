//! Whose failure it was. A refusal, and an answer that does not come, may be the request's own doing: they count against an account
//! only once another one has done better with the same request. Otherwise one request that nobody can serve would block everybody.

use super::Asked;
use crate::health::Fault;
use smallvec::SmallVec;

/// What came of a request's attempts and counts against nobody yet.
#[derive(Default)]
pub(super) struct Verdicts {
    suspended: SmallVec<[(Asked, Fault); 2]>,
}

impl Verdicts {
    /// An attempt failed: charges whoever asked was, or waits for what another account does.
    pub(super) fn note(&mut self, asked: Asked, fault: Fault, charge: impl FnOnce(Asked, Fault)) {
        if may_be_the_requests_own(fault) {
            self.suspended.push((asked, fault));
        } else {
            charge(asked, fault);
        }
    }

    /// Another account has answered.
    pub(super) fn note_answer(&mut self, mut charge: impl FnMut(Asked, Fault)) {
        for (asked, fault) in self.suspended.drain(..) {
            charge(asked, fault);
        }
    }

    /// The request is over without an answer. Where nobody else was asked there is nothing to compare with: the account is charged.
    pub(super) fn note_end(&mut self, accounts_asked: usize, charge: impl FnMut(Asked, Fault)) {
        if accounts_asked == 1 {
            self.note_answer(charge);
        } else {
            self.suspended.clear();
        }
    }
}

/// The others are not: limits are stated, connections break at one end, and an error of the server's own is one.
fn may_be_the_requests_own(fault: Fault) -> bool {
    matches!(fault, Fault::Refused | Fault::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::AccountId;

    /// How a request goes on after its failures.
    #[derive(Clone, Copy, Debug)]
    enum Then {
        Answered,
        Ended,
    }

    /// The accounts that are charged: account 0 for the first fault, 1 for the second.
    fn charged(faults: &[Fault], then: Then) -> Vec<(u16, Fault)> {
        let mut charged = Vec::new();
        let mut charge = |asked: Asked, fault| charged.push((asked.account.0, fault));
        let mut verdicts = Verdicts::default();
        for (account, fault) in (0..).zip(faults) {
            let asked = Asked {
                account: AccountId(account),
                address: 0,
                trial: None,
            };
            verdicts.note(asked, *fault, &mut charge);
        }
        match then {
            Then::Answered => verdicts.note_answer(&mut charge),
            Then::Ended => verdicts.note_end(faults.len(), &mut charge),
        }
        // Once, whatever follows.
        verdicts.note_answer(&mut charge);
        charged
    }

    #[test]
    fn who_is_charged_depends_on_whether_another_account_did_better() {
        use Fault::{Refused, Reset, TimedOut};
        let limited = Fault::RateLimited { until: None };
        let server = Fault::ServerError { until: None };
        for (faults, then, expected) in [
            (&[Refused][..], Then::Answered, &[(0, Refused)][..]),
            (&[TimedOut], Then::Answered, &[(0, TimedOut)]),
            (&[Refused], Then::Ended, &[(0, Refused)]),
            (&[TimedOut], Then::Ended, &[(0, TimedOut)]),
            (
                &[Refused, TimedOut],
                Then::Answered,
                &[(0, Refused), (1, TimedOut)],
            ),
            (&[Refused, Refused], Then::Ended, &[]),
            (&[TimedOut, TimedOut, TimedOut], Then::Ended, &[]),
            // What is certain is charged at once, and is no better than a refusal.
            (&[limited], Then::Ended, &[(0, limited)]),
            (&[server, Reset], Then::Ended, &[(0, server), (1, Reset)]),
            (&[Refused, Reset], Then::Ended, &[(1, Reset)]),
            (
                &[Refused, Reset],
                Then::Answered,
                &[(1, Reset), (0, Refused)],
            ),
        ] {
            assert_eq!(charged(faults, then), expected, "{faults:?}, then {then:?}");
        }
    }
}
