//! The seccomp filter that the daemon serves under.
//!
//! A list of what is refused, not of what is allowed: the daemon's libraries change, and a
//! call that is missing from a list of allowed ones is found by the first host that needs
//! it. Refused is what would undo the gate, reach into other processes or the kernel, or
//! make code out of data; the answer is EPERM.

use seccompiler::{BpfProgram, SeccompRule};

use super::Needs;
use crate::launch::rules::{compile, is, masked, namespaces, not, personality, refused, rule};

/// Commands of bpf(2) that serving takes: changes in maps, and looking whether the gate is
/// whole. So no program is loaded, attached, replaced or taken off, nothing is pinned.
const BPF: &[libc::c_int] = &[
    1,  // MAP_LOOKUP_ELEM
    2,  // MAP_UPDATE_ELEM
    3,  // MAP_DELETE_ELEM
    4,  // MAP_GET_NEXT_KEY
    7,  // OBJ_GET
    15, // OBJ_GET_INFO_BY_FD
    16, // PROG_QUERY
    21, // MAP_LOOKUP_AND_DELETE_ELEM
];

/// Beside what an agent is refused as well.
const REFUSED: &[i64] = &[
    libc::SYS_unshare,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
];

/// The filter.
///
/// # Errors
/// This machine's architecture has no filter, or a rule is malformed (a bug).
pub(super) fn program(needs: Needs) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules = refused();
    rules.extend(REFUSED.iter().map(|call| (*call, Vec::new())));
    rules.insert(
        libc::SYS_bpf,
        vec![rule(BPF.iter().map(|one| not(0, *one)))?],
    );
    // Into a network namespace, and no other.
    rules.insert(libc::SYS_setns, vec![rule([not(1, libc::CLONE_NEWNET)])?]);
    rules.insert(libc::SYS_clone, namespaces()?);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_personality, vec![personality()?]);
    if !needs.programs {
        rules.insert(libc::SYS_execve, Vec::new());
        rules.insert(libc::SYS_execveat, Vec::new());
        // A program may have a compiler of its own inside.
        rules.extend(code()?);
    }
    compile(rules, &[libc::SYS_clone3])
}

/// `socket(family, type, protocol)`: unix, TCP and UDP, and the two netlink protocols for
/// name resolution and for process events.
fn sockets() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    const NETLINK_CONNECTOR: libc::c_int = 11;
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
        rule([
            is(0, libc::AF_NETLINK),
            not(2, libc::NETLINK_ROUTE),
            not(2, NETLINK_CONNECTOR),
        ])?,
    ];
    // Of every other kind, SOCK_PACKET too, which the kernel makes one of whole frames.
    let other = |kind: &libc::c_int| ![libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(kind);
    for kind in (0..=TYPE).filter(other) {
        for family in [libc::AF_INET, libc::AF_INET6] {
            rules.push(rule([is(0, family), masked(1, TYPE, kind)])?);
        }
    }
    Ok(rules)
}

/// Memory that can be written and run, or is made to run after it was written. What is
/// left: a file that was written and is then mapped to run, memfd_create(2) for one, which
/// long lines to the journal need.
fn code() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::Error> {
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    let exec_shared = masked(2, libc::SHM_EXEC, libc::SHM_EXEC);
    let exec = |argument| masked(argument, libc::PROT_EXEC, libc::PROT_EXEC);
    Ok(vec![
        (libc::SYS_mmap, vec![rule([masked(2, both, both)])?]),
        (libc::SYS_mprotect, vec![rule([exec(2)])?]),
        (libc::SYS_pkey_mprotect, vec![rule([exec(2)])?]),
        (libc::SYS_shmat, vec![rule([exec_shared])?]),
    ])
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
