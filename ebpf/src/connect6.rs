//! `cgroup/connect6`: an IPv6 connect() goes to the gate or is refused at once; an
//! IPv4-mapped one goes to the IPv4 listener, as the kernel will send it by IPv4.
//! Linux 6.1.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{Addr, LISTENER_V6, Listener, hook, is_mapped, mapped, reason};

use crate::event::{ECONNREFUSED, PASS, refuse};
use crate::redirect::{admit, attempt6, remember};
use crate::{dns, session, set_field};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt6(ctx, hook::CONNECT6);
    let place = session::current();
    let is_mapped = is_mapped(attempt.dst);
    if dns::is_query(&attempt) {
        return dns::run6(ctx, &attempt, &place, is_mapped);
    }
    let needs_flags = if is_mapped { 0 } else { LISTENER_V6 };
    match admit(ctx, &attempt, &place, needs_flags) {
        Ok(listener) => {
            let (addr, port) = gate(listener, is_mapped);
            if !remember(ctx, &attempt, addr, port) {
                return refuse(ctx, &attempt, &place, reason::MAP_FULL, ECONNREFUSED);
            }
            turn(ctx, addr, port);
            PASS
        }
        Err(reason) => refuse(ctx, &attempt, &place, reason, ECONNREFUSED),
    }
}

#[inline(always)]
fn gate(listener: &Listener, is_mapped: bool) -> (Addr, u16) {
    if is_mapped {
        (mapped(listener.v4), listener.port4)
    } else {
        (listener.v6, listener.port6)
    }
}

#[inline(always)]
fn turn(ctx: &SockAddrContext, addr: Addr, port: u16) {
    set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[0] = addr[0]);
    set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[1] = addr[1]);
    set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[2] = addr[2]);
    set_field!(bpf_sock_addr, ctx.sock_addr, user_ip6[3] = addr[3]);
    set_field!(
        bpf_sock_addr,
        ctx.sock_addr,
        user_port = u32::from(port.to_be())
    );
}
