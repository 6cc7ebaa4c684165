//! `cgroup/recvmsg4`: a datagram of the gate's resolver seems to come from the resolver
//! that was asked. Linux 6.1 (the hook itself 5.2).
//!
//! A socket that asked several gets every answer in the name of the last: all are servers
//! that it asked.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::event::PASS;
use crate::{set_field, turned};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    if let Some(turned) = turned::of(turned::socket(ctx)) {
        set_field!(bpf_sock_addr, ctx.sock_addr, user_ip4 = turned.asked[3]);
        set_field!(
            bpf_sock_addr,
            ctx.sock_addr,
            user_port = u32::from(turned.asked_port.to_be())
        );
    }
    PASS
}
