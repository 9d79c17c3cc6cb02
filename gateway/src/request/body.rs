//! The request's body: read, looked at, held so that it can be sent again, and passed on where it is too long to hold.
//!
//! Only payload is held, in the leases that the kernel filled; the client's framing is taken out and never passed on.

mod onward;

pub use onward::Interrupted;

use super::refusal::Refusal;
use crate::worker::{HeldBytes, Worker};
use relay_io::{Interrupt, IoError, Lease, Received, SMALL_LEASE_BYTES, Stream};
use relay_wire::body::{BodyError, BodyParser, Piece, Sender};
use relay_wire::dialect::{ContentCoding, RequestScan, ScanError};
use relay_wire::head::{Framing, RequestHead};
use std::io::IoSlice;
use std::time::Duration;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request's body, and the lease that its head stands in.
pub struct RequestBody<'c> {
    client: &'c Stream,
    /// The head, and behind it the beginning of the body (payload only).
    first: Lease,
    head_bytes: usize,
    /// More payload, in order.
    held: Vec<Lease>,
    held_bytes: HeldBytes,
    parser: BodyParser,
    framing: Framing,
    /// Looks at the payload as it comes, where there is something to look at.
    scan: Option<RequestScan>,
    scan_error: Option<ScanError>,
    received_bytes: u64,
    bytes_max: u64,
    expects_continue: bool,
    /// Whether the request is allowed depends on the model that the body names.
    model_needed: bool,
    /// Part of it was sent to an upstream and is gone.
    passed_on: bool,
    /// What follows the body on the connection.
    next: Option<Lease>,
    broken: Option<BodyError>,
    /// The point in time at which all of it must have come.
    total_deadline: u64,
}

impl<'c> RequestBody<'c> {
    /// The body that begins behind the head in `lease`.
    pub fn new(
        worker: &'static Worker,
        client: &'c Stream,
        head: &RequestHead,
        lease: Lease,
    ) -> Self {
        let limits = &worker.policy.limits;
        let scan = coding_to_scan(head, lease.filled()).map(|coding| {
            RequestScan::new(coding, limits.json_depth_max, limits.decoded_body_bytes_max)
        });
        let mut body = Self {
            client,
            first: lease,
            head_bytes: head.head_bytes,
            held: Vec::new(),
            held_bytes: worker.hold_nothing(),
            parser: BodyParser::new(head.framing, Sender::Client),
            framing: head.framing,
            scan,
            scan_error: None,
            received_bytes: 0,
            bytes_max: limits.body_bytes_max,
            expects_continue: head.expects_continue,
            model_needed: false,
            passed_on: false,
            next: None,
            broken: None,
            total_deadline: client.deadline_at(worker.policy.timeouts.request_body_total),
        };
        body.take_first();
        body
    }

    /// The head's bytes.
    pub fn head_bytes(&self) -> &[u8] {
        &self.first.filled()[..self.head_bytes]
    }

    /// Lets go of everything held, head included: a stream may last an hour.
    pub fn let_go(&mut self) {
        drop(self.first.take());
        self.head_bytes = 0;
        self.held = Vec::new();
        self.held_bytes.give_back();
        self.scan = None;
        self.passed_on = true;
    }

    /// Its end has been read.
    pub fn is_complete(&self) -> bool {
        self.parser.is_complete()
    }

    /// Payload received so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// How many bytes it has, or at least will have; decoded, as far as somebody looks at it.
    pub fn text_bytes(&self) -> u64 {
        let decoded = self.said().map_or(0, RequestScan::decoded_bytes);
        match self.framing {
            Framing::Length(bytes) => decoded.max(bytes),
            _ => decoded.max(self.received_bytes),
        }
    }

    /// The beginning of the next request was read already.
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// What follows on the connection: the beginning of the next request, unless the protocol has changed.
    pub fn take_next(&mut self) -> Option<Lease> {
        self.next.take()
    }

    /// The model that the body names.
    pub fn model(&self) -> Option<&str> {
        self.scan.as_ref().and_then(RequestScan::model)
    }

    /// Why nothing can be concluded from the body, if so.
    pub fn scan_error(&self) -> Option<ScanError> {
        self.scan_error
    }

    /// What the body says of itself, if that can be relied on; of one that is not complete, as far as it was read.
    pub fn said(&self) -> Option<&RequestScan> {
        self.scan.as_ref().filter(|_| self.scan_error.is_none())
    }

    /// Somebody looks at the body: it has a form in which a model can be named.
    pub fn is_scanned(&self) -> bool {
        self.scan.is_some()
    }

    /// Reads until the body is complete, or so long that it is passed on instead of held; but in any case until its
    /// model is known if that must be.
    ///
    /// # Errors
    /// The body is broken, too large or too slow; or the client left.
    pub async fn hold(
        &mut self,
        worker: &'static Worker,
        model_needed: bool,
    ) -> Result<(), Refusal> {
        self.model_needed = model_needed;
        if let Framing::Length(bytes) = self.framing
            && bytes > self.bytes_max
        {
            return Err(Refusal::BodyTooLarge {
                bytes_max: self.bytes_max,
            });
        }
        self.check()?;
        if !self.is_complete() {
            self.invite();
            while !self.is_complete() && !self.is_held_enough(worker) {
                self.read_and_hold(worker).await?;
            }
            self.client.clear_deadline();
        }
        self.finish_scan();
        Ok(())
    }

    fn is_held_enough(&self, worker: &Worker) -> bool {
        let nothing_to_find = self.scan.is_none() || self.scan_error.is_some();
        let model_settled = !self.model_needed || nothing_to_find || self.model().is_some();
        self.received_bytes >= worker.policy.limits.retry_body_bytes_max as u64 && model_settled
    }

    fn finish_scan(&mut self) {
        if self.is_complete()
            && self.scan_error.is_none()
            && let Some(scan) = &mut self.scan
            && let Err(error) = scan.finish()
        {
            self.scan_error = Some(error);
        }
    }

    /// All that was read of it is still held: another account can be sent the same.
    pub fn can_be_sent_again(&self) -> bool {
        !self.passed_on
    }

    /// Everything held, in order, to be sent again as often as needed.
    pub fn held(&self) -> impl Iterator<Item = &[u8]> {
        let first = &self.first.filled()[self.head_bytes..];
        std::iter::once(first)
            .chain(self.held.iter().map(Lease::filled))
            .filter(|piece| !piece.is_empty())
    }

    /// Reads and throws away what is left of a body of which nothing is held any more, if that is at most `bytes_max`; true if the
    /// body is complete then.
    pub async fn drain(&mut self, worker: &'static Worker, bytes_max: usize) -> bool {
        if self.is_complete() {
            return true;
        }
        if self.expects_continue || self.broken.is_some() {
            // It was never invited; what comes now may be the body or the next request (RFC 9110 section 10.1.1).
            return false;
        }
        if let Framing::Length(bytes) = self.framing
            && bytes - self.received_bytes > bytes_max as u64
        {
            return false;
        }
        self.total_deadline = self.client.deadline_at(DRAIN_TIMEOUT);
        let before = self.received_bytes;
        while !self.is_complete() && self.received_bytes - before < bytes_max as u64 {
            self.set_read_deadline(worker);
            if self.client.readable().await.is_err() {
                return false;
            }
            let mut lease = worker.pool.small();
            if self.read_now(worker, &mut lease).is_err() {
                return false;
            }
        }
        self.client.clear_deadline();
        self.is_complete()
    }

    fn invite(&mut self) {
        if self.expects_continue && self.received_bytes == 0 {
            // A client that does not take 25 bytes now will not get its answer either.
            self.client.send_without_waiting(&[IoSlice::new(CONTINUE)]);
        }
        self.expects_continue = false;
    }

    fn set_read_deadline(&self, worker: &Worker) {
        self.client.set_deadline_within(
            worker.policy.timeouts.request_body_idle,
            self.total_deadline,
        );
    }

    /// Waits for more of the body and holds it: behind what is held already as long as there is room, so that a body that
    /// comes in small pieces takes no more memory than one that comes at once.
    async fn read_and_hold(&mut self, worker: &'static Worker) -> Result<(), Refusal> {
        self.set_read_deadline(worker);
        let waited = self.client.readable().await;
        waited.map_err(|error| read_failed(&error))?;
        let last = self.held.last_mut().unwrap_or(&mut self.first);
        if last.spare_bytes() < ROOM_BYTES_MIN {
            let lease = if self.expects_much() {
                worker.pool.large()
            } else {
                worker.pool.small()
            };
            if !self.held_bytes.grow(lease.spare_bytes()) {
                return Err(Refusal::Overloaded);
            }
            self.held.push(lease);
        }
        let last = self.held.last_mut().unwrap_or(&mut self.first);
        let mut lease = last.take();
        let outcome = self.read_now(worker, &mut lease);
        *self.held.last_mut().unwrap_or(&mut self.first) = lease;
        outcome
    }

    /// Reads what is there behind what the lease holds, which then holds the payload of it too.
    fn read_now(&mut self, worker: &Worker, lease: &mut Lease) -> Result<(), Refusal> {
        let from = lease.len();
        match self.client.read_now(lease) {
            Ok(None) => return Ok(()),
            Ok(Some(Received::Bytes(_))) => {}
            Ok(Some(Received::End)) if worker.is_ending() => return Err(Refusal::ShuttingDown),
            Ok(Some(Received::End)) => return Err(Refusal::ClientGone),
            Err(error) => return Err(read_failed(&error)),
        }
        self.take(lease, from);
        self.check()
    }

    fn expects_much(&self) -> bool {
        match self.framing {
            Framing::Length(bytes) => bytes - self.received_bytes > SMALL_LEASE_BYTES as u64,
            _ => self.received_bytes > SMALL_LEASE_BYTES as u64,
        }
    }

    fn take_first(&mut self) {
        let mut lease = self.first.take();
        self.take(&mut lease, self.head_bytes);
        self.first = lease;
    }

    /// Takes the framing out of what was received from `from` on, so that only payload is left there; puts aside what
    /// belongs to the next request; looks at the payload.
    fn take(&mut self, lease: &mut Lease, from: usize) {
        let (mut at, mut payload_end) = (from, from);
        let mut end = self.parser.is_complete().then_some(from);
        while end.is_none() {
            match self.parser.next(lease.filled(), at) {
                Ok(Some(Piece::Payload(range))) => {
                    at = range.end;
                    if range.start != payload_end {
                        lease.filled_mut().copy_within(range.clone(), payload_end);
                    }
                    payload_end += range.len();
                }
                Ok(Some(Piece::End(index))) => end = Some(index),
                Ok(Some(piece)) => at = piece.end(),
                Ok(None) => break,
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        if let Some(index) = end.or_else(|| self.parser.is_complete().then_some(at))
            && index < lease.len()
        {
            self.next = Some(lease.split_off(index));
        }
        lease.truncate(payload_end);
        let payload = &lease.filled()[from..];
        self.received_bytes += payload.len() as u64;
        if let Some(scan) = &mut self.scan
            && self.scan_error.is_none()
            && let Err(error) = scan.feed(payload)
        {
            self.scan_error = Some(error);
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.broken.is_some() {
            return Err(Refusal::BodyMalformed);
        }
        if self.received_bytes > self.bytes_max {
            return Err(Refusal::BodyTooLarge {
                bytes_max: self.bytes_max,
            });
        }
        Ok(())
    }
}

fn read_failed(error: &IoError) -> Refusal {
    match error {
        IoError::Interrupted(Interrupt::Deadline) => Refusal::BodyTooSlow,
        IoError::Interrupted(Interrupt::Shutdown) => Refusal::ShuttingDown,
        _ => Refusal::ClientGone,
    }
}

/// Room that is still worth reading into.
const ROOM_BYTES_MIN: usize = 1024;

/// How long the rest of a refused body may take: the client waits for its answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How the body can be looked into, if its media type is one in which a model is named.
fn coding_to_scan(head: &RequestHead, bytes: &[u8]) -> Option<ContentCoding> {
    if head.framing == Framing::Empty {
        return None;
    }
    let is_json = head.value(bytes, "content-type").is_none_or(|media| {
        let essence = media
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json")
            || essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json")
    });
    if !is_json {
        return None;
    }
    match head.value(bytes, "content-encoding") {
        None => Some(ContentCoding::Identity),
        Some(coding) if coding.eq_ignore_ascii_case(b"identity") => Some(ContentCoding::Identity),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") => Some(ContentCoding::Gzip),
        Some(coding) if coding.eq_ignore_ascii_case(b"zstd") => Some(ContentCoding::Zstd),
        Some(_) => None,
    }
}
