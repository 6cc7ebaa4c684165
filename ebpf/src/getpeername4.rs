//! `cgroup/getpeername4`: the agent sees the IPv4 address that it asked for. Linux 5.8.

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
