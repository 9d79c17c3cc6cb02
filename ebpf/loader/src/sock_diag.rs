//! The kernel's list of TCP sockets, by netlink (`sock_diag(7)`). Needs no right.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
/// Bytes of `struct inet_diag_msg`.
const ENTRY_BYTES: usize = 72;
/// The kernel fills at most 32 KiB at a time.
const ANSWER_BYTES: usize = 64 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// `TCP_SYN_RECV`, `TCP_CLOSE`, `TCP_NEW_SYN_RECV` and `TCP_BOUND_INACTIVE`: no connection, or none yet.
const STATES_LEFT_OUT: u32 = 1 << 3 | 1 << 7 | 1 << 12 | 1 << 13;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) is_listening: bool,
    /// Whether a descriptor refers to it: not so in TIME_WAIT, and from `close(2)` until then.
    pub(crate) is_open: bool,
}

/// All TCP sockets of the network namespace of this thread.
pub(crate) fn tcp_sockets() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(family, &mut entries)?;
    }
    Ok(entries)
}

fn dump(family: i32, entries: &mut Vec<Entry>) -> io::Result<()> {
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.write_all(&request(family))?;
    let mut answer = vec![0; ANSWER_BYTES];
    loop {
        let bytes = match socket.read(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if take(&answer[..bytes], entries)? {
            return Ok(());
        }
    }
}

fn request(family: i32) -> Vec<u8> {
    let mut request = vec![0; HEADER_BYTES + REQUEST_BYTES];
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[16] = family as u8;
    request[17] = libc::IPPROTO_TCP as u8;
    request[20..24].copy_from_slice(&(!STATES_LEFT_OUT).to_ne_bytes());
    request
}

/// Reads the messages of one answer; whether the list is complete.
fn take(mut messages: &[u8], entries: &mut Vec<Entry>) -> io::Result<bool> {
    let malformed = || io::Error::other("netlink: a message that is no message");
    while !messages.is_empty() {
        let header = messages.get(..HEADER_BYTES).ok_or_else(malformed)?;
        let length = u32_at(header, 0) as usize;
        let body = messages.get(HEADER_BYTES..length).ok_or_else(malformed)?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = body.get(..4).map_or(0, |body| u32_at(body, 0) as i32);
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => entries.push(entry(body).ok_or_else(malformed)?),
            NLMSG_NOOP => {}
            kind => return Err(io::Error::other(format!("netlink: message of kind {kind}"))),
        }
        messages = messages
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(false)
}

/// `struct inet_diag_msg`.
fn entry(message: &[u8]) -> Option<Entry> {
    let message = message.get(..ENTRY_BYTES)?;
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let socket = |at: usize, port| SocketAddr::new(address(message[0], &message[at..]), port);
    Some(Entry {
        local: socket(8, port(4)),
        remote: socket(24, port(6)),
        is_listening: message[1] == LISTEN,
        is_open: u32_at(message, 68) != 0,
    })
}

fn address(family: u8, bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[..16]);
    if i32::from(family) == libc::AF_INET {
        let [a, b, c, d, ..] = octets;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn connection(address: &str) {
        let Ok(listener) = TcpListener::bind((address, 0)) else {
            println!("SKIPPED: {address} is not an address of this host");
            return;
        };
        let server = listener.local_addr().expect("its address");
        let client = TcpStream::connect(server).expect("a connection");
        let client_address = client.local_addr().expect("its address");
        let find = |local, remote| {
            let sockets = tcp_sockets().expect("the list");
            let mut sockets = sockets.into_iter();
            sockets.find(|entry| (entry.local, entry.remote) == (local, remote))
        };
        let found = find(client_address, server).expect("the client's side");
        assert!(found.is_open && !found.is_listening);
        let unspecified = SocketAddr::new(
            if server.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            },
            0,
        );
        let found = find(server, unspecified).expect("the listener");
        assert!(found.is_open && found.is_listening);

        // Closed first, so that it is in TIME_WAIT in the end, or in FIN_WAIT2 as long as the server's side is open.
        let (accepted, _) = listener.accept().expect("accepted");
        drop(client);
        let found = find(client_address, server).expect("it still has its port");
        assert!(!found.is_open);
        drop(accepted);
    }

    #[test]
    fn connections_of_both_families_are_listed_until_their_ports_are_free() {
        connection("127.0.0.1");
        connection("::1");
    }

    #[test]
    fn an_error_is_the_kernels() {
        let mut message = vec![0; HEADER_BYTES + 20];
        message[0] = 36;
        message[4] = 2;
        message[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        let error = take(&message, &mut Vec::new()).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn messages_cut_short_are_refused() {
        let mut message = vec![0; HEADER_BYTES];
        message[0] = 200;
        assert!(take(&message, &mut Vec::new()).is_err());
        assert!(take(&message[..8], &mut Vec::new()).is_err());
    }
}
