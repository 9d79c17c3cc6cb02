//! `sources` of a tenant: networks, each of which leads to one tenant.

use super::Meaning;
use crate::config::document::KeyPath;
use crate::config::forms::{Cidr, Text};
use crate::config::policy::Network;
use crate::config::raw::List;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where each network was named first.
#[derive(Default)]
pub(super) struct Owners(HashMap<Network, (usize, KeyPath)>);

impl Meaning<'_> {
    /// Networks that lie within each other are fine: the one with the longer prefix decides.
    pub(super) fn sources(
        &mut self,
        sources: &List<Text<Cidr>>,
        tenant: usize,
        owners: &mut Owners,
    ) -> Vec<Network> {
        let list = KeyPath::of("tenant").index(tenant).key("sources");
        let mut networks = Vec::new();
        for (index, &Text(network)) in sources.iter() {
            let path = list.index(index);
            if let Some((fault, hint)) = unusable(network) {
                self.error(&path, format!("{network} {fault}"), Some(hint));
                continue;
            }
            match owners.0.get(&network) {
                None => {
                    owners.0.insert(network, (tenant, path));
                    networks.push(network);
                }
                Some((owner, first)) if *owner == tenant => {
                    let place = self.place(first);
                    let message = format!("{network} is named twice, first as {place}");
                    self.error(&path, message, None);
                }
                Some((_, first)) => {
                    let place = self.place(first);
                    let message = format!("{network} belongs to another tenant, {place}");
                    let hint = "a network leads to one tenant: name those from which only this tenant connects";
                    self.error(&path, message, Some(hint.to_owned()));
                }
            }
        }
        networks
    }
}

/// What keeps a network from being looked up, and what to write instead.
fn unusable(network: Network) -> Option<(&'static str, String)> {
    let Network {
        address,
        prefix_bits,
    } = network;
    let first = first_address(address, prefix_bits);
    if first != address {
        let hint = format!("the network is `{first}/{prefix_bits}`");
        return Some(("has bits behind its prefix", hint));
    }
    if let IpAddr::V6(v6) = address {
        if let Some(v4) = v6.to_ipv4_mapped()
            && let Some(bits) = prefix_bits.checked_sub(96)
        {
            let hint = format!("write `{v4}/{bits}`");
            return Some(("is an IPv4 network in IPv6 form", hint));
        }
        // A client's IPv4 address is looked up in IPv6 form (RFC 4291 section 2.5.5.2).
        let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
        if first_address(mapped.into(), prefix_bits) == address {
            let hint = "`2000::/3` is all public IPv6 addresses".to_owned();
            return Some(("covers IPv4 addresses as well", hint));
        }
    }
    None
}

fn first_address(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let prefix_bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network {
            address: address.parse().unwrap(),
            prefix_bits: bits.parse().unwrap(),
        }
    }

    #[test]
    fn networks_that_can_be_looked_up() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "203.0.113.128/25",
            "203.0.113.7/32",
            "2000::/3",
            "2001:db8::/32",
            "2001:db8::1/128",
            "::1/128",
            "0:1::/32",
        ] {
            assert_eq!(unusable(network(text)), None, "{text}");
        }
    }

    #[test]
    fn networks_that_cannot_are_told_with_what_to_write_instead() {
        for (text, fault, hint) in [
            ("10.0.0.1/8", "bits behind its prefix", "`10.0.0.0/8`"),
            ("128.0.0.0/0", "bits behind its prefix", "`0.0.0.0/0`"),
            (
                "203.0.113.129/25",
                "bits behind its prefix",
                "`203.0.113.128/25`",
            ),
            (
                "203.0.113.7/31",
                "bits behind its prefix",
                "`203.0.113.6/31`",
            ),
            (
                "2001:db8::1/127",
                "bits behind its prefix",
                "`2001:db8::/127`",
            ),
            ("8000::/0", "bits behind its prefix", "`::/0`"),
            (
                "::ffff:10.0.0.0/104",
                "IPv4 network in IPv6 form",
                "`10.0.0.0/8`",
            ),
            (
                "::ffff:0.0.0.0/96",
                "IPv4 network in IPv6 form",
                "`0.0.0.0/0`",
            ),
            ("::/0", "covers IPv4 addresses", "`2000::/3`"),
            ("::fffe:0:0/95", "covers IPv4 addresses", "`2000::/3`"),
            ("::/80", "covers IPv4 addresses", "`2000::/3`"),
            ("::ffff:0:0/90", "bits behind its prefix", "`::ffc0:0:0/90`"),
        ] {
            let (found, way_out) = unusable(network(text)).unwrap();
            assert!(found.contains(fault), "{text}: {found}");
            assert!(way_out.contains(hint), "{text}: {way_out}");
        }
    }
}
