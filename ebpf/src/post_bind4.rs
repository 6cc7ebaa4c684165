//! `cgroup/post_bind4`: an IPv4 bind() to the gate's port is refused. Linux 6.1.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::programs::SockContext;
use portcullis_ebpf_common::{hook, mapped};

use crate::{bind, field};

#[inline(always)]
pub fn run(ctx: &SockContext) -> i32 {
    let addr = mapped(field!(bpf_sock, ctx.sock, src_ip4));
    bind::run(ctx, hook::POST_BIND4, addr)
}
