//! `cgroup/connect4`: an IPv4 connect() goes to the gate or is refused at once. Linux 6.1.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{hook, mapped, reason};

use crate::event::{ECONNREFUSED, PASS, refuse};
use crate::redirect::{admit, attempt4, remember};
use crate::{dns, session, set_field};

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt4(ctx, hook::CONNECT4);
    let place = session::current();
    if dns::is_query(&attempt) {
        return dns::run4(ctx, &attempt, &place);
    }
    match admit(ctx, &attempt, &place, 0) {
        Ok(listener) => {
            if !remember(ctx, &attempt, mapped(listener.v4), listener.port4) {
                return refuse(ctx, &attempt, &place, reason::MAP_FULL, ECONNREFUSED);
            }
            set_field!(bpf_sock_addr, ctx.sock_addr, user_ip4 = listener.v4);
            set_field!(
                bpf_sock_addr,
                ctx.sock_addr,
                user_port = u32::from(listener.port4.to_be())
            );
            PASS
        }
        Err(reason) => refuse(ctx, &attempt, &place, reason, ECONNREFUSED),
    }
}
