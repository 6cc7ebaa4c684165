//! `cgroup/connect_unix`: connect() to a unix address that the session may use. Linux 6.7.

use aya_ebpf::programs::SockAddrContext;
use portcullis_ebpf_common::hook;

use crate::unix;

#[inline(always)]
pub fn run(ctx: &SockAddrContext) -> i32 {
    unix::run(ctx, hook::UNIX_CONNECT)
}
