//! `unix_stream_connect`, `unix_may_send`: unix sockets of the session itself, and those
//! that the policy lists for it.
//!
//! The address is the one that the helper bound. Nor does a process outside connect to a
//! session's socket: what an agent offers there leaves by no gate. Absent: datagrams that
//! come in, which are how a listed helper answers.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::lsm::LsmConfig;
use portcullis_ebpf_common::{AF_UNIX, UNIX_PATH, UnixKey, hook, reason};

use super::kernel::{pointer, read32, read64};
use super::place::{held, installed, made_here, made_inside};
use super::{EACCES, PASS, report_socket};
use crate::unix::{bounded, end_path};
use crate::{UNIX_ALLOWED, session};

#[inline(always)]
pub fn stream_connect(ctx: &LsmContext) -> i32 {
    // `struct sock`: ours, the listener's.
    if held().is_some() {
        return reach(pointer(ctx, 1), hook::LSM_UNIX_STREAM_CONNECT);
    }
    let Some(config) = installed() else {
        return PASS;
    };
    if made_inside(config, pointer(ctx, 1)) {
        return EACCES;
    }
    PASS
}

#[inline(always)]
pub fn may_send(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    // `struct socket`: ours, the receiver's.
    let sock = read64(pointer(ctx, 1) + u64::from(config.offsets.socket_sock));
    reach(sock, hook::LSM_UNIX_MAY_SEND)
}

#[inline(always)]
fn reach(other: u64, hook: u32) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    if made_here(config, other) {
        return PASS;
    }
    let mut key = UnixKey {
        session: session::current().session,
        abstract_len: 0,
        pad: 0,
        path: [0; UNIX_PATH],
    };
    if read_address(config, other, &mut key)
        && key.session != 0
        && UNIX_ALLOWED.get_ptr(&key).is_some()
    {
        return PASS;
    }
    report_socket(hook, reason::UNIX_ADDRESS, [AF_UNIX, 0, 0], |event| {
        event.path = key.path;
    });
    EACCES
}

/// Reads the address that a unix socket is bound to; false if it has none.
#[inline(always)]
fn read_address(config: &LsmConfig, sock: u64, key: &mut UnixKey) -> bool {
    /// Length of `sun_family`; the name is behind it.
    const FAMILY: u32 = 2;
    let address = read64(sock + u64::from(config.offsets.unix_address));
    let length = read32(address + u64::from(config.offsets.address_length));
    if address == 0 || length <= FAMILY {
        return false;
    }
    let length = bounded(length - FAMILY);
    if length as usize > UNIX_PATH {
        return false;
    }
    let from = address + u64::from(config.offsets.address_name) + u64::from(FAMILY);
    let to = key.path.as_mut_ptr().cast();
    // SAFETY: no more bytes than the buffer has.
    if unsafe { bpf_probe_read_kernel(to, length, from as *const _) } != 0 {
        return false;
    }
    if key.path[0] == 0 {
        key.abstract_len = length;
        return true;
    }
    end_path(key);
    true
}
