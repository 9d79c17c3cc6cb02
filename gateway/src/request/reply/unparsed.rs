//! Refusals of what never became a request.

use super::{AwaitingHead, Reply, RequestId, linger};
use crate::request::audit;
use crate::request::refusal::Refusal;
use crate::worker::Worker;
use relay_io::Stream;
use relay_wire::head::{FramingError, Version};
use std::io::IoSlice;
use std::time::Duration;

impl Reply<'_, AwaitingHead> {
    /// Refuses bytes that are not a request, and ends the connection.
    pub async fn refuse_framing(worker: &'static Worker, client: &Stream, error: FramingError) {
        refuse_without_request(worker, client, &Refusal::Framing(error)).await;
    }

    /// Refuses a head that never became complete, and ends the connection.
    pub async fn refuse_slow_head(worker: &'static Worker, client: &Stream) {
        client.forgive_deadline();
        refuse_without_request(worker, client, &Refusal::HeadTooSlow).await;
    }

    /// Records a head that never became complete, where nothing can be answered: on a stream that does not exist yet.
    pub fn record_slow_head(worker: &'static Worker) {
        audit::record_unparsed(worker, RequestId::fresh(worker), &Refusal::HeadTooSlow);
    }

    /// Refuses a connection that is one too many for where it comes from. Whoever opens them by the thousand gets no moment of
    /// waiting: what the kernel takes at once is sent.
    pub fn refuse_connection(worker: &'static Worker, client: &Stream) {
        let refusal = Refusal::TenantConnectionLimit;
        let (_, head, body) = refusal_without_request(worker, client, &refusal);
        client.send_without_waiting(&[IoSlice::new(&head), IoSlice::new(&body)]);
        client.finish_sending();
        // What has come already would turn the close into a reset, which could overtake the answer.
        let _ = client.read_now(&mut worker.pool.small());
    }
}

async fn refuse_without_request(worker: &'static Worker, client: &Stream, refusal: &Refusal) {
    let (reply, head, body) = refusal_without_request(worker, client, refusal);
    reply.send_whole(worker, &head, &body).await;
    linger(worker, client).await;
}

/// Records a refusal of what was no request yet, and writes its answer: head and body.
fn refusal_without_request<'c>(
    worker: &'static Worker,
    client: &'c Stream,
    refusal: &Refusal,
) -> (Reply<'c, AwaitingHead>, Vec<u8>, Vec<u8>) {
    let reply = Reply {
        client,
        request_id: RequestId::fresh(worker),
        version: Version::Http11,
        answers_head: false,
        keep_alive: false,
        state: AwaitingHead { is_begun: false },
    };
    let shape = refusal.shape(0);
    let body = shape.body(reply.request_id.as_str());
    let head = reply.error_head(&shape, body.len(), 0, Duration::ZERO);
    audit::record_unparsed(worker, reply.request_id, refusal);
    (reply, head, body)
}
