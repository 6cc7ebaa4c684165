//! `socket_create`, `socket_connect`, `socket_sendmsg`, `socket_recvmsg`, `socket_listen`:
//! only families that the gate understands, and only sockets that the session made itself.
//!
//! A socket that was inherited or passed in belongs to another cgroup, whose hooks never
//! look at it. What an inet socket may do is the cgroup hooks' business.

use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::lsm::may_create_any;
use portcullis_ebpf_common::{hook, reason};

use super::kernel::{pointer, read16, read64};
use super::place::{held, is_launching, made_before, made_here};
use super::{EACCES, PASS, report_socket};

#[inline(always)]
pub fn create(ctx: &LsmContext) -> i32 {
    if held().is_none() {
        return PASS;
    }
    let family = ctx.arg::<i32>(0) as u32;
    let kind = ctx.arg::<i32>(1) as u32;
    let protocol = ctx.arg::<i32>(2) as u32;
    // The kernel makes some for itself on behalf of a process.
    let is_kernels = ctx.arg::<i32>(3) != 0;
    if is_kernels || may_create_any(family, kind, protocol) {
        return PASS;
    }
    let socket = [family, kind, protocol];
    report_socket(hook::LSM_SOCKET_CREATE, reason::SOCKET_KIND, socket, |_| {});
    EACCES
}

/// All hooks whose first argument is the `struct socket` that is used.
#[inline(always)]
pub fn used(ctx: &LsmContext, hook: u32) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let socket = pointer(ctx, 0);
    let sock = read64(socket + u64::from(config.offsets.socket_sock));
    // The daemon's answer comes by a socket that was made before the session.
    if made_here(config, sock) || is_launching() {
        return PASS;
    }
    if hook == hook::LSM_SOCKET_RECVMSG && made_before(config, sock) {
        return PASS;
    }
    let family = read16(sock + u64::from(config.offsets.sock_family));
    let socket = [u32::from(family), 0, 0];
    report_socket(hook, reason::OUTSIDE_SOCKET, socket, |_| {});
    EACCES
}
