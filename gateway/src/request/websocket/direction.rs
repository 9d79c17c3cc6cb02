//! One way through a tunnel: what comes from one side is read on the way and goes on to the other.
//!
//! The lease that the kernel filled is what is sent. Only the beginning of a frame's header is kept until the rest of it has come, so
//! that whatever is refused is refused between two frames, where a close can follow.

use super::tunnel::{End, Tunnel};
use crate::request::forward::Ending;
use crate::request::refusal::Refusal;
use relay_io::{Interrupt, IoError, Lease, Stream};
use relay_wire::websocket::{
    Ended, FrameReader, HEADER_BYTES_MAX, Mask, Piece, Sender, Violation, code,
};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::io::IoSlice;

/// What is read of a client's message at a time, without its mask.
const UNMASKED_BYTES: usize = 1024;

/// Whose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    FromClient = 0,
    FromProvider = 1,
}

impl Way {
    /// The other one.
    fn back(self) -> Self {
        match self {
            Self::FromClient => Self::FromProvider,
            Self::FromProvider => Self::FromClient,
        }
    }
}

/// What is known of one way.
pub(super) struct Direction {
    reader: RefCell<FrameReader>,
    is_sending: Cell<bool>,
    /// What was sent ends between two frames.
    is_between_frames: Cell<bool>,
    /// And between two messages.
    is_between_messages: Cell<bool>,
    /// A close was sent: nothing may follow (RFC 6455 section 5.5.1).
    is_closed: Cell<bool>,
    bytes: Cell<u64>,
}

impl Direction {
    pub(super) fn both(message_bytes_max: u64) -> [Self; 2] {
        [Sender::Client, Sender::Server].map(|sender| Self {
            reader: RefCell::new(FrameReader::new(sender, message_bytes_max)),
            is_sending: Cell::new(false),
            is_between_frames: Cell::new(true),
            is_between_messages: Cell::new(true),
            is_closed: Cell::new(false),
            bytes: Cell::new(0),
        })
    }

    pub(super) fn is_sending(&self) -> bool {
        self.is_sending.get()
    }

    pub(super) fn is_between_messages(&self) -> bool {
        self.is_between_messages.get()
    }

    /// A close can be sent now.
    pub(super) fn may_be_closed(&self) -> bool {
        self.is_between_frames.get() && !self.is_sending.get() && !self.is_closed.get()
    }

    pub(super) fn note_closed(&self) {
        self.is_closed.set(true);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

/// What is done with what was read.
#[derive(Default)]
struct Step {
    /// So much of it goes on; `None`: nothing, not even what was kept before it.
    passes: Option<usize>,
    /// Why no more may.
    refusal: Option<Refusal>,
    /// The same, because of how it was said.
    violation: Option<Violation>,
    /// The sender has closed its side, with this code if it named one.
    closed: Option<Option<u16>>,
}

impl Tunnel<'_> {
    fn ends(&self, way: Way) -> (&Stream, &Stream) {
        match way {
            Way::FromClient => (self.client, self.upstream),
            Way::FromProvider => (self.upstream, self.client),
        }
    }

    /// Passes on what comes this way until its sender has closed, is gone, or the tunnel ends.
    pub(super) async fn pass(&self, way: Way, first: Option<Lease>) {
        let direction = &self.directions[way as usize];
        let (from, _) = self.ends(way);
        let mut next = first.filter(|lease| !lease.is_empty());
        loop {
            let lease = match next.take() {
                Some(lease) => lease,
                None => match from.receive(&self.worker.pool).await {
                    Ok(Some(lease)) => lease,
                    Ok(None) => return self.sender_is_gone(way, None),
                    Err(error) => return self.sender_is_gone(way, Some(&error)),
                },
            };
            direction
                .bytes
                .set(direction.bytes.get() + lease.len() as u64);
            let held: SmallVec<[u8; HEADER_BYTES_MAX]> =
                direction.reader.borrow().unfinished_header().into();
            let step = self.read(way, lease.filled());
            if !direction.is_closed.get()
                && let Some(passed) = step.passes
            {
                let parts = &mut [IoSlice::new(&held), IoSlice::new(&lease.filled()[..passed])];
                if let Err(error) = self.send(way, parts).await
                    && !self.goes_on_without_receiver(way, &error)
                {
                    return;
                }
            }
            drop(lease);
            self.send_close(way);
            if let Some(refusal) = &step.refusal {
                self.refuse(refusal);
            }
            if let Some(violation) = step.violation {
                // What follows cannot be read.
                return self.break_off(violation);
            }
            if let Some(code) = step.closed {
                direction.note_closed();
                return self.note_closed(way, code);
            }
            self.touch();
        }
    }
}

impl Tunnel<'_> {
    async fn send(&self, way: Way, parts: &mut [IoSlice<'_>]) -> Result<(), IoError> {
        let direction = &self.directions[way as usize];
        let (_, to) = self.ends(way);
        let parts = if parts[0].is_empty() {
            &mut parts[1..]
        } else {
            parts
        };
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(());
        }
        direction.is_sending.set(true);
        // While its provider takes nothing, only the wheel sees whether the client is still there.
        if way == Way::FromClient {
            self.client.tie(self.upstream);
        }
        let stall_timeout = self.worker.policy.timeouts.write_stall;
        let sent = match self.close_deadline() {
            None => to.send(parts, stall_timeout).await,
            Some(limit) => to.send_within(parts, stall_timeout, limit).await,
        };
        if let Some(limit) = self.close_deadline() {
            to.set_deadline_at(limit);
        }
        if way == Way::FromClient {
            self.client.untie();
        }
        direction.is_sending.set(false);
        sent
    }

    /// Reads what has come, and finds out what of it goes on.
    fn read(&self, way: Way, bytes: &[u8]) -> Step {
        let direction = &self.directions[way as usize];
        let mut reader = direction.reader.borrow_mut();
        let mut step = Step::default();
        // Where the frame begins that is being read; 0: with what was kept. `None`: its beginning has gone on already.
        let mut start = reader.is_between_frames().then_some(0);
        // From where on nothing goes on any more, if so.
        let mut stop = None;
        let mut at = 0;
        loop {
            let is_over = direction.is_closed.get() || stop.is_some();
            if !is_over && at > 0 && start == Some(at) && self.is_closing() {
                stop = Some(start);
            }
            match reader.next(bytes, at) {
                Ok(Some(Piece::Payload { range, mask })) => {
                    at = range.end;
                    // What a provider says is charged for, whether it goes on or not.
                    if way == Way::FromProvider || !is_over {
                        self.hear(way, &bytes[range], mask);
                    }
                }
                Ok(Some(Piece::End { at: end, what })) => {
                    at = end;
                    if what == Ended::Message
                        && let Err(refusal) = self.end_of_message(way)
                    {
                        // The client's message must not go on; the provider's was the last one that may.
                        let last = match way {
                            Way::FromClient => start,
                            Way::FromProvider => Some(end),
                        };
                        stop = stop.or(Some(last));
                        step.refusal = step.refusal.or(Some(refusal));
                    }
                    start = Some(end);
                    if let Ended::Close(code) = what {
                        step.closed = Some(code);
                        break;
                    }
                }
                Ok(None) => break,
                Err(violation) => {
                    step.violation = Some(violation);
                    stop = stop.or(Some(start));
                    break;
                }
            }
        }
        let is_between_frames = match stop {
            Some(last) => last.is_some(),
            None => reader.is_between_frames(),
        };
        let kept = reader.unfinished_header().len();
        step.passes = match stop {
            Some(last) => last.filter(|end| *end > 0),
            None if step.closed.is_some() => Some(at),
            None => bytes.len().checked_sub(kept),
        };
        direction.is_between_frames.set(is_between_frames);
        let is_between_messages = is_between_frames && reader.is_between_messages();
        direction.is_between_messages.set(is_between_messages);
        step
    }

    fn hear(&self, way: Way, payload: &[u8], mask: Option<Mask>) {
        let mut talk = self.talk.borrow_mut();
        match mask {
            _ if way == Way::FromProvider => talk.hear_provider(payload),
            None => talk.hear_client(payload),
            Some(mut mask) => {
                let mut plain = [0; UNMASKED_BYTES];
                for masked in payload.chunks(UNMASKED_BYTES) {
                    let plain = &mut plain[..masked.len()];
                    plain.copy_from_slice(masked);
                    mask.apply(plain);
                    mask = mask.behind(masked.len());
                    talk.hear_client(plain);
                }
            }
        }
    }

    fn end_of_message(&self, way: Way) -> Result<(), Refusal> {
        let mut talk = self.talk.borrow_mut();
        match way {
            Way::FromClient => talk.end_of_client(self.trail),
            Way::FromProvider => talk.end_of_provider(self.trail),
        }
    }

    /// Nothing more comes from a side, or it was too long in coming.
    fn sender_is_gone(&self, way: Way, error: Option<&IoError>) {
        if self.is_closing() {
            return;
        }
        if self.is_ending() {
            // The other side has closed, and this one has left instead of saying so too.
            return self.close_with(End::of(Ending::Complete), code::NORMAL, "");
        }
        let reason = match error {
            Some(IoError::Interrupted(reason)) => Some(*reason),
            _ => None,
        };
        // The time in which it must take what is sent to it runs on the same socket.
        let is_stalled = self.directions[way.back() as usize].is_sending();
        match (way, reason) {
            (Way::FromClient, Some(Interrupt::Deadline)) if is_stalled => {
                self.client_is_gone(Ending::ClientStalled);
            }
            (Way::FromProvider, Some(Interrupt::Deadline)) if is_stalled => self.provider_is_gone(),
            (_, Some(Interrupt::Deadline)) => {
                let why = if self.has_lasted_too_long() {
                    "it was open for too long"
                } else {
                    "nothing was said for too long"
                };
                let end = End::of_deadline(self.has_lasted_too_long());
                self.close_with(end, code::GOING_AWAY, why);
            }
            (_, Some(Interrupt::Shutdown)) => self.shut_down(),
            (Way::FromClient, Some(Interrupt::PeerGone)) => self.client_is_gone(Ending::ClientGone),
            (Way::FromClient, _) if self.worker.is_draining() => self.shut_down(),
            (Way::FromClient, _) => self.client_is_gone(Ending::ClientGone),
            (Way::FromProvider, Some(Interrupt::Tied)) => {}
            (Way::FromProvider, _) => self.provider_is_gone(),
        }
    }

    /// A side takes nothing any more. False: this way is over.
    fn goes_on_without_receiver(&self, way: Way, error: &IoError) -> bool {
        let reason = match error {
            IoError::Interrupted(reason) => Some(*reason),
            IoError::Socket(_) => None,
        };
        match (way, reason) {
            (_, Some(Interrupt::Shutdown)) => self.shut_down(),
            (Way::FromClient, Some(Interrupt::Tied)) => self.client_is_gone(Ending::ClientGone),
            // A provider that cannot say anything may well read nothing: its client has to take what it says first.
            (Way::FromClient, Some(Interrupt::Deadline))
                if self.directions[way.back() as usize].is_sending() =>
            {
                self.client_is_gone(Ending::ClientStalled);
            }
            (Way::FromClient, Some(_)) => self.provider_is_gone(),
            (Way::FromClient, None) => {
                // What it has said before it left is still on its way to the client, and perhaps why it has left.
                self.directions[way as usize].note_closed();
                return true;
            }
            (Way::FromProvider, Some(Interrupt::Deadline)) => {
                self.client_is_gone(Ending::ClientStalled);
            }
            (Way::FromProvider, _) => self.client_is_gone(Ending::ClientGone),
        }
        false
    }
}
