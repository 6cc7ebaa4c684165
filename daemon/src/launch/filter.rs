//! The seccomp filter that an agent starts under, as a program for the kernel.
//!
//! Refuses what the gate's cgroup programs can't see: socket families and kinds that the
//! gate does not understand, ways into other processes, namespaces and mounts, the
//! kernel's own controls. The answer is an error (EPERM; ENOSYS where that makes libraries
//! take an older call), never a kill, except for another machine's calls. Pure: installing
//! it is `confine`'s. Absent on purpose: paths, which a filter can't read.

use seccompiler::{BpfProgram, SeccompCmpOp, SeccompRule};

use super::calls;
use super::rules::{
    compare, compile, is, masked, namespaces, not, personality, pointer, refused, rule,
};

/// The filter; `root` also refuses to make set-user-id files, which only a root agent
/// could make for somebody else to use.
///
/// # Errors
/// This machine's architecture has no filter, or a rule is malformed (a bug).
pub(super) fn program(root: bool) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules = refused();
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![rule([not(0, libc::AF_UNIX)])?]);
    rules.insert(libc::SYS_clone, namespaces()?);
    rules.insert(libc::SYS_unshare, namespaces()?);
    rules.insert(libc::SYS_personality, vec![personality()?]);
    rules.insert(libc::SYS_ioctl, terminals()?);
    rules.insert(libc::SYS_prlimit64, vec![limits()?]);
    if root {
        for (call, rule) in set_id()? {
            rules.entry(call).or_default().push(rule);
        }
    }
    // Their flags and modes are in memory, where a filter can't read them; the older
    // calls' are not.
    let unreadable: &[i64] = if root {
        &[libc::SYS_clone3, libc::SYS_openat2]
    } else {
        &[libc::SYS_clone3]
    };
    compile(rules, unreadable)
}

/// `socket(family, type, protocol)`: everything but unix sockets, TCP, UDP, and the
/// netlink protocol that name resolution and `ip` read interfaces with.
fn sockets() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    /// `type` also carries SOCK_CLOEXEC and SOCK_NONBLOCK.
    const TYPE: libc::c_int = 0xf;
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let mut rules = vec![
        rule(families.map(|family| not(0, family)))?,
        rule([is(0, libc::AF_NETLINK), not(2, libc::NETLINK_ROUTE)])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [
            (libc::SOCK_STREAM, libc::IPPROTO_TCP),
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        ] {
            let right_kind = masked(1, TYPE, kind);
            rules.push(rule([
                is(0, family),
                right_kind,
                not(2, 0),
                not(2, protocol),
            ])?);
        }
        for kind in (0..=TYPE).filter(|kind| ![libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(kind))
        {
            rules.push(rule([is(0, family), masked(1, TYPE, kind)])?);
        }
    }
    Ok(rules)
}

/// `ioctl(fd, request, ...)`: typing into a terminal that a shell outside reads.
fn terminals() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    [TIOCSTI, TIOCLINUX]
        .into_iter()
        .map(|request| rule([compare(1, SeccompCmpOp::Eq, request)]))
        .collect()
}

/// `prlimit(pid, resource, new, old)`: limits of another process. Asking stays, and so does
/// changing one's own.
fn limits() -> Result<SeccompRule, seccompiler::Error> {
    rule([not(0, 0), pointer(2)])
}

/// Modes with a set-user-id or set-group-id bit.
fn set_id() -> Result<Vec<(i64, SeccompRule)>, seccompiler::Error> {
    const FCHMODAT2: i64 = 452;
    let mut rules = Vec::new();
    for bit in [0o4000, 0o2000] {
        let mode = |argument| masked(argument, bit, bit);
        for (call, argument) in [
            (libc::SYS_fchmod, 1),
            (libc::SYS_fchmodat, 2),
            (FCHMODAT2, 2),
            (libc::SYS_mknodat, 2),
        ]
        .iter()
        .chain(calls::MODES_HERE)
        {
            rules.push((*call, rule([mode(*argument)])?));
        }
        for (call, flags) in [(libc::SYS_openat, 2)].iter().chain(calls::OPENS_HERE) {
            // Without these the mode is whatever the register held.
            for makes in [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY] {
                let conditions = [masked(*flags, makes, makes), mode(flags + 1)];
                rules.push((*call, rule(conditions)?));
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
