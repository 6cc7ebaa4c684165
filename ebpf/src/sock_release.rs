//! `cgroup/sock_release`: a socket closed before its SYN left takes its origin with it.
//! Linux 6.1 (the hook itself 5.9).
//!
//! One whose SYN left is kept: its peer may still be in the gate's accept queue, with
//! everything that the agent sent before it closed. `sock_ops` removes that one.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::programs::SockContext;

use crate::event::PASS;
use crate::{ORIGINS, dns};

#[inline(always)]
pub fn run(ctx: &SockContext) -> i32 {
    dns::forget(ctx.sock);
    // SAFETY: the helper takes this program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the entry belongs to this socket and the socket is being closed.
    let untied = unsafe { ORIGINS.get(cookie) }.is_some_and(|origin| origin.tied == 0);
    if untied {
        let _ = ORIGINS.remove(cookie);
    }
    PASS
}
