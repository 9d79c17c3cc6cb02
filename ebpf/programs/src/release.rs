//! The end of a socket, whatever ended it: `close(2)` of the last descriptor, or the death of the process.

use crate::socket::Socket;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

#[cgroup_sock(sock_release)]
fn relay_release(context: SockContext) -> i32 {
    // SAFETY: for this program the context is the socket itself.
    if let Some(state) = unsafe { Socket::find(context.sock.cast()) } {
        state.give_back();
    }
    1
}
