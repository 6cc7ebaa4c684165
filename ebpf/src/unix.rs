//! What the two unix hooks share: is this address on the session's list?
//!
//! The context shows no unix address. What the kernel really passes is its own
//! `struct bpf_sock_addr_kern`, which is read here as plain kernel memory. Should it look
//! otherwise in some kernel, what is read is on no list, and everything is refused.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_probe_read_kernel};
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::{AF_UNIX, UNIX_PATH, UnixKey, reason};

use crate::event::{Attempt, Author, EACCES, PASS, fail, report_with};
use crate::{UNIX_ALLOWED, field, session};

/// `struct bpf_sock_addr_kern` (include/linux/filter.h), as of Linux 6.7.
#[repr(C)]
#[derive(Clone, Copy)]
struct Kern {
    sk: u64,
    uaddr: u64,
    tmp_reg: u64,
    t_ctx: u64,
    uaddrlen: u32,
    pad: u32,
}

/// Length of `sun_family`; an address of this length has no name.
const FAMILY: u32 = 2;
/// Longest `sun_path`.
const LONGEST: u32 = 108;

#[inline(always)]
pub fn run(ctx: &SockAddrContext, hook: u32) -> i32 {
    let place = session::current();
    let mut key = UnixKey {
        session: place.session,
        abstract_len: 0,
        pad: 0,
        path: [0; UNIX_PATH],
    };
    let is_read = read(ctx, &mut key);
    if is_read && place.reason == 0 && UNIX_ALLOWED.get_ptr(&key).is_some() {
        return PASS;
    }
    let attempt = Attempt {
        hook,
        family: AF_UNIX,
        kind: field!(bpf_sock_addr, ctx.sock_addr, type_),
        protocol: 0,
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        dst: [0; 4],
        port: 0,
    };
    let reason = if place.reason == 0 {
        reason::UNIX_ADDRESS
    } else {
        place.reason
    };
    report_with(&attempt, &place, reason, Author::Running, |event| {
        event.path = key.path;
    });
    fail(EACCES)
}

/// Reads the address into the key; false if it has no name or can't be read.
#[inline(always)]
fn read(ctx: &SockAddrContext, key: &mut UnixKey) -> bool {
    let mut kern = Kern {
        sk: 0,
        uaddr: 0,
        tmp_reg: 0,
        t_ctx: 0,
        uaddrlen: 0,
        pad: 0,
    };
    let to = core::ptr::from_mut(&mut kern).cast();
    // SAFETY: the length is the buffer's; the helper takes any kernel address.
    if unsafe { bpf_probe_read_kernel(to, size_of::<Kern>() as u32, ctx.as_ptr()) } != 0 {
        return false;
    }
    if kern.uaddrlen <= FAMILY || kern.uaddrlen > FAMILY + LONGEST {
        return false;
    }
    let length = bounded(kern.uaddrlen - FAMILY);
    if length > LONGEST {
        return false;
    }
    let from = (kern.uaddr + u64::from(FAMILY)) as *const _;
    let to = key.path.as_mut_ptr().cast();
    // SAFETY: the buffer is longer than the longest path.
    if unsafe { bpf_probe_read_kernel(to, length, from) } != 0 {
        return false;
    }
    if key.path[0] == 0 {
        key.abstract_len = length;
        return true;
    }
    end_path(key);
    true
}

/// The same number, in a register of which the verifier knows that it is below 128: it
/// forgets a comparison that the compiler makes with a copy.
#[inline(always)]
pub fn bounded(length: u32) -> u32 {
    let mut length = u64::from(length);
    // SAFETY: changes this one register.
    unsafe {
        core::arch::asm!(
            "{length} &= 127",
            length = inout(reg) length,
            options(nostack, nomem, pure),
        )
    };
    length as u32
}

/// A path ends at its first zero byte; what the process put behind it is not part of it.
#[inline(always)]
pub fn end_path(key: &mut UnixKey) {
    let mut ended = false;
    let mut at = 0;
    while at < UNIX_PATH {
        ended |= key.path[at] == 0;
        if ended {
            key.path[at] = 0;
        }
        at += 1;
    }
}
