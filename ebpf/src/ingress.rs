//! `cgroup_skb/ingress`: a socket of a session hears only from where it was turned, so
//! that a listener of the agent is not reached, from outside or by itself. Linux 6.1.
//!
//! No events: whoever can send a packet to this host could fill the record with them.

use aya_ebpf::programs::SkBuffContext;
use portcullis_ebpf_common::packet::may_enter;

use crate::packet;

const ENTER: i32 = 1;
const DROP: i32 = 0;

#[inline(always)]
pub fn run(ctx: &SkBuffContext) -> i32 {
    if let Some(turned) = packet::turned(ctx)
        && may_enter(&packet::ends(ctx), packet::device(ctx), turned)
    {
        return ENTER;
    }
    DROP
}
