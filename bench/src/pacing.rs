//! When each stream's next event is due.
//!
//! Streams of one rate are laid out over their period by the golden ratio: however many there are, their events are spread
//! almost evenly, so that the proxy sees the arrivals of independent streams and not a burst per period.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names a stream: the connection's slot, and which use of the slot it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    /// Index of the connection.
    pub slot: u32,
    /// Distinguishes the connections that had this slot one after the other.
    pub generation: u32,
}

/// Streams in the order in which they are due.
#[derive(Debug, Default)]
pub struct Agenda {
    due: BinaryHeap<Reverse<(u64, StreamKey)>>,
}

impl Agenda {
    /// Puts a stream down for a time.
    pub fn put(&mut self, due_ns: u64, key: StreamKey) {
        self.due.push(Reverse((due_ns, key)));
    }

    /// The next time at which something is due.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// Takes out the earliest stream that is due by `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<StreamKey> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        self.due.pop().map(|Reverse((_, key))| key)
    }
}

/// The first moment from `now_ns` on that belongs to the slot's phase of the period.
#[must_use]
pub fn first_due_ns(slot: u32, period_ns: u64, now_ns: u64) -> u64 {
    let phase_ns = phase_ns(slot, period_ns);
    let into_period_ns = now_ns % period_ns;
    let start_ns = now_ns - into_period_ns;
    if phase_ns >= into_period_ns {
        start_ns + phase_ns
    } else {
        start_ns + period_ns + phase_ns
    }
}

fn phase_ns(slot: u32, period_ns: u64) -> u64 {
    /// 2^64 divided by the golden ratio.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let share = u64::from(slot).wrapping_mul(GOLDEN);
    ((u128::from(share) * u128::from(period_ns)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_NS: u64 = 33_333_333;

    #[test]
    fn any_number_of_streams_is_spread_evenly() {
        for streams in [10u32, 100, 1_000, 5_000] {
            let mut phases: Vec<u64> = (0..streams).map(|slot| phase_ns(slot, PERIOD_NS)).collect();
            phases.sort_unstable();
            let even_ns = PERIOD_NS / u64::from(streams);
            let around_ns = PERIOD_NS - phases[phases.len() - 1] + phases[0];
            let widest_ns = phases
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap();
            assert!(
                widest_ns.max(around_ns) <= even_ns * 3,
                "{streams}: {widest_ns}"
            );
        }
    }

    #[test]
    fn first_due_is_within_one_period_and_keeps_the_phase() {
        for slot in 0..50 {
            for now_ns in [0, 1, PERIOD_NS - 1, PERIOD_NS, 123_456_789_012_345] {
                let due_ns = first_due_ns(slot, PERIOD_NS, now_ns);
                assert!(due_ns >= now_ns && due_ns - now_ns < PERIOD_NS);
                assert_eq!(due_ns % PERIOD_NS, phase_ns(slot, PERIOD_NS));
            }
        }
    }

    #[test]
    fn agenda_gives_what_is_due_in_order_and_no_more() {
        let key = |slot| StreamKey {
            slot,
            generation: 0,
        };
        let mut agenda = Agenda::default();
        agenda.put(30, key(3));
        agenda.put(10, key(1));
        agenda.put(20, key(2));
        assert_eq!(agenda.next_due_ns(), Some(10));
        assert_eq!(agenda.take_due(9), None);
        assert_eq!(agenda.take_due(25), Some(key(1)));
        assert_eq!(agenda.take_due(25), Some(key(2)));
        assert_eq!(agenda.take_due(25), None);
        assert_eq!(agenda.next_due_ns(), Some(30));
    }
}
