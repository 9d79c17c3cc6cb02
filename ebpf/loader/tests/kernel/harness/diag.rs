//! The kernel's own list of TCP sockets, of the network namespace that the calling thread is in (`sock_diag(7)`).

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
/// Bytes of `struct inet_diag_msg`.
const ENTRY_BYTES: usize = 72;

/// States of `enum tcp_state`.
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const TIME_WAIT: u8 = 6;
    pub(crate) const CLOSE_WAIT: u8 = 8;
    pub(crate) const LISTEN: u8 = 10;
}

/// A TCP socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) state: u8,
    pub(crate) local: SocketAddr,
    /// 0 if no descriptor refers to it: not yet accepted, or closed and not yet gone.
    pub(crate) inode: u32,
}

impl Entry {
    /// Whether somebody can still use it: a descriptor refers to it, or somebody may yet accept it.
    pub(crate) fn is_live(&self) -> bool {
        let is_waiting = matches!(self.state, state::ESTABLISHED | state::CLOSE_WAIT);
        !matches!(self.state, state::TIME_WAIT | state::LISTEN) && (self.inode != 0 || is_waiting)
    }
}

/// All of them.
pub(crate) fn sockets() -> Vec<Entry> {
    [libc::AF_INET, libc::AF_INET6]
        .into_iter()
        .flat_map(sockets_of)
        .collect()
}

/// Those that can be used and come from one of these addresses.
pub(crate) fn live_from(addresses: &[IpAddr]) -> u64 {
    let is_of = |entry: &&Entry| entry.is_live() && addresses.contains(&entry.local.ip());
    sockets().iter().filter(is_of).count() as u64
}

/// Those that can be used and were accepted, or are to be accepted, on this port.
pub(crate) fn live_on(port: u16) -> u64 {
    let is_of = |entry: &&Entry| entry.is_live() && entry.local.port() == port;
    sockets().iter().filter(is_of).count() as u64
}

fn sockets_of(family: i32) -> Vec<Entry> {
    let mut request = vec![0; HEADER_BYTES + REQUEST_BYTES];
    let length = u32::try_from(request.len()).expect("a short request");
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[16] = family as u8;
    request[17] = libc::IPPROTO_TCP as u8;
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))
        .expect("a netlink socket");
    SockRef::from(&socket)
        .set_recv_buffer_size(1 << 20)
        .expect("a buffer");
    (&socket).write_all(&request).expect("a request");
    let mut entries = Vec::new();
    let mut answer = vec![0; 65_536];
    loop {
        let bytes = (&socket).read(&mut answer).expect("an answer");
        if take(&answer[..bytes], &mut entries) {
            return entries;
        }
    }
}

/// Reads the messages of one datagram; whether the list is complete.
fn take(mut messages: &[u8], entries: &mut Vec<Entry>) -> bool {
    while messages.len() >= HEADER_BYTES {
        let length = u32_at(messages, 0) as usize;
        match u16::from_ne_bytes([messages[4], messages[5]]) {
            NLMSG_DONE => return true,
            SOCK_DIAG_BY_FAMILY => entries.push(entry(&messages[HEADER_BYTES..length])),
            kind => panic!("sock_diag answers with a message of kind {kind}"),
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

/// `struct inet_diag_msg`.
fn entry(message: &[u8]) -> Entry {
    assert!(message.len() >= ENTRY_BYTES, "a whole entry");
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    Entry {
        state: message[1],
        local: SocketAddr::new(address(message[0], &message[8..24]), port(4)),
        inode: u32_at(message, 68),
    }
}

fn address(family: u8, bytes: &[u8]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        let bytes: [u8; 4] = bytes[..4].try_into().expect("four bytes");
        IpAddr::V4(Ipv4Addr::from(bytes))
    } else {
        let bytes: [u8; 16] = bytes.try_into().expect("16 bytes");
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_ne_bytes(bytes)
}
