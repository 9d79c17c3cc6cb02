//! Waiting for an account while all of them are busy, or blocked for no longer than the request may wait.
//!
//! Nobody is woken: who waits looks again after a moment, and only those for whom there could be a place look. Requests wait in
//! the order of their room, which is fair between tenants, and leave it for those of tenants that have less.

use super::{Candidates, retry};
use crate::accounts::Target;
use crate::config::policy::UpstreamId;
use crate::health::Moment;
use crate::request::Request;
use crate::request::refusal::Refusal;
use crate::request::reply::Early;
use crate::waiting::{NoRoom, Rank, Ticket};
use crate::worker::Worker;
use std::time::{Duration, Instant};

/// Between two looks of those that are nearly there, and of the others.
const NEAR_STEP: Duration = Duration::from_millis(5);
const FAR_STEP: Duration = Duration::from_millis(25);

/// How many are nearly there.
const NEAR_MAX: usize = 32;

/// How long a request has waited, and still may.
pub(super) struct Queue {
    left: Duration,
    waited: Option<Duration>,
    ticket: Option<Ticket>,
    turned_away: Option<TurnedAway>,
}

/// Why a request does not get what it would have waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TurnedAway {
    /// There was no room for it, or its time was over before its turn came.
    InVain,
    /// Its tenant has more than others that wait.
    AboveShare,
}

impl Queue {
    /// It may wait for so long in all.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            left: timeout,
            waited: None,
            ticket: None,
            turned_away: None,
        }
    }

    /// The request has a place in a room.
    pub(super) fn is_entered(&self) -> bool {
        self.ticket.is_some()
    }

    /// It waits no longer, and has not got what it waited for.
    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away.is_some()
    }

    /// It is so for the sake of tenants that have less.
    pub(super) fn is_above_share(&self) -> bool {
        self.turned_away == Some(TurnedAway::AboveShare)
    }

    fn turn_away(&mut self, why: TurnedAway) {
        self.left = Duration::ZERO;
        self.ticket = None;
        self.turned_away = Some(why);
    }

    /// It has what it waited for.
    pub(super) fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.served();
        }
    }

    /// How long it has waited, if it has.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.waited
    }

    fn note_step(&mut self, duration: Duration) {
        self.left = self.left.saturating_sub(duration);
        self.waited = Some(self.waited.unwrap_or_default() + duration);
    }
}

/// As many wait there as there are places free, or more: who comes anew comes after them. Where nobody is well that is said of the
/// accounts that are asked for want of others, once they may be.
pub(super) fn is_crowded(
    worker: &Worker,
    upstream: UpstreamId,
    may_panic: bool,
    now: Moment,
) -> bool {
    let waiting = worker.accounts.rooms.in_line(upstream);
    if waiting == 0 {
        return false;
    }
    let free = worker.chooser.free_places(upstream, now);
    waiting >= free.places && (may_panic || !free.in_panic)
}

impl Candidates {
    /// How long the request may still wait for an account.
    pub(super) fn patience(&self, worker: &Worker, request: &Request<'_>) -> Duration {
        if self.attempts == 0 {
            return self.queue.left;
        }
        let timeout = worker.policy.timeouts.retry;
        let until_last_attempt = timeout.saturating_sub(request.held_at.elapsed());
        self.queue.left.min(until_last_attempt)
    }

    /// Waits in this room until there may be something for the request, or until it may wait no longer: because its time is over,
    /// or because there is no room.
    pub(super) async fn wait(
        &mut self,
        worker: &'static Worker,
        request: &Request<'_>,
        early: &mut Early<'_>,
        room: UpstreamId,
    ) -> Result<(), Refusal> {
        match &self.queue.ticket {
            // What is free is nothing for it, or what it waits for is nothing for others.
            Some(ticket) => {
                ticket.stand_aside(self.is_particular() || self.free_places(worker) > 0);
            }
            None => match worker.accounts.rooms.enter(room, self.tenant) {
                Ok(ticket) => self.queue.ticket = Some(ticket),
                Err(NoRoom::Full) => self.queue.turn_away(TurnedAway::InVain),
                Err(NoRoom::AboveShare) => self.queue.turn_away(TurnedAway::AboveShare),
            },
        }
        while let Some(ticket) = &self.queue.ticket {
            let step = match ticket.rank(NEAR_MAX) {
                Rank::First => NEAR_STEP,
                Rank::Behind => FAR_STEP,
                Rank::Displaced => {
                    self.queue.turn_away(TurnedAway::AboveShare);
                    break;
                }
            };
            let began_at = Instant::now();
            let patience = self.patience(worker, request);
            retry::pause_while_present(worker, request.client, step.min(patience)).await?;
            self.queue.note_step(began_at.elapsed());
            early.begin_if_due(worker, request, room).await?;
            if self.may_look(worker) {
                return Ok(());
            }
            if self.patience(worker, request).is_zero() {
                self.queue.turn_away(TurnedAway::InVain);
            }
        }
        Ok(())
    }

    /// Most accounts would not do for it: it refers to what one has, or some have failed it.
    fn is_particular(&self) -> bool {
        matches!(self.target, Target::Owner(_)) || !self.tried.is_empty()
    }

    /// There may be a place for the request; and the first in the room looks in any case, since there may be no hope left.
    fn may_look(&self, worker: &Worker) -> bool {
        let free = self.free_places(worker);
        let ticket = self.queue.ticket.as_ref();
        ticket.is_none_or(|ticket| ticket.rank(free.max(1)) == Rank::First)
    }

    /// Places that are free for anybody; those of accounts that are not well only count where nobody is well.
    fn free_places(&self, worker: &Worker) -> usize {
        let now = worker.accounts.health.clock().now();
        let free = |upstream: &UpstreamId| worker.chooser.free_places(*upstream, now);
        let (mut well, mut in_panic, mut is_panic) = (0, 0, true);
        for free in self.left.iter().map(free) {
            is_panic &= free.in_panic;
            let sum = if free.in_panic {
                &mut in_panic
            } else {
                &mut well
            };
            *sum += free.places;
        }
        if is_panic { in_panic } else { well }
    }
}
