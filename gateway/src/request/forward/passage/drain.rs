//! A client that leaves in the middle of an answer, and what becomes of the rest.
//!
//! The provider goes on counting for as long as it is connected, and says what it has counted at the answer's end only. Where the
//! operator wants to know it the answer is read to that end, under the same time-outs as if somebody received it. The client's
//! leaving must not interrupt the provider's connection then, but marks it: when the gateway itself ends, what nobody waits for is
//! let go first.

use super::{Passage, Step};
use crate::config::policy::{CancelledStreams, TenantId};
use crate::request::Request;
use crate::request::egress::Answer;
use crate::request::forward::Ending;
use crate::worker::Worker;
use relay_io::{Interrupt, Stream};
use relay_wire::head::{Method, Version};
use std::time::Duration;

/// How long the body's own end may take behind the event that ends the stream: it costs nothing but the connection.
const FRAMING_TIMEOUT: Duration = Duration::from_secs(1);

/// Is the answer to be read to its end even if its client leaves?
pub(in crate::request::forward) fn outlasts_client(
    worker: &Worker,
    request: &Request<'_>,
    answer: &Answer,
    tenant: Option<TenantId>,
) -> bool {
    // What a client of HTTP/1.0 has got looks complete until its connection is reset, so that cannot wait.
    request.head.version == Version::Http11
        && request.head.method == Method::Post
        && !answer.observer.is_blind()
        && tenant.is_some_and(|tenant| {
            worker.policy.tenant(tenant).cancelled_streams == CancelledStreams::Drain
        })
}

impl Passage {
    /// The client has left behind this step of the answer, which ends so for it.
    pub(super) async fn outlast(
        &mut self,
        worker: &Worker,
        client: &Stream,
        step: Step,
        ending: Ending,
    ) -> Ending {
        if self.outlasts_client && matches!(ending, Ending::ClientGone | Ending::ClientStalled) {
            self.answer.connection.stream.set_orphaned(true);
            self.drained = Some(Box::pin(self.drain(worker, client, step)).await);
        }
        ending
    }

    /// Reads on to the end, and says how the answer ended at the provider.
    async fn drain(&mut self, worker: &Worker, client: &Stream, mut step: Step) -> Ending {
        loop {
            match step {
                Step::More => {}
                Step::End => return self.ended(),
                Step::Broken => return self.cut(Ending::UpstreamBroken),
            }
            self.set_deadline(worker);
            let stream = &self.answer.connection.stream;
            if self.answer.observer.terminal().is_some() {
                stream.set_deadline_within(FRAMING_TIMEOUT, self.total_deadline);
            }
            let lease = match stream.receive(&worker.pool).await {
                Ok(Some(lease)) => lease,
                Ok(None) if self.ends_with_connection() => return self.ended(),
                Ok(None) => return self.cut(Ending::UpstreamBroken),
                Err(error) => return self.cut(self.upstream_failed(&error, client)),
            };
            step = self.frame(lease.filled());
            self.observe(worker, lease.filled());
        }
    }

    /// The body was cut; but what comes behind a stream's last event matters to nobody.
    fn cut(&self, ending: Ending) -> Ending {
        match self.answer.observer.terminal() {
            Some(_) => Ending::Complete,
            None => ending,
        }
    }

    /// How it ended for the client, if that is why: it has left, though nobody had anything to send to it since.
    pub(super) fn left_unnoticed(&mut self, client: &Stream, ending: Ending) -> Ending {
        let has_left = matches!(
            client.interrupted(),
            Some(Interrupt::PeerGone | Interrupt::Deadline)
        );
        if !self.outlasts_client || !has_left {
            return ending;
        }
        self.drained = Some(ending);
        Ending::ClientGone
    }

    /// The client has seen the event that ends the stream: nothing is gained by outlasting it any more.
    pub(super) fn tie_again(&mut self, client: &Stream) {
        if self.outlasts_client && self.answer.observer.terminal().is_some() {
            self.outlasts_client = false;
            client.tie(&self.answer.connection.stream);
        }
    }

    /// All of it was passed on, or read where nobody was there to take it.
    pub(in crate::request::forward) fn was_read_to_its_end(&self) -> bool {
        self.is_whole || self.drained.is_some() && self.is_over
    }

    /// How the answer ended at the provider, if it ended so for the client.
    pub(super) fn ended_at_provider(&self, ending: Ending) -> Ending {
        match (self.drained, ending) {
            (Some(drained), _) => drained,
            (None, Ending::ClientGone | Ending::ClientStalled) if self.is_over => self.ended(),
            _ => ending,
        }
    }
}
