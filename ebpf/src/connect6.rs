//! `cgroup/connect6`: an IPv6 connect() goes to the gate or is refused at once; an
//! IPv4-mapped one goes to the IPv4 listener, as the kernel will send it by IPv4.
//! Linux 6.1.

use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{LISTENER_V6, Listener, hook, mapped};

use crate::event::{Attempt, ECONNREFUSED, PASS, refuse};
use crate::redirect::{admit, attempt6};
use crate::{session, set_field};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt6(ctx, hook::CONNECT6);
    let place = session::current();
    let is_mapped = is_mapped(&attempt);
    let needs_flags = if is_mapped { 0 } else { LISTENER_V6 };
    match admit(ctx, &attempt, &place, needs_flags) {
        Ok(listener) => {
            turn(ctx, listener, is_mapped);
            PASS
        }
        Err(reason) => refuse(ctx, &attempt, &place, reason, ECONNREFUSED),
    }
}

#[inline(always)]
fn is_mapped(attempt: &Attempt) -> bool {
    let dst = &attempt.dst;
    let head = u64::from_ne_bytes([
        dst[0], dst[1], dst[2], dst[3], dst[4], dst[5], dst[6], dst[7],
    ]);
    head == 0 && dst[8] == 0 && dst[9] == 0 && dst[10] == 0xff && dst[11] == 0xff
}

#[inline(always)]
fn turn(ctx: &SockAddrContext, listener: &Listener, is_mapped: bool) {
    let (addr, port) = if is_mapped {
        (mapped(listener.v4), listener.port4)
    } else {
        (listener.v6, listener.port6)
    };
    let word = |at: usize| u32::from_ne_bytes([addr[at], addr[at + 1], addr[at + 2], addr[at + 3]]);
    set_field!(ctx.sock_addr, user_ip6[0] = word(0));
    set_field!(ctx.sock_addr, user_ip6[1] = word(4));
    set_field!(ctx.sock_addr, user_ip6[2] = word(8));
    set_field!(ctx.sock_addr, user_ip6[3] = word(12));
    set_field!(ctx.sock_addr, user_port = u32::from(port.to_be()));
}
