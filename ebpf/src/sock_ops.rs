//! `sockops`: ties the agent's end of a connection to its origin. Linux 6.1.
//!
//! `TCP_CONNECT_CB` comes when the source address and port are chosen and the SYN has not
//! left, so the tie is there before the gate can accept. The connection's end, however
//! it comes, removes what the gate has not taken. Only sockets with an origin are touched.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_ANY, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_TCP_CLOSE, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockOpsContext;
use portcullis_ebpf_common::{AF_INET6, TupleKey, mapped};

use crate::{ORIGINS, TUPLES, field};

const OK: u32 = 1;

#[inline(always)]
pub fn run(ctx: &SockOpsContext) -> u32 {
    let op = field!(bpf_sock_ops, ctx.ops, op);
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        tie(ctx);
    } else if op == BPF_SOCK_OPS_STATE_CB
        && field!(bpf_sock_ops, ctx.ops, __bindgen_anon_1.args[1]) == BPF_TCP_CLOSE
    {
        untie(ctx);
    }
    OK
}

#[inline(always)]
fn tie(ctx: &SockOpsContext) {
    // SAFETY: the helper takes this program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(origin) = ORIGINS.get_ptr_mut(cookie) else {
        return;
    };
    let flags = field!(bpf_sock_ops, ctx.ops, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG;
    if ctx.set_cb_flags(flags as i32).is_err() {
        // Nobody would remove the tie: without one the gate refuses the connection.
        return;
    }
    if TUPLES.insert(key(ctx), cookie, u64::from(BPF_ANY)).is_ok() {
        // SAFETY: the map gave the pointer, and this socket's connect() is under way:
        // nobody else writes its entry.
        unsafe { (*origin).tied = 1 };
    }
}

#[inline(always)]
fn untie(ctx: &SockOpsContext) {
    // SAFETY: the helper takes this program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let _ = ORIGINS.remove(cookie);
    let key = key(ctx);
    // The same source may already lead to a younger socket with another destination.
    // SAFETY: a number, read once.
    let own = unsafe { TUPLES.get(key) }.is_some_and(|owner| *owner == cookie);
    if own {
        let _ = TUPLES.remove(key);
    }
}

#[inline(always)]
fn key(ctx: &SockOpsContext) -> TupleKey {
    let addr = if field!(bpf_sock_ops, ctx.ops, family) == AF_INET6 {
        [
            field!(bpf_sock_ops, ctx.ops, local_ip6[0]),
            field!(bpf_sock_ops, ctx.ops, local_ip6[1]),
            field!(bpf_sock_ops, ctx.ops, local_ip6[2]),
            field!(bpf_sock_ops, ctx.ops, local_ip6[3]),
        ]
    } else {
        mapped(field!(bpf_sock_ops, ctx.ops, local_ip4))
    };
    TupleKey {
        addr,
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        port: field!(bpf_sock_ops, ctx.ops, local_port) as u16,
        pad: [0; 3],
    }
}
