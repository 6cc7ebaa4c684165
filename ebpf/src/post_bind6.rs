//! `cgroup/post_bind6`: an IPv6 bind() to the gate's port is refused. Linux 6.1.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::programs::SockContext;
use portcullis_ebpf_common::hook;

use crate::{bind, field};

#[inline(always)]
pub fn run(ctx: &SockContext) -> i32 {
    let addr = [
        field!(bpf_sock, ctx.sock, src_ip6[0]),
        field!(bpf_sock, ctx.sock, src_ip6[1]),
        field!(bpf_sock, ctx.sock, src_ip6[2]),
        field!(bpf_sock, ctx.sock, src_ip6[3]),
    ];
    bind::run(ctx, hook::POST_BIND6, addr)
}
