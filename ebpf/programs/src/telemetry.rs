//! Life of a connection: what was established is reported and counted, what has ended is reported and gives its places back.

use crate::choice;
use crate::context::{AF_INET, double, field, ipv6, mapped};
use crate::count::{note, now_ns};
use crate::maps::EVENTS;
use crate::option::take_worker;
use crate::socket::Socket;
use aya_ebpf::bindings::{
    BPF_RB_NO_WAKEUP, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops,
};
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::mem::offset_of;
use core::ptr;
use relay_ebpf_abi::NOBODY;
use relay_ebpf_abi::counter::Counter;
use relay_ebpf_abi::record::{Event, flag};
use relay_ebpf_abi::tcp::{payload_received, payload_sent, state};

#[sock_ops]
fn relay_sock_ops(context: SockOpsContext) -> u32 {
    // SAFETY: the kernel's context is valid while the program runs.
    let call = unsafe { &*context.ops };
    match field!(call, bpf_sock_ops, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(call),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => opened(call),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(call),
        BPF_SOCK_OPS_STATE_CB => changed(call),
        _ => {}
    }
    1
}

#[inline(always)]
fn known(call: &bpf_sock_ops) -> Option<&Socket> {
    // SAFETY: a pointer in either variant of the union.
    let socket = unsafe { call.__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: the kernel's own, and not null.
    unsafe { Socket::find(socket.cast()) }
}

/// Asks to be told of every change of state.
#[inline(always)]
fn follow(call: &bpf_sock_ops) {
    let flags = BPF_SOCK_OPS_STATE_CB_FLAG as i32;
    // SAFETY: the kernel's context.
    unsafe { bpf_sock_ops_cb_flags_set(ptr::from_ref(call).cast_mut(), flags) };
}

#[inline(always)]
fn connecting(call: &bpf_sock_ops) {
    if known(call).is_some_and(|state| state.has(flag::UPSTREAM)) {
        follow(call);
    }
}

#[inline(always)]
fn opened(call: &bpf_sock_ops) {
    let Some(state) = known(call).filter(|state| state.has(flag::UPSTREAM)) else {
        return;
    };
    state.established_at_ns.set(now_ns());
    state.flags.set(flag::ESTABLISHED);
    report(call, state, Event::OPENED, 0);
}

#[inline(always)]
fn accepted(call: &bpf_sock_ops) {
    let Some(state) = known(call).filter(|state| state.has(flag::LISTENER)) else {
        return;
    };
    let port = u32::from_be(field!(call, bpf_sock_ops, remote_port));
    state.enter(remote(call), port);
    take_worker(state, state.worker.get());
    follow(call);
}

#[inline(always)]
fn changed(call: &bpf_sock_ops) {
    let before = field!(call, bpf_sock_ops, __bindgen_anon_1, 0);
    let after = field!(call, bpf_sock_ops, __bindgen_anon_1, 1);
    if after != state::CLOSE || before == state::CLOSE {
        return;
    }
    let Some(state) = known(call) else {
        return;
    };
    state.give_back();
    if state.has(flag::UPSTREAM) {
        report(call, state, Event::CLOSED, before);
        // It may be connected again.
        state.flags.clear(flag::ESTABLISHED);
        state.established_at_ns.set(0);
    }
}

#[inline(always)]
fn report(call: &bpf_sock_ops, state: &Socket, kind: u32, last_state: u32) {
    // SAFETY: the kernel's context.
    let cookie = unsafe { bpf_get_socket_cookie(ptr::from_ref(call).cast_mut().cast()) };
    state.cookie.set(cookie);
    let source = local(call);
    let is_violation = choice::owner(&source) != Some(state.account.get());
    if is_violation && kind == Event::OPENED {
        note(Counter::EgressViolation);
    }
    let Some(mut entry) = EVENTS.reserve(0) else {
        note(Counter::EventLost);
        return;
    };
    let sent = double::<bpf_sock_ops, { offset_of!(bpf_sock_ops, bytes_acked) }>(call);
    let received = double::<bpf_sock_ops, { offset_of!(bpf_sock_ops, bytes_received) }>(call);
    let all_acknowledged =
        field!(call, bpf_sock_ops, snd_una) == field!(call, bpf_sock_ops, snd_nxt);
    entry.write(Event {
        kind,
        tenant: state.tenant.get(),
        account: state.account.get(),
        address: state.address.get(),
        cookie,
        at_ns: now_ns(),
        established_at_ns: state.established_at_ns.get(),
        source,
        destination: state.peer.get(),
        source_port: field!(call, bpf_sock_ops, local_port),
        destination_port: state.peer_port.get(),
        bytes_sent: payload_sent(sent, last_state, all_acknowledged),
        bytes_received: payload_received(received, last_state),
        rtt_us: field!(call, bpf_sock_ops, srtt_us) >> 3,
        retransmits: field!(call, bpf_sock_ops, total_retrans),
        is_violation: u32::from(is_violation),
        reserved: 0,
    });
    // User space looks at every tick of its clock, and need not be woken.
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

#[inline(always)]
fn local(call: &bpf_sock_ops) -> [u8; 16] {
    if field!(call, bpf_sock_ops, family) == AF_INET {
        mapped(field!(call, bpf_sock_ops, local_ip4))
    } else {
        ipv6!(call, bpf_sock_ops, local_ip6)
    }
}

#[inline(always)]
fn remote(call: &bpf_sock_ops) -> [u8; 16] {
    if field!(call, bpf_sock_ops, family) == AF_INET {
        mapped(field!(call, bpf_sock_ops, remote_ip4))
    } else {
        ipv6!(call, bpf_sock_ops, remote_ip6)
    }
}

impl Socket {
    /// A connection of a client, of nobody yet.
    #[inline(always)]
    pub(crate) fn enter(&self, peer: [u8; 16], port: u32) {
        self.flags.clear(flag::LISTENER);
        self.tenant.set(NOBODY);
        self.peer.set(peer);
        self.peer_port.set(port);
        self.established_at_ns.set(now_ns());
        self.flags.set(flag::INBOUND);
    }
}
