//! Comparing counts with the sockets that exist.
//!
//! A socket says by its flags which places it holds. While connections come and go, a count and the list of sockets are never
//! of the same moment; but a socket that lives through several lists, with pauses between them, is in each of them. What
//! differs by the same amount, from the same value, with the same sockets each time is therefore a count that is wrong and
//! not one that is moving.

use crate::Missing;
use crate::bpf::Update;
use crate::bytes::Bytes;
use crate::list::SocketList;
use crate::live::{Live, Words};
use crate::map::Map;
use relay_ebpf_abi::record::{PathKey, SocketState, count, flag};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pauses between the lists of one comparison, made only as long as something differs. Of different lengths, so that
/// nothing that recurs keeps step with them.
const PAUSES_MS: [u64; 7] = [1, 2, 3, 5, 7, 11, 13];

/// Compares counts with the sockets that exist. May be sent to a thread of its own.
pub struct Reconciler {
    live: Live,
    sources: Map<[u8; 16], u64>,
    paths: Map<PathKey, u64>,
    sockets: SocketList,
    /// What differed in the comparison before, all the time that it took.
    suspects: HashMap<Place, Finding>,
}

/// What one comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Sockets that have a state.
    pub sockets: u64,
    /// Counts that did not match in this comparison and the one before, by the same amount, and were corrected.
    pub corrected: u64,
    /// By how much in all.
    pub connections: u64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    TenantInbound(u32),
    TenantUpstream(u32),
    Account(u32),
    Address(u32),
    Worker(u32),
    Source([u8; 16]),
    Path(PathKey),
}

/// A count and who holds its places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Finding {
    /// The word of the map; of a hash without the entry: 0.
    word: u64,
    held: Held,
}

/// Places held by sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    places: u64,
    /// Changes with the sockets.
    sockets: u64,
}

impl Place {
    /// Whether it has a number, and its count an array.
    fn is_numbered(&self) -> bool {
        !matches!(self, Self::Source(_) | Self::Path(_))
    }

    /// How many places a word says are taken.
    fn counted(&self, word: u64) -> u64 {
        if self.is_numbered() {
            word
        } else {
            u64::from(count::live(word))
        }
    }

    fn is_wrong(&self, finding: &Finding) -> bool {
        let is_left_dead = !self.is_numbered() && count::is_dead(finding.word);
        is_left_dead || self.counted(finding.word) != finding.held.places
    }
}

/// The places that a socket holds.
fn places(state: &SocketState) -> impl Iterator<Item = Place> {
    let tenant = if state.flags & flag::UPSTREAM != 0 {
        Place::TenantUpstream(state.tenant)
    } else {
        Place::TenantInbound(state.tenant)
    };
    let path = PathKey {
        address: state.address,
        port: state.peer_port,
        destination: state.peer,
    };
    let flags = state.flags;
    [
        (flag::HOLDS_TENANT, tenant),
        (flag::HOLDS_ACCOUNT, Place::Account(state.account)),
        (flag::HOLDS_ACCOUNT, Place::Address(state.address)),
        (flag::HOLDS_PATH, Place::Path(path)),
        (flag::HOLDS_WORKER, Place::Worker(state.worker)),
        (flag::HOLDS_SOURCE, Place::Source(state.peer)),
    ]
    .into_iter()
    .filter(move |(bit, _)| flags & bit != 0)
    .map(|(_, place)| place)
}

/// Sums up what sockets hold.
fn held(sockets: &[SocketState]) -> HashMap<Place, Held> {
    let mut held: HashMap<Place, Held> = HashMap::new();
    for state in sockets {
        let mut hasher = DefaultHasher::new();
        state.bytes().hash(&mut hasher);
        let mark = hasher.finish();
        for place in places(state) {
            let one = held.entry(place).or_default();
            one.places += 1;
            one.sockets = one.sockets.wrapping_add(mark);
        }
    }
    held
}

/// What is wrong by counts that were the same before and after the sockets were listed.
fn differences(
    before: &HashMap<Place, u64>,
    held: &HashMap<Place, Held>,
    after: &HashMap<Place, u64>,
) -> HashMap<Place, Finding> {
    let word = |words: &HashMap<Place, u64>, place| words.get(place).copied().unwrap_or_default();
    let places = held.keys().chain(before.keys());
    places
        .filter_map(|place| {
            let finding = Finding {
                word: word(before, place),
                held: held.get(place).copied().unwrap_or_default(),
            };
            let is_still = finding.word == word(after, place);
            (is_still && place.is_wrong(&finding)).then_some((*place, finding))
        })
        .collect()
}

impl Reconciler {
    pub(crate) fn new(
        live: Live,
        sources: Map<[u8; 16], u64>,
        paths: Map<PathKey, u64>,
        sockets: SocketList,
    ) -> Self {
        Self {
            live,
            sources,
            paths,
            sockets,
            suspects: HashMap::new(),
        }
    }

    /// Compares once. Takes longer, some 50 ms, if something differs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn compare(&mut self) -> Result<Drift, Missing> {
        self.try_compare().map_err(|error| Missing {
            piece: "reconciliation",
            detail: format!("cannot compare counts with the sockets: {error}"),
        })
    }

    fn try_compare(&mut self) -> io::Result<Drift> {
        let (sockets, mut suspects) = self.observe()?;
        for pause in PAUSES_MS {
            if suspects.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(pause));
            let (_, again) = self.observe()?;
            suspects.retain(|place, finding| again.get(place) == Some(finding));
        }
        let before = std::mem::take(&mut self.suspects);
        let mut drift = Drift {
            sockets,
            ..Drift::default()
        };
        for (place, finding) in suspects {
            if before.get(&place) != Some(&finding) {
                self.suspects.insert(place, finding);
            } else if self.correct(place, finding)? {
                drift.corrected += 1;
                drift.connections += place.counted(finding.word).abs_diff(finding.held.places);
            }
        }
        Ok(drift)
    }

    /// Lists the sockets once, and what does not match them.
    fn observe(&self) -> io::Result<(u64, HashMap<Place, Finding>)> {
        let before = self.words()?;
        let sockets = self.sockets.read()?;
        let after = self.words()?;
        let found = differences(&before, &held(&sockets), &after);
        Ok((sockets.len() as u64, found))
    }

    /// All words that are not zero.
    fn words(&self) -> io::Result<HashMap<Place, u64>> {
        type Named = (Words, fn(u32) -> Place);
        let arrays: [Named; 5] = [
            (self.live.tenants_inbound, Place::TenantInbound),
            (self.live.tenants_upstream, Place::TenantUpstream),
            (self.live.accounts_upstream, Place::Account),
            (self.live.addresses_upstream, Place::Address),
            (self.live.workers_inbound, Place::Worker),
        ];
        let numbered = arrays.into_iter().flat_map(|(words, place)| {
            let indexed = (0_u32..).zip(words);
            indexed.map(move |(index, word)| (place(index), word.load(Ordering::SeqCst)))
        });
        let sources = self.sources.entries()?.into_iter();
        let paths = self.paths.entries()?.into_iter();
        Ok(numbered
            .filter(|(_, word)| *word != 0)
            .chain(sources.map(|(address, word)| (Place::Source(address), word)))
            .chain(paths.map(|(path, word)| (Place::Path(path), word)))
            .collect())
    }

    /// Sets a count right if it is still what was found; whether it was.
    fn correct(&self, place: Place, finding: Finding) -> io::Result<bool> {
        let Finding { word, held } = finding;
        let (words, index) = match place {
            Place::TenantInbound(index) => (self.live.tenants_inbound, index),
            Place::TenantUpstream(index) => (self.live.tenants_upstream, index),
            Place::Account(index) => (self.live.accounts_upstream, index),
            Place::Address(index) => (self.live.addresses_upstream, index),
            Place::Worker(index) => (self.live.workers_inbound, index),
            Place::Source(address) => return correct_entry(&self.sources, &address, word, held),
            Place::Path(path) => return correct_entry(&self.paths, &path, word, held),
        };
        let (success, failure) = (Ordering::SeqCst, Ordering::Relaxed);
        let changed = words
            .get(index as usize)
            .map(|count| count.compare_exchange(word, held.places, success, failure));
        Ok(changed.is_some_and(|changed| changed.is_ok()))
    }
}

/// The same for an entry of a hash, which user space can only replace as a whole: one that begins to move in the very moment
/// is wrong by what moved, until it is found by the next comparisons.
fn correct_entry<K: Bytes>(map: &Map<K, u64>, key: &K, word: u64, held: Held) -> io::Result<bool> {
    if held.places == 0 {
        return match map.take(key)? {
            Some(taken) if taken != word => {
                // Somebody has inserted it again, or now counts in it.
                let _ = map.set(key, &taken, Update::NoExist);
                Ok(false)
            }
            taken => Ok(taken.is_some()),
        };
    }
    let is_still = map.get(key)?.unwrap_or_default() == word;
    // The mark of another entry, since it is another place in memory.
    let mark = (word >> 32).wrapping_add(1) << 32;
    let how = if word == 0 {
        Update::NoExist
    } else {
        Update::Exist
    };
    Ok(is_still && map.set(key, &(mark | held.places), how).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(flags: u64) -> SocketState {
        SocketState {
            flags: flags | flag::UPSTREAM,
            tenant: 1,
            account: 2,
            address: 3,
            worker: 4,
            peer: [5; 16],
            peer_port: 443,
            ..SocketState::default()
        }
    }

    fn path() -> PathKey {
        PathKey {
            address: 3,
            port: 443,
            destination: [5; 16],
        }
    }

    #[test]
    fn a_socket_holds_what_its_flags_say() {
        let both_sides = flag::HOLDS_TENANT | flag::HOLDS_WORKER | flag::HOLDS_SOURCE;
        let inbound = SocketState {
            flags: flag::INBOUND | both_sides,
            ..upstream(0)
        };
        let expected = [
            Place::TenantInbound(1),
            Place::Worker(4),
            Place::Source([5; 16]),
        ];
        assert!(places(&inbound).eq(expected));
        let all = upstream(flag::HOLDS_TENANT | flag::HOLDS_ACCOUNT | flag::HOLDS_PATH);
        let expected = [
            Place::TenantUpstream(1),
            Place::Account(2),
            Place::Address(3),
            Place::Path(path()),
        ];
        assert!(places(&all).eq(expected));
        assert_eq!(places(&upstream(0)).count(), 0);
    }

    #[test]
    fn places_of_all_sockets_are_summed_up_and_known_by_their_sockets() {
        let one = upstream(flag::HOLDS_ACCOUNT);
        let other = SocketState { cookie: 9, ..one };
        let (both, swapped) = (held(&[one, other]), held(&[other, one]));
        assert_eq!(both, swapped);
        assert_eq!(both[&Place::Account(2)].places, 2);
        assert_eq!(both[&Place::Address(3)].places, 2);
        assert_ne!(
            held(&[one, one])[&Place::Account(2)],
            both[&Place::Account(2)]
        );
    }

    #[test]
    fn only_counts_that_stood_still_differ() {
        let held = held(&[upstream(flag::HOLDS_ACCOUNT | flag::HOLDS_PATH)]);
        let words = |account, address| {
            HashMap::from([
                (Place::Account(2), account),
                (Place::Address(3), address),
                (Place::Path(path()), count::first(8)),
                (Place::Worker(0), 1),
            ])
        };
        let found = differences(&words(1, 2), &held, &words(1, 3));
        assert_eq!(found.len(), 1, "the worker's alone: {found:?}");
        assert_eq!(found[&Place::Worker(0)].held.places, 0);
        let found = differences(&words(2, 1), &held, &words(2, 1));
        assert_eq!(found[&Place::Account(2)].word, 2);
        assert!(!found.contains_key(&Place::Address(3)));
    }

    #[test]
    fn what_is_not_counted_differs_and_so_does_what_was_left_dead() {
        let held = held(&[upstream(flag::HOLDS_PATH)]);
        let none = HashMap::new();
        let found = differences(&none, &held, &none);
        assert_eq!(found[&Place::Path(path())].word, 0);
        let dead = count::given_back(count::first(8)).expect("the last one");
        let words = HashMap::from([(Place::Source([1; 16]), dead)]);
        let found = differences(&words, &HashMap::new(), &words);
        assert_eq!(found[&Place::Source([1; 16])].word, dead);
    }
}
