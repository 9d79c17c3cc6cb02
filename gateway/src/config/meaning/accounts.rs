//! `[[account]]`

use super::{Meaning, Upstreams};
use crate::config::document::KeyPath;
use crate::config::forms::{Ip, Text};
use crate::config::policy::Account;
use crate::config::raw::{self, List};
use std::collections::HashMap;
use std::net::IpAddr;

impl Meaning<'_> {
    pub(super) fn accounts(
        &mut self,
        accounts: &List<raw::Account>,
        names: &Upstreams,
    ) -> Option<Vec<Account>> {
        let mut owners = HashMap::new();
        let made: Vec<_> = accounts
            .iter()
            .map(|(index, account)| {
                let path = KeyPath::of("account").index(index);
                let egress = self.egress(&account.egress, index, &mut owners);
                let upstream = account.upstream.as_ref();
                let upstream = upstream
                    .and_then(|Text(name)| self.upstream(&path.key("upstream"), name, names));
                let credential = account.credential.as_ref();
                let credential =
                    credential.and_then(|from| self.credential(from, &path.key("credential")));
                if !upstream.is_some_and(|id| names.multiplexed.contains(&id)) {
                    self.enough_connections(
                        &path.key("max_connections"),
                        ("max_connections", account.max_connections),
                        ("max_concurrent", Some(account.max_concurrent)),
                    );
                }
                let Text(name) = account.name.clone()?;
                Some(Account {
                    name,
                    upstream: upstream?,
                    credential: credential?,
                    egress,
                    region: account.region.0.clone(),
                    max_concurrent: account.max_concurrent,
                    max_connections: account.max_connections,
                    weight: account.weight,
                    enabled: account.enabled,
                })
            })
            .collect();
        made.into_iter().collect()
    }

    /// `owners` remembers which account named an address first.
    fn egress(
        &mut self,
        egress: &List<Text<Ip>>,
        account: usize,
        owners: &mut HashMap<IpAddr, (usize, KeyPath)>,
    ) -> Vec<IpAddr> {
        let account_path = KeyPath::of("account").index(account);
        let mut addresses = Vec::new();
        for (index, &Text(address)) in egress.iter() {
            let path = account_path.key("egress").index(index);
            if let Some(fault) = unusable(address) {
                self.error(&path, format!("{address} is {fault}"), None);
                continue;
            }
            match owners.get(&address) {
                None => {
                    owners.insert(address, (account, path));
                    addresses.push(address);
                }
                Some((owner, first)) if *owner == account => {
                    let message =
                        format!("{address} is named twice, first as {}", self.place(first));
                    self.error(&path, message, None);
                }
                Some((_, first)) => {
                    let message = format!(
                        "{address} belongs to another account, {}",
                        self.place(first)
                    );
                    let hint = "an address leads to one account: give each account its own";
                    self.error(&path, message, Some(hint.to_owned()));
                }
            }
        }
        addresses
    }
}

/// Why no connection can leave from this address.
fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address: it would leave the choice to the kernel");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in IPv6 form: write it as an IPv4 address")
        }
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            Some("a link-local address, which leads to no provider")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_a_host_are_usable() {
        for address in [
            "127.0.0.2",
            "203.0.113.10",
            "10.0.0.1",
            "::1",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert_eq!(unusable(address.parse().unwrap()), None, "{address}");
        }
        for address in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:10.0.0.1",
            "fe80::1",
        ] {
            assert!(unusable(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}
