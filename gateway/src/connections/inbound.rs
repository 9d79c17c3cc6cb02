//! Connections of clients: counted against their source address at once, against their tenant once its key was seen.

use super::sources::SourcePlace;
use super::{Connections, Counts, Denied};
use crate::config::policy::TenantId;
use crate::limits::Place;
use relay_ebpf::abi::{errno, option};
use relay_io::{OptionSetter, SocketOption, Stream};
use std::cell::RefCell;
use std::net::IpAddr;

/// A client's connection as it is counted. What it holds is given back when it is dropped, or, by the kernel, when its socket
/// is closed. Where many requests share it, it is counted as whose used it last.
pub struct Inbound {
    connections: &'static Connections,
    socket: OptionSetter,
    _source: Option<SourcePlace>,
    claimed: RefCell<Option<Claim>>,
}

struct Claim {
    tenant: TenantId,
    _place: Option<Place>,
}

impl Connections {
    /// Counts a connection that this worker has accepted. `None`: its source address has as many as it may have.
    pub fn enter(&'static self, worker: u32, client: &Stream, source: IpAddr) -> Option<Inbound> {
        let place = match &self.counts {
            Counts::Kernel(_) => {
                let entered = client.set_option(&own_option(option::ENTER, worker));
                // Any other error is a socket that the programs do not know: it can be asked for nothing, and its requests
                // are refused by what comes later.
                let is_full = |error: std::io::Error| error.raw_os_error() == Some(errno::FULL);
                if entered.is_err_and(is_full) {
                    return None;
                }
                None
            }
            Counts::Here(own) => match &own.sources {
                Some(sources) => Some(sources.enter(source)?),
                None => None,
            },
        };
        Some(Inbound {
            connections: self,
            socket: client.option_setter(),
            _source: place,
            claimed: RefCell::default(),
        })
    }
}

impl Inbound {
    /// Counts the connection as this tenant's. One that was another tenant's before is that one's no longer.
    ///
    /// # Errors
    /// The tenant has as many as it may have, or the kernel cannot count it.
    pub fn claim(&self, tenant: TenantId) -> Result<(), Denied> {
        let mut claimed = self.claimed.borrow_mut();
        if claimed.as_ref().is_some_and(|claim| claim.tenant == tenant) {
            return Ok(());
        }
        let cap = self.connections.tenant_cap(tenant);
        let place = match &self.connections.counts {
            Counts::Kernel(_) => {
                claim_of_kernel(&self.socket, tenant, cap.is_some())?;
                None
            }
            Counts::Here(own) => {
                let counter = &own.tenants_inbound[usize::from(tenant.0)];
                let place = counter.enter(cap.unwrap_or(u32::MAX));
                Some(place.ok_or(Denied::TenantFull)?)
            }
        };
        // The place before is given back only now: a move never leaves a moment in which the connection is nobody's.
        *claimed = Some(Claim {
            tenant,
            _place: place,
        });
        Ok(())
    }
}

fn claim_of_kernel(socket: &OptionSetter, tenant: TenantId, is_capped: bool) -> Result<(), Denied> {
    match socket.set(&own_option(option::CLAIM, u32::from(tenant.0))) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(errno::FULL) => Err(Denied::TenantFull),
        // Without a cap the count is for the operator's eyes only.
        Err(_) if !is_capped => Ok(()),
        Err(_) => Err(Denied::Refused),
    }
}

fn own_option(name: i32, value: u32) -> SocketOption {
    SocketOption::new(option::LEVEL, name, &value.to_ne_bytes())
}
