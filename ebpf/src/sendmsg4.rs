//! `cgroup/sendmsg4`: no IPv4 datagram leaves an unconnected socket, but for
//! queries, which go to the gate's resolver. Linux 6.1.

use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{hook, reason};

use crate::event::{ECONNREFUSED, PASS, refuse};
use crate::redirect::attempt4;
use crate::{dns, session};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt4(ctx, hook::SENDMSG4);
    let place = session::current();
    if dns::is_query(&attempt) {
        return dns::run4(ctx, &attempt, &place);
    }
    if dns::is_turned(ctx, &attempt) {
        return PASS;
    }
    refuse(ctx, &attempt, &place, reason::DATAGRAM, ECONNREFUSED)
}
