//! What the hooks share for queries by UDP: whatever resolver the process asks, it is the
//! gate's resolver that hears it, and that knows who asked.
//!
//! The process is known where it calls; its source address only when the packet leaves.
//! So the call writes an [`Asker`] to the socket, and egress files it under the source
//! address, before the packet can arrive. A query without an asker does not leave.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    __sk_buff, BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr,
};
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::programs::{SkBuffContext, SockAddrContext};
use portcullis_ebpf_common::dns::Asker;
use portcullis_ebpf_common::packet::{Ends, LOOPBACK};
use portcullis_ebpf_common::{Addr, IPPROTO_UDP, Listener, TupleKey, dns, mapped, reason};

use crate::event::{Attempt, ECONNREFUSED, PASS, refuse};
use crate::redirect::remember;
use crate::session::Place;
use crate::{ASKERS, LISTENERS, QUERIES, field, field64, set_field, turned};

/// Is it for the gate's resolver?
#[inline(always)]
pub fn is_query(attempt: &Attempt) -> bool {
    dns::is_query(attempt.kind, attempt.protocol, attempt.port)
}

/// Is it sent to where its socket was turned already? So the kernel itself sends what a
/// connected IPv6 socket with an IPv4-mapped peer sends.
#[inline(always)]
pub fn is_turned(ctx: &SockAddrContext, attempt: &Attempt) -> bool {
    turned::of(turned::socket(ctx)).is_some_and(|turned| {
        attempt.port == turned.gate_port
            && turned.protocol == IPPROTO_UDP
            && same(&attempt.dst, &turned.gate)
    })
}

/// An IPv4 query, or an IPv6 one to an IPv4-mapped address: goes to the resolver's IPv4
/// listener or is refused.
#[inline(always)]
pub fn run4(ctx: &SockAddrContext, attempt: &Attempt, place: &Place) -> i32 {
    match admit(ctx, attempt, place) {
        Ok(listener) if listener.dns4 != 0 => {
            if !remember(ctx, attempt, mapped(listener.v4), listener.dns4) {
                return refuse(ctx, attempt, place, reason::MAP_FULL, ECONNREFUSED);
            }
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip4 = listener.v4);
            turn_port(ctx, listener.dns4);
            PASS
        }
        Ok(_) => refuse(ctx, attempt, place, reason::NO_LISTENER, ECONNREFUSED),
        Err(reason) => refuse(ctx, attempt, place, reason, ECONNREFUSED),
    }
}

/// An IPv6 query.
#[inline(always)]
pub fn run6(ctx: &SockAddrContext, attempt: &Attempt, place: &Place, is_mapped: bool) -> i32 {
    match admit(ctx, attempt, place) {
        Ok(listener) => {
            let (addr, port) = if is_mapped {
                (mapped(listener.v4), listener.dns4)
            } else {
                (listener.v6, listener.dns6)
            };
            if port == 0 {
                return refuse(ctx, attempt, place, reason::NO_LISTENER_V6, ECONNREFUSED);
            }
            if !remember(ctx, attempt, addr, port) {
                return refuse(ctx, attempt, place, reason::MAP_FULL, ECONNREFUSED);
            }
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[0] = addr[0]);
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[1] = addr[1]);
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[2] = addr[2]);
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[3] = addr[3]);
            turn_port(ctx, port);
            PASS
        }
        Err(reason) => refuse(ctx, attempt, place, reason, ECONNREFUSED),
    }
}

#[inline(always)]
fn turn_port(ctx: &SockAddrContext, port: u16) {
    set_field!(
        bpf_sock_addr,
        ctx.sock_addr,
        user_port = u32::from(port.to_be())
    );
}

#[inline(always)]
fn admit(
    ctx: &SockAddrContext,
    attempt: &Attempt,
    place: &Place,
) -> Result<&'static Listener, u32> {
    if place.reason != 0 {
        return Err(place.reason);
    }
    let sk = turned::socket(ctx);
    if field!(bpf_sock, sk, bound_dev_if) > LOOPBACK {
        return Err(reason::DEVICE);
    }
    // SAFETY: as in `redirect`: an old or a new port of the gate.
    let listener = unsafe { LISTENERS.get(attempt.netns) }.ok_or(reason::NO_LISTENER)?;
    let mut asker = Asker {
        from: TupleKey {
            addr: [0; 4],
            netns: attempt.netns,
            port: 0,
            pad: [0; 3],
        },
        asked: attempt.dst,
        cgroup: place.cgroup,
        session: place.session,
        pid: ctx.tgid(),
        uid: ctx.uid(),
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    let Some(record) = storage(sk.cast(), &raw mut asker, flags) else {
        return Err(reason::MAP_FULL);
    };
    // One that was there already keeps its value till it is set here.
    asker.from = record.from;
    *record = asker;
    Ok(listener)
}

/// A query leaves: files its asker under its source. False if that can't be: drop it.
#[inline(always)]
pub fn file(ctx: &SkBuffContext, ends: &Ends) -> bool {
    let sk = field64!(__sk_buff, ctx.skb.skb, __bindgen_anon_2) as *mut bpf_sock;
    if sk.is_null() {
        return false;
    }
    let Some(asker) = storage(sk.cast(), core::ptr::null_mut(), 0) else {
        return false;
    };
    if asker.from.port != ends.src_port || !same(&asker.from.addr, &ends.src) {
        if asker.from.port != 0 {
            let _ = QUERIES.remove(&asker.from);
        }
        asker.from.addr = ends.src;
        asker.from.port = ends.src_port;
    }
    QUERIES
        .insert(asker.from, &*asker, u64::from(BPF_ANY))
        .is_ok()
}

/// `==` of arrays is a call, which the programs don't have.
#[inline(always)]
fn same(a: &Addr, b: &Addr) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}

/// A socket is closed: whoever takes its source next is not its asker.
#[inline(always)]
pub fn forget(sk: *mut bpf_sock) {
    if field!(bpf_sock, sk, protocol) != IPPROTO_UDP {
        return;
    }
    if let Some(asker) = storage(sk.cast(), core::ptr::null_mut(), 0)
        && asker.from.port != 0
    {
        let _ = QUERIES.remove(&asker.from);
    }
}

#[inline(always)]
fn storage(
    sk: *mut core::ffi::c_void,
    value: *mut Asker,
    flags: u64,
) -> Option<&'static mut Asker> {
    let map = core::ptr::from_ref(&ASKERS).cast_mut().cast();
    // SAFETY: the verifier knows `sk` as a socket; `value` is null, or as large as the
    // map's values are.
    let found = unsafe { bpf_sk_storage_get(map, sk, value.cast(), flags) };
    // SAFETY: null, or the record, which lives as long as the socket. Two threads that send
    // by one socket at once may mix two askers of one session.
    unsafe { found.cast::<Asker>().as_mut() }
}
