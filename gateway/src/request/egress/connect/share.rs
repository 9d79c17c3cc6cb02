//! A place on a connection that several requests share.

use super::open::{Goal, open};
use super::{Wanted, check_wanted, own};
use crate::accounts::Spoken;
use crate::request::egress::Failure;
use crate::request::route::Candidate;
use crate::tls::Offer;
use crate::upstreams::{Connection, Opened, Opening, Outcome, Turn};
use crate::worker::Worker;
use relay_io::{Either, Stream, either, pause, pipe};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// How often somebody who waits for a connection looks whether anybody still waits for that.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// Connections whose opening a request waits for, one after the other.
const OPENINGS_MAX: u32 = 3;

/// On a connection there is, or on one that is opened for all who come meanwhile. `None`: those of this upstream are not shared.
pub(super) async fn connect(
    worker: &'static Worker,
    client: &Stream,
    candidate: &Candidate,
    wanted: Wanted,
) -> Result<Option<Connection>, Failure> {
    let (account, source) = (candidate.slot.account, candidate.slot.source);
    let addresses = worker.addresses_of(candidate.upstream);
    let upstream = worker.policy.upstream(candidate.upstream);
    let tenant = worker.connections.counted(candidate.tenant);
    let after = wanted.behind.unwrap_or(0);
    let mut openings = 0;
    loop {
        let begun = worker
            .idle
            .begin_shared(worker, account, source, &addresses, after);
        if begun.is_some() {
            return Ok(begun);
        }
        let opening = match worker.idle.opening(account, source) {
            Turn::Others(opening) => opening,
            Turn::Own(opening) => {
                // It is opened for everybody: that the first one leaves must not end it for the others.
                let goal = Goal::of(candidate, None, Offer::Configured);
                worker.spawn(open_for_all(worker, goal, opening.clone()));
                opening
            }
        };
        // It is over soon: each step of opening it has its own time-out.
        while let Either::Second(()) = either(opening.ended(), pause(WAIT_STEP)).await {
            check_wanted(worker, client)?;
        }
        let found = opening.found(worker, tenant)?;
        if found.is_some() || !worker.idle.expects_shared(account, source, upstream) {
            return Ok(found);
        }
        // It has ended as soon as it was opened, or carries as many as the provider allows.
        openings += 1;
        if openings == OPENINGS_MAX {
            return Err(opening.why_not());
        }
    }
}

async fn open_for_all(worker: &'static Worker, goal: Goal, opening: Rc<Opening>) {
    let mut ends = Ends {
        worker,
        goal,
        opening,
        outcome: None,
    };
    ends.outcome = Some(
        open_shared(worker, &goal)
            .await
            .unwrap_or_else(Outcome::Failed),
    );
}

async fn open_shared(worker: &'static Worker, goal: &Goal) -> Result<Outcome, Failure> {
    let (nobody, _far) = pipe(&worker.wheel);
    let (opened, spoken) = open(worker, &nobody, goal).await?;
    match spoken {
        Spoken::Http1 => {
            let connection = own(worker, opened);
            Ok(Outcome::Own(RefCell::new(Some(Box::new(connection)))))
        }
        Spoken::Http2 => {
            let shared = worker.idle.share(worker, opened).await?;
            Ok(Outcome::Shared(shared))
        }
    }
}

/// Tells those who wait, whatever becomes of the task.
struct Ends {
    worker: &'static Worker,
    goal: Goal,
    opening: Rc<Opening>,
    outcome: Option<Outcome>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        let outcome = outcome.unwrap_or(Outcome::Failed(Failure::Broken));
        self.worker
            .idle
            .end_opening(self.goal.account, &self.opening, outcome);
    }
}

/// Shares a connection that was opened for one request, which is the first on it.
pub(super) async fn adopt(worker: &'static Worker, opened: Opened) -> Result<Connection, Failure> {
    let shared = worker.idle.share(worker, opened).await?;
    shared.begin_request(worker).ok_or(Failure::Broken)
}
