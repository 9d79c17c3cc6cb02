//! The request's body on its way to the provider: what is held at once, and the rest as it comes.

use super::{RequestBody, read_failed};
use crate::request::refusal::Refusal;
use crate::worker::Worker;
use relay_io::{Either, IoError, Stream, either};
use relay_wire::dialect::Edit;
use relay_wire::encode::{CHUNK_SIZE_LINE_MAX, chunk_size_line};
use relay_wire::head::Framing;
use smallvec::SmallVec;
use std::io::IoSlice;
use std::pin::pin;

/// The most parts that one `sendmsg` takes (UIO_MAXIOV).
const PARTS_MAX: usize = 1024;

/// How passing on a body ended, other than by its end.
pub enum Interrupted {
    /// The upstream has something to say before all of the body was sent.
    EarlyAnswer,
    /// The upstream does not take any more.
    Upstream(IoError),
    /// The client's side failed.
    Client(Refusal),
}

impl RequestBody<'_> {
    /// What makes it ask for the usage of a Chat stream too, if all of it is at hand and it does not yet.
    pub fn usage_request_edit(&self) -> Option<Edit> {
        if !self.is_complete() || !self.can_be_sent_again() {
            return None;
        }
        self.said()?.usage_request_edit()
    }

    /// The framing with which the body goes on, changed by `edit`: counted wherever its length is known.
    pub fn onward_framing(&self, edit: Option<&Edit>) -> Framing {
        match (self.framing, edit) {
            (Framing::Length(_) | Framing::Chunked, Some(edit)) if self.is_complete() => {
                let inserted_bytes = edit.insert.len() as u64;
                Framing::Length(self.received_bytes - edit.remove + inserted_bytes)
            }
            (Framing::Chunked, None) if self.is_complete() => Framing::Length(self.received_bytes),
            (same, _) => same,
        }
    }

    /// Sends the held part, changed by `edit`, to the upstream behind its head; all of it if the body is complete. Only one that
    /// is may be changed.
    ///
    /// # Errors
    /// The upstream does not take it.
    pub async fn send_held(
        &self,
        worker: &Worker,
        upstream: &Stream,
        head: &[&[u8]],
        edit: Option<&Edit>,
    ) -> Result<(), IoError> {
        let stall_timeout = worker.policy.timeouts.write_stall;
        let mut line = [0; CHUNK_SIZE_LINE_MAX];
        let chunked = self.onward_framing(edit) == Framing::Chunked;
        let held_bytes: usize = self.held().map(<[u8]>::len).sum();
        let mut parts: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        parts.extend(head.iter().map(|part| IoSlice::new(part)));
        if chunked && held_bytes > 0 {
            let taken = chunk_size_line(held_bytes, &mut line);
            parts.push(IoSlice::new(&line[CHUNK_SIZE_LINE_MAX - taken..]));
        }
        match edit {
            None => parts.extend(self.held().map(IoSlice::new)),
            Some(edit) => edited(self.held(), edit, |piece| parts.push(IoSlice::new(piece))),
        }
        if chunked && held_bytes > 0 {
            parts.push(IoSlice::new(b"\r\n"));
        }
        for batch in parts.chunks_mut(PARTS_MAX) {
            pin!(upstream.send(batch, stall_timeout)).await?;
        }
        Ok(())
    }

    /// Passes on what is not held, as it comes, until the body's end; or until a response turns up in it to which it refers and which
    /// is not stored where it goes, by `is_stored_there`. Of a body that cannot be looked into nothing is known of that.
    ///
    /// # Errors
    /// Either side ended it.
    pub async fn pass_on(
        &mut self,
        worker: &'static Worker,
        upstream: &Stream,
        is_stored_there: impl Fn(&str) -> bool,
    ) -> Result<(), Interrupted> {
        let stall_timeout = worker.policy.timeouts.write_stall;
        let chunked = self.onward_framing(None) == Framing::Chunked;
        let mut lease = worker.pool.large();
        while !self.is_complete() {
            self.set_read_deadline(worker);
            let first = either(self.client.readable(), upstream.readable()).await;
            self.client.clear_deadline();
            match first {
                Either::First(Ok(())) => {}
                Either::First(Err(error)) => return Err(Interrupted::Client(read_failed(&error))),
                Either::Second(Ok(())) => return Err(Interrupted::EarlyAnswer),
                Either::Second(Err(error)) => return Err(Interrupted::Upstream(error)),
            }
            lease.truncate(0);
            self.read_now(worker, &mut lease)
                .map_err(Interrupted::Client)?;
            self.passed_on = true;
            self.finish_scan();
            if let Some(refusal) = self.must_not_become_complete(&is_stored_there) {
                return Err(Interrupted::Client(refusal));
            }
            if lease.is_empty() {
                continue;
            }
            let mut line = [0; CHUNK_SIZE_LINE_MAX];
            let sent = if chunked {
                let taken = chunk_size_line(lease.len(), &mut line);
                let size_line = IoSlice::new(&line[CHUNK_SIZE_LINE_MAX - taken..]);
                let mut parts = [
                    size_line,
                    IoSlice::new(lease.filled()),
                    IoSlice::new(b"\r\n"),
                ];
                upstream.send(&mut parts, stall_timeout).await
            } else {
                upstream
                    .send(&mut [IoSlice::new(lease.filled())], stall_timeout)
                    .await
            };
            sent.map_err(Interrupted::Upstream)?;
        }
        if chunked {
            let last = upstream
                .send(&mut [IoSlice::new(b"0\r\n\r\n")], stall_timeout)
                .await;
            last.map_err(Interrupted::Upstream)?;
        }
        Ok(())
    }

    /// It was routed by what its beginning seemed to say. What may name another model, or hides that it does, goes no further, and
    /// neither does what only another account could answer.
    fn must_not_become_complete(&self, is_stored_there: impl Fn(&str) -> bool) -> Option<Refusal> {
        if self.model_needed && self.scan_error.is_some() {
            return Some(Refusal::BodyMalformed);
        }
        let id = self.said()?.previous_response_id()?;
        let is_elsewhere = !id.is_empty() && !is_stored_there(id);
        is_elsewhere.then_some(Refusal::ResponseNotFound { in_path: false })
    }
}

/// The pieces with the change made, none of them copied.
fn edited<'p>(pieces: impl Iterator<Item = &'p [u8]>, edit: &Edit, mut push: impl FnMut(&'p [u8])) {
    let (mut start, mut is_inserted) = (0, false);
    for piece in pieces {
        let end = start + piece.len() as u64;
        // Inside the piece, so it fits.
        let place = |at: u64| (at.clamp(start, end) - start) as usize;
        let (before, behind) = (
            &piece[..place(edit.at)],
            &piece[place(edit.at + edit.remove)..],
        );
        if !before.is_empty() {
            push(before);
        }
        if !is_inserted && edit.at <= end {
            is_inserted = true;
            push(edit.insert);
        }
        if !behind.is_empty() {
            push(behind);
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_the_same_wherever_the_body_is_split() {
        let body = b"0123456789";
        for (at, remove, wanted) in [
            (4, 0, &b"0123xy456789"[..]),
            (4, 3, b"0123xy789"),
            (0, 2, b"xy23456789"),
            (9, 1, b"012345678xy"),
            (10, 0, b"0123456789xy"),
        ] {
            let edit = Edit {
                at,
                remove,
                insert: b"xy",
            };
            for first in 0..=body.len() {
                for second in first..=body.len() {
                    let pieces = [&body[..first], &body[first..second], &body[second..]];
                    let mut found = Vec::new();
                    let held = pieces.into_iter().filter(|piece| !piece.is_empty());
                    edited(held, &edit, |piece| {
                        assert!(!piece.is_empty());
                        found.extend_from_slice(piece);
                    });
                    assert_eq!(
                        found, wanted,
                        "{at}, {remove}, split at {first} and {second}"
                    );
                }
            }
        }
    }
}
