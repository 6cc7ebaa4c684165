//! `cgroup/sendmsg4`: no IPv4 datagram leaves an unconnected socket. Linux 6.1.

use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{hook, reason};

use crate::event::{ECONNREFUSED, refuse};
use crate::redirect::attempt4;
use crate::session;

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt4(ctx, hook::SENDMSG4);
    refuse(
        ctx,
        &attempt,
        &session::current(),
        reason::DATAGRAM,
        ECONNREFUSED,
    )
}
