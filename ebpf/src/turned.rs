//! The record of where a socket was turned, kept with the socket (`SK_STORAGE`, Linux 5.2;
//! from these hooks 5.8): the kernel frees it with the socket, so there is nothing to leak.
//!
//! A socket without a record has no way out: every packet of it is refused.

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::Turned;

use crate::{TURNED, field64};

/// The socket of a socket address program.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    let sk = field64!(bpf_sock_addr, ctx.sock_addr, __bindgen_anon_1);
    sk as *mut bpf_sock
}

/// The socket's record. `sk` is a socket pointer that the kernel gave, not null.
#[inline(always)]
pub fn of(sk: *mut bpf_sock) -> Option<&'static Turned> {
    // SAFETY: the verifier knows `sk` as a socket; with no flags the helper only looks.
    let found = unsafe { bpf_sk_storage_get(map(), sk.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null, or the record, which lives as long as the socket, and so longer than
    // this run of the program. A reader sees an old or a new address of the gate's own.
    unsafe { found.cast::<Turned>().as_ref() }
}

/// Writes the socket's record. False if there is no memory for it.
#[inline(always)]
pub fn remember(sk: *mut bpf_sock, turned: &mut Turned) -> bool {
    let value = core::ptr::from_mut(turned);
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as above; `value` is as large as the map's values are.
    let found = unsafe { bpf_sk_storage_get(map(), sk.cast(), value.cast(), flags) };
    // SAFETY: as in `of`. One that was there already keeps its value till it is set here.
    match unsafe { found.cast::<Turned>().as_mut() } {
        Some(record) => {
            *record = *turned;
            true
        }
        None => false,
    }
}

#[inline(always)]
fn map() -> *mut core::ffi::c_void {
    core::ptr::from_ref(&TURNED).cast_mut().cast()
}
