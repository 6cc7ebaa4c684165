//! What connect4 and connect6 share: may this connect() go to the gate, and to where?
//!
//! The original destination is stored before the address is rewritten; if it can't be,
//! the connection is refused.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{DestKey, IPPROTO_TCP, Listener, Origin, SOCK_STREAM, mapped, reason};

use crate::event::Attempt;
use crate::session::Place;
use crate::{DESTINATIONS, LISTENERS, ORIGINS, field};

/// Reads what the process asked for with an IPv4 address.
#[inline(always)]
pub fn attempt4(ctx: &SockAddrContext, hook: u32) -> Attempt {
    let dst = mapped(field!(ctx.sock_addr, user_ip4).to_ne_bytes());
    attempt(ctx, hook, dst)
}

/// Reads what the process asked for with an IPv6 address.
#[inline(always)]
pub fn attempt6(ctx: &SockAddrContext, hook: u32) -> Attempt {
    let words = [
        field!(ctx.sock_addr, user_ip6[0]),
        field!(ctx.sock_addr, user_ip6[1]),
        field!(ctx.sock_addr, user_ip6[2]),
        field!(ctx.sock_addr, user_ip6[3]),
    ];
    attempt(ctx, hook, bytes(words))
}

/// Four words of an address, network order, as its bytes.
#[inline(always)]
pub fn bytes(words: [u32; 4]) -> [u8; 16] {
    let (a, b) = (words[0].to_ne_bytes(), words[1].to_ne_bytes());
    let (c, d) = (words[2].to_ne_bytes(), words[3].to_ne_bytes());
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}

#[inline(always)]
fn attempt(ctx: &SockAddrContext, hook: u32, dst: [u8; 16]) -> Attempt {
    Attempt {
        hook,
        family: field!(ctx.sock_addr, family),
        kind: field!(ctx.sock_addr, type_),
        protocol: field!(ctx.sock_addr, protocol),
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        dst,
        port: u16::from_be(field!(ctx.sock_addr, user_port) as u16),
    }
}

/// Judges the attempt and stores its origin. Gives the listener to go to, or the reason
/// of the refusal.
#[inline(always)]
pub fn admit(
    ctx: &SockAddrContext,
    attempt: &Attempt,
    place: &Place,
    needs_flags: u32,
) -> Result<&'static Listener, u32> {
    let session = place.session?;
    if attempt.kind != SOCK_STREAM || attempt.protocol != IPPROTO_TCP {
        return Err(reason::NOT_TCP);
    }
    let key = DestKey {
        addr: attempt.dst,
        port: attempt.port,
        pad: 0,
    };
    if DESTINATIONS.get_ptr(key).is_none() {
        return Err(reason::UNKNOWN_DESTINATION);
    }
    // SAFETY: the daemon replaces a listener by removing it first; a value read while
    // that happens names an old or a new port of the gate's own address.
    let listener = unsafe { LISTENERS.get(attempt.netns) }.ok_or(reason::NO_LISTENER)?;
    if listener.flags & needs_flags != needs_flags {
        return Err(reason::NO_LISTENER_V6);
    }
    let origin = Origin {
        dst: attempt.dst,
        cgroup: place.cgroup,
        session,
        netns: attempt.netns,
        pid: ctx.tgid(),
        uid: ctx.uid(),
        port: attempt.port,
        family: attempt.family as u16,
        tied: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    // SAFETY: the helper takes this program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    ORIGINS
        .insert(cookie, origin, u64::from(BPF_ANY))
        .map_err(|_| reason::MAP_FULL)?;
    Ok(listener)
}
