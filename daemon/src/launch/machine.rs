//! A small machine for classic BPF, for the tests of filters.

use seccompiler::sock_filter;

use crate::launch::rules::ERRNO;

#[cfg(target_arch = "x86_64")]
pub(crate) const HERE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
pub(crate) const HERE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const KILL: u32 = 0x8000_0000;
pub(crate) const EPERM: u32 = ERRNO | 1;
pub(crate) const ENOSYS: u32 = ERRNO | 38;

/// What the kernel answers to a call.
pub(crate) fn answer(program: &[sock_filter], arch: u32, call: i64, arguments: &[u64]) -> u32 {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&u32::try_from(call).expect("number").to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (argument, place) in arguments.iter().zip((16..).step_by(8)) {
        data[place..place + 8].copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut next, mut a) = (0, 0_u32);
    loop {
        let sock_filter { code, jt, jf, k } = program[next].clone();
        next += 1;
        let mut branch = |taken| next += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => a = u32::from_ne_bytes(data[k as usize..][..4].try_into().expect("word")),
            0x54 => a &= k,
            0x05 => next += k as usize,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}
