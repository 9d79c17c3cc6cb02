//! Which of an account's addresses a connection leaves from.

use crate::context::is_mapped;
use crate::count::note;
use crate::maps::{ACCOUNTS, ADDRESSES, ADDRESSES_UPSTREAM, IP_OWNER, TURNS};
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::option::ROUND_ROBIN;
use relay_ebpf_abi::record::{AccountSettings, AddressSettings};
use relay_ebpf_abi::{ADDRESSES_MAX, errno};

/// How many of an account's addresses are looked at to find one among them. The verifier follows every turn of a loop.
const LOOKED_AT_MAX: u32 = 64;

/// An address chosen.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    /// Its index in `ADDRESSES`.
    pub(crate) index: u32,
    pub(crate) address: [u8; 16],
}

/// The addresses of one family, as a range of `ADDRESSES`.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
}

impl Range {
    #[inline(always)]
    const fn of(account: &AccountSettings, is_ipv6: bool) -> Self {
        if is_ipv6 {
            Self {
                first: account.ipv6_first,
                count: account.ipv6_count,
            }
        } else {
            Self {
                first: account.ipv4_first,
                count: account.ipv4_count,
            }
        }
    }

    #[inline(always)]
    const fn holds(self, index: u32) -> bool {
        index.wrapping_sub(self.first) < self.count
    }

    /// The index `offset` places after the first, going round.
    #[inline(always)]
    fn at(self, offset: u64) -> u32 {
        let turned = offset.checked_rem(u64::from(self.count)).unwrap_or(0);
        self.first.wrapping_add(turned as u32)
    }
}

/// Chooses for a socket of `account` that is bound to `bound` already, or to nothing.
#[inline(always)]
pub(crate) fn choose(
    account: u32,
    wanted: u32,
    is_ipv6: bool,
    bound: Option<&[u8; 16]>,
) -> Result<Chosen, i32> {
    let Some(settings) = ACCOUNTS.get(account) else {
        return Err(errno::INVALID);
    };
    let range = Range::of(settings, is_ipv6);
    let index = if wanted < ADDRESSES_MAX {
        if !range.holds(wanted) {
            if Range::of(settings, !is_ipv6).holds(wanted) {
                return Err(errno::FAMILY_MISSING);
            }
            return Err(foreign());
        }
        wanted
    } else if range.count == 0 {
        return Err(errno::FAMILY_MISSING);
    } else if let Some(bound) = bound {
        find(range, bound).ok_or_else(foreign)?
    } else {
        in_turn(account, range, wanted)
    };
    let address = entry(index)
        .filter(|entry| entry.account == account && is_mapped(&entry.address) != is_ipv6)
        .ok_or_else(foreign)?
        .address;
    if bound.is_some_and(|bound| *bound != address) {
        return Err(foreign());
    }
    if owner(&address) != Some(account) {
        note(Counter::OwnerConflictRefused);
        return Err(errno::REFUSED);
    }
    Ok(Chosen { index, address })
}

/// The account that may leave from an address.
#[inline(always)]
pub(crate) fn owner(address: &[u8; 16]) -> Option<u32> {
    let owner = IP_OWNER.get_ptr(address)?;
    // SAFETY: an entry's memory stays one of this map while a program runs (RCU); four aligned bytes are read at once.
    Some(unsafe { owner.read_volatile() })
}

/// The entry of an address, if it is used.
#[inline(always)]
pub(crate) fn entry(index: u32) -> Option<&'static AddressSettings> {
    ADDRESSES.get(index).filter(|entry| entry.is_used == 1)
}

#[inline(always)]
fn foreign() -> i32 {
    note(Counter::ForeignAddressRefused);
    errno::REFUSED
}

/// Takes the account's next turn.
#[inline(always)]
fn in_turn(account: u32, range: Range, wanted: u32) -> u32 {
    let turn = TURNS.get(account).map_or(0, |turns| turns.next());
    if wanted == ROUND_ROBIN || range.count == 1 {
        return range.at(turn);
    }
    let mut best = range.at(turn);
    let mut fewest = u64::MAX;
    for step in 0..LOOKED_AT_MAX {
        if step >= range.count {
            break;
        }
        let index = range.at(turn.wrapping_add(u64::from(step)));
        let live = ADDRESSES_UPSTREAM
            .get(index)
            .map_or(u64::MAX, |count| count.load());
        if live < fewest {
            fewest = live;
            best = index;
        }
    }
    best
}

#[inline(always)]
fn find(range: Range, address: &[u8; 16]) -> Option<u32> {
    for step in 0..LOOKED_AT_MAX {
        if step >= range.count {
            break;
        }
        let index = range.first.wrapping_add(step);
        if entry(index).is_some_and(|entry| entry.address == *address) {
            return Some(index);
        }
    }
    None
}
