//! Paths on which far too much has to be sent again: told from connections that have ended.

use crate::config::Policy;
use crate::config::policy::AccountId;
use relay_ebpf::abi::address_of;
use relay_ebpf::abi::record::Event;
use std::collections::HashMap;

/// Below this it is what any network loses now and then.
const RETRANSMITS_MIN: u32 = 20;

/// One segment in so many: TCP hardly makes headway where more is lost.
const SEGMENTS_PER_RETRANSMIT: u64 = 10;

/// Payload of a segment on the common path, whose packets are 1500 bytes at most.
const SEGMENT_BYTES: u64 = 1400;

/// So many such connections make a storm: one alone may be its peer's fault.
const CONNECTIONS: usize = 3;

/// Within this time.
const WINDOW_NS: u64 = 60_000_000_000;

/// The latest connections that suffered, by account and index of its address.
#[derive(Default)]
pub(super) struct Storms(HashMap<(AccountId, usize), [Option<u64>; CONNECTIONS]>);

impl Storms {
    /// A connection has ended. The account and the address whose storm it completes, if it does; the next one is counted anew.
    pub(super) fn note(&mut self, policy: &Policy, event: &Event) -> Option<(AccountId, usize)> {
        if !has_suffered(event) {
            return None;
        }
        let account = policy.accounts.get(event.account as usize)?;
        let source = address_of(event.source);
        let address = account.egress.iter().position(|own| *own == source)?;
        let path = (AccountId(event.account as u16), address);
        let latest = self.0.entry(path).or_default();
        latest.rotate_left(1);
        latest[CONNECTIONS - 1] = Some(event.at_ns);
        let since = latest[0]?;
        if event.at_ns.saturating_sub(since) > WINDOW_NS {
            return None;
        }
        *latest = Default::default();
        Some(path)
    }
}

fn has_suffered(event: &Event) -> bool {
    let segments = event.bytes_sent.div_ceil(SEGMENT_BYTES);
    event.retransmits >= RETRANSMITS_MIN
        && u64::from(event.retransmits) * SEGMENTS_PER_RETRANSMIT >= segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SECOND_NS: u64 = 1_000_000_000;

    fn policy() -> Policy {
        let text = r#"
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            name = "provider"
            base_url = "http://127.0.0.1:1"
            [[account]]
            name = "first"
            upstream = "provider"
            credential = { env = "KEY" }
            egress = ["127.0.7.1", "127.0.7.2"]
        "#;
        let environment = |_: &str| Some("sk-test".into());
        crate::config::parse(text, Path::new("test.toml"), &environment)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .policy
    }

    fn ended(at_s: u64, address: u8, segments: u64, retransmits: u32) -> Event {
        Event {
            kind: Event::CLOSED,
            at_ns: at_s * SECOND_NS,
            established_at_ns: 1,
            source: relay_ebpf::abi::address_bytes([127, 0, 7, address].into()),
            bytes_sent: segments * SEGMENT_BYTES,
            retransmits,
            ..Event::default()
        }
    }

    #[test]
    fn a_tenth_of_the_segments_and_no_less_than_twenty_is_far_too_much() {
        for (segments, retransmits, suffered) in [
            (0, 19, false),
            (0, 20, true),
            (200, 20, true),
            (201, 20, false),
            (1_000, 100, true),
            (1_000, 99, false),
            (u64::MAX / SEGMENT_BYTES, u32::MAX, false),
        ] {
            let event = ended(1, 1, segments, retransmits);
            assert_eq!(has_suffered(&event), suffered, "{segments} {retransmits}");
        }
    }

    #[test]
    fn three_within_a_minute_are_a_storm_of_their_address_alone() {
        let policy = policy();
        let mut storms = Storms::default();
        let mut note = |event: Event| storms.note(&policy, &event);
        let second = Some((AccountId(0), 1));
        assert_eq!(note(ended(100, 2, 10, 20)), None);
        assert_eq!(note(ended(110, 1, 10, 20)), None);
        assert_eq!(note(ended(120, 2, 10, 20)), None);
        assert_eq!(note(ended(130, 2, 10, 0)), None, "this one was well");
        assert_eq!(note(ended(160, 2, 10, 20)), second);
        // The next one is a storm of its own.
        assert_eq!(note(ended(161, 2, 10, 20)), None);
        assert_eq!(note(ended(162, 2, 10, 20)), None);
        assert_eq!(note(ended(163, 2, 10, 20)), second);
    }

    #[test]
    fn what_is_a_minute_ago_does_not_count() {
        let policy = policy();
        let mut storms = Storms::default();
        let mut at = |second| storms.note(&policy, &ended(second, 1, 10, 20));
        assert_eq!([at(100), at(101), at(161)], [None; 3]);
        assert_eq!(at(162), None, "the second one is 61 s ago");
        assert_eq!(at(163), Some((AccountId(0), 0)));
    }

    #[test]
    fn a_connection_of_nobody_we_know_makes_no_storm() {
        let policy = policy();
        let mut storms = Storms::default();
        let strangers = [
            ended(100, 9, 10, 20),
            Event {
                account: 12,
                ..ended(100, 1, 10, 20)
            },
        ];
        for stranger in strangers {
            for _ in 0..10 {
                assert_eq!(storms.note(&policy, &stranger), None);
            }
        }
    }
}
