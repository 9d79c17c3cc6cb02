//! Events of connections, through the ring that the programs write.

use crate::Missing;
use crate::bytes::Bytes;
use crate::object::Loaded;
use crate::ports::Addresses;
use aya::maps::{MapData, RingBuf};
use relay_ebpf_abi::record::Event;
use relay_ebpf_abi::{NOBODY, address_of};

/// The reading end of the ring.
pub(crate) struct Events {
    ring: RingBuf<MapData>,
    /// What an earlier process has not read any more.
    left: Vec<Event>,
}

impl Events {
    pub(crate) fn open(loaded: &mut Loaded, addresses: &Addresses) -> Result<Self, Missing> {
        let mut ring = loaded.events()?;
        let mut left = Vec::new();
        while let Some(item) = ring.next() {
            left.extend(Event::read(&item).and_then(|event| as_of(event, addresses)));
        }
        Ok(Self { ring, left })
    }

    /// Hands over what has come.
    pub(crate) fn take(&mut self, mut each: impl FnMut(&Event)) {
        for event in std::mem::take(&mut self.left) {
            each(&event);
        }
        while let Some(item) = self.ring.next() {
            if let Some(event) = Event::read(&item) {
                each(&event);
            }
        }
    }
}

/// An event from before, in the numbers of today's plan: its address tells the account; the tenant is not known any more.
fn as_of(event: Event, addresses: &Addresses) -> Option<Event> {
    let (address, account) = *addresses.get(&address_of(event.source))?;
    Some(Event {
        tenant: NOBODY,
        account,
        address,
        ..event
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_ebpf_abi::address_bytes;
    use std::net::IpAddr;

    #[test]
    fn an_event_from_before_has_the_numbers_of_today() {
        let own: IpAddr = "127.0.7.1".parse().expect("an address");
        let addresses = Addresses::from([(own, (5, 2))]);
        let before = Event {
            tenant: 9,
            account: 8,
            address: 7,
            source: address_bytes(own),
            bytes_sent: 3,
            ..Event::default()
        };
        let today = as_of(before, &addresses).expect("it is ours");
        assert_eq!((today.tenant, today.account, today.address), (NOBODY, 2, 5));
        assert_eq!(today.bytes_sent, 3);
        let foreign = Event {
            source: address_bytes("127.0.7.2".parse().expect("an address")),
            ..before
        };
        assert_eq!(as_of(foreign, &addresses), None);
    }
}
