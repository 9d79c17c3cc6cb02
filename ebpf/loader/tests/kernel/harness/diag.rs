//! The kernel's own list of TCP sockets, of the network namespace that the calling thread is in (`sock_diag(7)`).

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
    fn is_live(&self) -> bool {
        let is_waiting = matches!(self.state, state::ESTABLISHED | state::CLOSE_WAIT);
        self.inode != 0 || is_waiting
    }
}

/// Those that can be used from here, or may yet be accepted, by their local addresses. A list takes the kernel a while: it
/// walks through all of its hash table.
pub(crate) fn live() -> Vec<SocketAddr> {
    let live = sockets().into_iter().filter(Entry::is_live);
    live.map(|entry| entry.local).collect()
}

/// All IPv4 sockets, but for listeners and those in TIME_WAIT.
pub(crate) fn sockets() -> Vec<Entry> {
    let mut request = vec![0; HEADER_BYTES + REQUEST_BYTES];
    let length = u32::try_from(request.len()).expect("a short request");
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[16] = libc::AF_INET as u8;
    request[17] = libc::IPPROTO_TCP as u8;
    // Thousands wait for their time to be over; nobody asks for them, nor for listeners.
    let states = !(1_u32 << state::TIME_WAIT | 1 << state::LISTEN);
    request[20..24].copy_from_slice(&states.to_ne_bytes());
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
    let port = u16::from_be_bytes([message[4], message[5]]);
    let address: [u8; 4] = message[8..12].try_into().expect("four bytes");
    let address = Ipv4Addr::from(address);
    Entry {
        state: message[1],
        local: SocketAddr::new(IpAddr::V4(address), port),
        inode: u32_at(message, 68),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_ne_bytes(bytes)
}
