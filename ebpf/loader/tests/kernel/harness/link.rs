//! Interfaces and addresses of the network namespace that the calling thread is in, through rtnetlink (RFC 3549).

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The address may be used at once, without asking the network whether somebody has it (RFC 4862 section 5.4).
const IFA_F_NODAD: u8 = 2;

/// Bytes of a netlink header, and of the header of a link request that follows it.
const HEADER_BYTES: usize = 16;

/// A network namespace of its own for a thread, and the descriptor by which others mean it.
pub(crate) fn namespace_of_this_thread() -> File {
    File::open("/proc/thread-self/ns/net").expect("the network namespace")
}

/// Puts the calling thread into a new network namespace, with a loopback interface that is up.
pub(crate) fn enter_new_namespace() {
    // SAFETY: nothing but the network of this thread changes: no memory and no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
        .expect("a network namespace");
    set_up("lo");
}

/// Brings an interface up.
pub(crate) fn set_up(name: &str) {
    let mut request = Request::new(RTM_NEWLINK, 0);
    request.link_header(index_of(name), true);
    request.send().expect("the interface comes up");
}

/// Connects this network namespace with another: `near` here, `far` there; both are still down.
///
/// # Errors
/// The kernel's, if it has no such interfaces.
pub(crate) fn connect_namespaces(near: &str, far: &str, other: &File) -> io::Result<()> {
    let mut request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    request.link_header(0, false);
    request.text(IFLA_IFNAME, near);
    request.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth");
        info.nested(IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.link_header(0, false);
                peer.text(IFLA_IFNAME, far);
                let descriptor: RawFd = other.as_raw_fd();
                peer.attribute(IFLA_NET_NS_FD, &descriptor.to_ne_bytes());
            });
        });
    });
    request.send()
}

/// Gives an interface an address.
pub(crate) fn add_address(interface: &str, address: IpAddr, prefix_bits: u8) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    change_address(RTM_NEWADDR, flags, interface, address, prefix_bits).expect("the address");
}

/// Takes an address from an interface.
pub(crate) fn remove_address(interface: &str, address: IpAddr, prefix_bits: u8) {
    change_address(RTM_DELADDR, 0, interface, address, prefix_bits).expect("the address");
}

fn change_address(
    kind: u16,
    flags: u16,
    interface: &str,
    address: IpAddr,
    prefix_bits: u8,
) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    };
    let mut request = Request::new(kind, flags);
    request.put(&[family, prefix_bits, IFA_F_NODAD, 0]);
    request.put(&index_of(interface).to_ne_bytes());
    request.attribute(IFA_LOCAL, &bytes);
    request.attribute(IFA_ADDRESS, &bytes);
    request.send()
}

fn index_of(interface: &str) -> u32 {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    rustix::net::netdevice::name_to_index(&socket, interface).expect("the interface")
}

/// A netlink request as it grows.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut request = Self {
            bytes: vec![0; HEADER_BYTES],
        };
        request.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        request.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        request
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `struct ifinfomsg`.
    fn link_header(&mut self, index: u32, is_up: bool) {
        let up = u32::from(is_up) * libc::IFF_UP as u32;
        self.put(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.put(&index.to_ne_bytes());
        self.put(&up.to_ne_bytes());
        self.put(&up.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |request| request.put(value));
        // Only what holds attributes itself bears the mark.
        let at = self.bytes.len() - value.len().next_multiple_of(4) - 2;
        self.bytes[at..at + 2].copy_from_slice(&kind.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, format!("{value}\0").as_bytes());
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("a short attribute");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn send(mut self) -> io::Result<()> {
        let length = u32::try_from(self.bytes.len()).expect("a short request");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let route = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(route))?;
        SockRef::from(&socket).set_recv_buffer_size(65_536)?;
        (&socket).write_all(&self.bytes)?;
        let mut answer = [0; 4_096];
        let bytes = (&socket).read(&mut answer)?;
        let answer = &answer[..bytes];
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        assert_eq!(kind, NLMSG_ERROR, "the answer to a request");
        let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        match errno {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(-errno)),
        }
    }
}
