//! `cgroup/sock_create`: only sockets that another hook can hold. Linux 6.1.
//!
//! The kernel asks for inet families only; other families are not seen here.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockContext;
use portcullis_ebpf_common::{hook, may_create, reason};

use crate::event::{Attempt, EACCES, PASS, refuse};
use crate::{field, session};

#[inline(always)]
pub fn run(ctx: &SockContext) -> i32 {
    let family = field!(bpf_sock, ctx.sock, family);
    let kind = field!(bpf_sock, ctx.sock, type_);
    let protocol = field!(bpf_sock, ctx.sock, protocol);
    if may_create(family, kind, protocol) {
        return PASS;
    }
    let attempt = Attempt {
        hook: hook::SOCK_CREATE,
        family,
        kind,
        protocol,
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        dst: [0; 4],
        port: 0,
    };
    refuse(
        ctx,
        &attempt,
        &session::current(),
        reason::SOCKET_KIND,
        EACCES,
    )
}
