//! What connect4 and connect6 share: may this connect() go to the gate, and to where?
//!
//! The original destination is stored before the address is rewritten; if it can't be,
//! the connection is refused.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::dns::DNS_PORT;
use portcullis_ebpf_common::packet::LOOPBACK;
use portcullis_ebpf_common::{
    Addr, DestKey, IPPROTO_TCP, Listener, Origin, SOCK_STREAM, Turned, mapped, reason,
};

use crate::event::Attempt;
use crate::session::Place;
use crate::{DESTINATIONS, LISTENERS, ORIGINS, field, turned};

/// Reads what the process asked for with an IPv4 address.
#[inline(always)]
pub fn attempt4(ctx: &SockAddrContext, hook: u32) -> Attempt {
    let dst = mapped(field!(bpf_sock_addr, ctx.sock_addr, user_ip4));
    attempt(ctx, hook, dst)
}

/// Reads what the process asked for with an IPv6 address.
#[inline(always)]
pub fn attempt6(ctx: &SockAddrContext, hook: u32) -> Attempt {
    let dst = [
        field!(bpf_sock_addr, ctx.sock_addr, user_ip6[0]),
        field!(bpf_sock_addr, ctx.sock_addr, user_ip6[1]),
        field!(bpf_sock_addr, ctx.sock_addr, user_ip6[2]),
        field!(bpf_sock_addr, ctx.sock_addr, user_ip6[3]),
    ];
    attempt(ctx, hook, dst)
}

#[inline(always)]
fn attempt(ctx: &SockAddrContext, hook: u32, dst: Addr) -> Attempt {
    Attempt {
        hook,
        family: field!(bpf_sock_addr, ctx.sock_addr, family),
        kind: field!(bpf_sock_addr, ctx.sock_addr, type_),
        protocol: field!(bpf_sock_addr, ctx.sock_addr, protocol),
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        dst,
        port: u16::from_be(field!(bpf_sock_addr, ctx.sock_addr, user_port) as u16),
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
    if place.reason != 0 {
        return Err(place.reason);
    }
    if attempt.kind != SOCK_STREAM || attempt.protocol != IPPROTO_TCP {
        return Err(reason::NOT_TCP);
    }
    if field!(bpf_sock, turned::socket(ctx), bound_dev_if) > LOOPBACK {
        return Err(reason::DEVICE);
    }
    let key = DestKey {
        addr: attempt.dst,
        port: attempt.port,
        pad: 0,
    };
    // The gate's resolver answers in the place of every other.
    if attempt.port != DNS_PORT && DESTINATIONS.get_ptr(key).is_none() {
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
        session: place.session,
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

/// Writes down with the socket that it was turned to this address of the gate. False if
/// there is no memory for it: refuse.
#[inline(always)]
pub fn remember(ctx: &SockAddrContext, attempt: &Attempt, gate: Addr, port: u16) -> bool {
    let mut turned = Turned {
        asked: attempt.dst,
        gate,
        asked_port: attempt.port,
        gate_port: port,
        protocol: attempt.protocol,
    };
    turned::remember(turned::socket(ctx), &mut turned)
}
