//! What post_bind4 and post_bind6 share: the gate's port is not for agents, not even while
//! the daemon is dead, or the next daemon could not start.
//!
//! Other ports are free to bind; that nobody reaches them is the work of ingress.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockContext;
use portcullis_ebpf_common::{Addr, LISTENER_V6, reason};

use crate::event::{Attempt, EACCES, PASS, refuse};
use crate::{LISTENERS, field, session};

#[inline(always)]
pub fn run(ctx: &SockContext, hook: u32, addr: Addr) -> i32 {
    // SAFETY: the helper takes this program's context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let port = field!(bpf_sock, ctx.sock, src_port) as u16;
    // SAFETY: as in `redirect`: an old or a new port of the gate.
    let Some(listener) = (unsafe { LISTENERS.get(netns) }) else {
        return PASS;
    };
    let is_v6 = listener.flags & LISTENER_V6 != 0 && port == listener.port6;
    if port != listener.port4 && !is_v6 {
        return PASS;
    }
    let attempt = Attempt {
        hook,
        family: field!(bpf_sock, ctx.sock, family),
        kind: field!(bpf_sock, ctx.sock, type_),
        protocol: field!(bpf_sock, ctx.sock, protocol),
        netns,
        dst: addr,
        port,
    };
    let place = session::current();
    refuse(ctx, &attempt, &place, reason::GATE_PORT, EACCES)
}
