//! `cgroup/sendmsg6`: no IPv6 datagram leaves an unconnected socket, but for
//! queries, which go to the gate's resolver. Linux 6.1.

use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{hook, is_mapped, reason};

use crate::event::{ECONNREFUSED, refuse};
use crate::redirect::attempt6;
use crate::{dns, session};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt6(ctx, hook::SENDMSG6);
    let place = session::current();
    if dns::is_query(&attempt) {
        return dns::run6(ctx, &attempt, &place, is_mapped(attempt.dst));
    }
    refuse(ctx, &attempt, &place, reason::DATAGRAM, ECONNREFUSED)
}
