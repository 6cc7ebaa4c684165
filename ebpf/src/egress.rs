//! `cgroup_skb/egress`: whatever made it, a packet leaves only to where its socket was
//! turned, and only by the loopback device. Linux 6.1.
//!
//! Runs at the end of the way down, with the header and the device as they will be: source
//! routes, bound devices, raw headers and address translation are all behind it.

use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use aya_ebpf::programs::SkBuffContext;
use portcullis_ebpf_common::packet::{Ends, may_leave};
use portcullis_ebpf_common::{
    AF_INET, AF_INET6, IPPROTO_UDP, MAX_CGROUP_LEVEL, hook, is_mapped, reason,
};

use crate::event::{Attempt, Author, report};
use crate::session::Place;
use crate::{SESSIONS, dns, packet};

const LEAVE: i32 = 1;
const DROP: i32 = 0;

#[inline(always)]
pub fn run(ctx: &SkBuffContext) -> i32 {
    let ends = packet::ends(ctx);
    if let Some(turned) = packet::turned(ctx)
        && may_leave(&ends, packet::device(ctx), turned)
        && (ends.protocol != IPPROTO_UDP || dns::file(ctx, &ends))
    {
        return LEAVE;
    }
    tell(ctx, &ends);
    DROP
}

#[inline(always)]
fn tell(ctx: &SkBuffContext, ends: &Ends) {
    let attempt = Attempt {
        hook: hook::EGRESS,
        family: if is_mapped(ends.dst) {
            AF_INET
        } else {
            AF_INET6
        },
        kind: 0,
        protocol: ends.protocol,
        netns: 0,
        dst: ends.dst,
        port: ends.dst_port,
    };
    // The process is not the running one: the packet may be sent by a timer.
    report(&attempt, &place(ctx), reason::PACKET, Author::Unknown);
}

/// The cgroup and the session of the packet's socket.
#[inline(always)]
fn place(ctx: &SkBuffContext) -> Place {
    let skb = ctx.skb.skb;
    let mut place = Place {
        // SAFETY: the helper takes this program's context.
        cgroup: unsafe { bpf_skb_cgroup_id(skb) },
        session: 0,
        reason: reason::PACKET,
    };
    let mut level = MAX_CGROUP_LEVEL;
    while level >= 0 {
        // SAFETY: as above.
        let id = unsafe { bpf_skb_ancestor_cgroup_id(skb, level) };
        if id != 0 && SESSIONS.get_ptr(id).is_some() {
            place.session = id;
            return place;
        }
        level -= 1;
    }
    place
}
