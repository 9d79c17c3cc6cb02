//! Sending an answer's body, in the form in which it goes on.

use super::hidden::HiddenUsage;
use super::{Form, Parts, Passage};
use crate::request::reply::{Owed, Reply, Streaming};
use crate::worker::Worker;
use relay_io::{IoError, Lease, Stream};
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, chunk_size_line};
use std::io::IoSlice;
use std::pin::pin;

/// Parts of one `sendmsg` where a buffer holds many small chunks whose framing is taken out.
const PARTS_MAX: usize = 64;

impl Passage {
    pub(super) async fn send_opening<'c, 'l>(
        &self,
        worker: &Worker,
        client: Owed<'c>,
        head: &'l [u8],
        parts: &mut Parts<'l>,
    ) -> (Reply<'c, Streaming>, Result<(), IoError>) {
        let (client, rest) = match client {
            Owed::All(client) => {
                parts.insert(0, IoSlice::new(head));
                let with_head = parts.len().min(PARTS_MAX);
                let (first, rest) = parts.split_at_mut(with_head);
                let (client, sent) = pin!(client.begin(worker, first)).await;
                if sent.is_err() {
                    return (client, sent);
                }
                (client, rest)
            }
            Owed::Rest(client) => (client, &mut parts[..]),
        };
        let sent = pin!(self.send_all(worker, client.client(), rest)).await;
        (client, sent)
    }

    /// Sends what `frame` found, all of the parts that the buffer allows in one call, and says how much payload that is.
    pub(super) async fn send(
        &mut self,
        worker: &Worker,
        client: &Stream,
        lease: &Lease,
    ) -> Result<usize, IoError> {
        if let Some(mut hidden) = self.hidden.take() {
            hidden.sift(&self.payload, lease.filled(), 0);
            let sent = pin!(self.send_rest(worker, client, &hidden, lease.filled())).await;
            let payload_bytes = hidden.bytes();
            hidden.forget();
            self.hidden = Some(hidden);
            return sent.map(|()| payload_bytes);
        }
        if let [only] = &self.sent[..] {
            let payload = &lease.filled()[only.clone()];
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let (before, after) = self.chunk_around(payload.len(), &mut line);
            let mut three = [
                IoSlice::new(before),
                IoSlice::new(payload),
                IoSlice::new(after),
            ];
            let parts = if before.is_empty() {
                &mut three[1..2]
            } else {
                &mut three[..]
            };
            pin!(self.send_parts(worker, client, parts)).await?;
            return Ok(self.payload_bytes());
        }
        let mut rest = &self.sent[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PARTS_MAX));
            let places = now.iter().cloned();
            let mut parts: Parts<'_> = places
                .map(|range| IoSlice::new(&lease.filled()[range]))
                .collect();
            pin!(self.send_parts(worker, client, &mut parts)).await?;
            rest = later;
        }
        Ok(self.payload_bytes())
    }

    /// Sends what goes on of a stream out of which the usage is taken; nothing if that is all there is.
    pub(super) async fn send_rest(
        &self,
        worker: &Worker,
        client: &Stream,
        hidden: &HiddenUsage,
        buffer: &[u8],
    ) -> Result<(), IoError> {
        let mut line = [0; CHUNK_SIZE_LINE_MAX];
        let mut parts = Parts::new();
        hidden.push_to(&mut parts, &[buffer]);
        self.push_chunk_around(&mut parts, hidden.bytes(), &mut line);
        self.send_all(worker, client, &mut parts).await
    }

    async fn send_all(
        &self,
        worker: &Worker,
        client: &Stream,
        parts: &mut [IoSlice<'_>],
    ) -> Result<(), IoError> {
        for batch in parts.chunks_mut(PARTS_MAX) {
            pin!(self.send_parts(worker, client, batch)).await?;
        }
        Ok(())
    }

    pub(super) async fn send_parts(
        &self,
        worker: &Worker,
        client: &Stream,
        parts: &mut [IoSlice<'_>],
    ) -> Result<(), IoError> {
        // While the client is slow, only the time of the whole answer runs, not the time between two events.
        self.answer
            .connection
            .stream
            .set_deadline_at(self.total_deadline);
        let stall_timeout = worker.policy.timeouts.write_stall;
        pin!(client.send_within(parts, stall_timeout, self.total_deadline)).await
    }

    /// What stands before and behind so many bytes of payload in the form in which they go on.
    fn chunk_around<'l>(
        &self,
        payload_bytes: usize,
        line: &'l mut [u8; CHUNK_SIZE_LINE_MAX],
    ) -> (&'l [u8], &'static [u8]) {
        if self.form != Form::Rechunked || payload_bytes == 0 {
            return (b"", b"");
        }
        let taken = chunk_size_line(payload_bytes, line);
        (&line[CHUNK_SIZE_LINE_MAX - taken..], b"\r\n")
    }

    /// Makes one chunk of the parts, which have so many bytes of payload, where they go on in chunks of ours.
    pub(super) fn push_chunk_around<'l>(
        &self,
        parts: &mut Parts<'l>,
        payload_bytes: usize,
        line: &'l mut [u8; CHUNK_SIZE_LINE_MAX],
    ) {
        let (before, after) = self.chunk_around(payload_bytes, line);
        if !before.is_empty() {
            parts.insert(0, IoSlice::new(before));
            parts.push(IoSlice::new(after));
        }
    }
}
