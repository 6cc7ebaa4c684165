//! The seccomp filter that an agent starts under, as a program for the kernel.
//!
//! Refuses what the gate's cgroup programs can't see: socket families and kinds that the
//! gate does not understand, ways into other processes, namespaces and mounts, the
//! kernel's own controls. The answer is an error (EPERM; ENOSYS where that makes libraries
//! take an older call), never a kill, except for another machine's calls. Pure: installing
//! it is `confine`'s. Absent on purpose: paths, which a filter can't read.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::calls;

/// Calls of the x32 ABI have this bit; they would pass every rule by number.
const X32: u32 = 0x4000_0000;
/// The newest call that was looked at (`file_setattr`, Linux 6.17). What comes later is
/// answered as an older kernel would.
const NEWEST: u32 = 469;
/// Of `struct seccomp_data`: the number is its first word.
const NUMBER: u32 = 0;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO

/// The filter; `root` also refuses to make set-user-id files, which only a root agent
/// could make for somebody else to use.
///
/// # Errors
/// This machine's architecture has no filter, or a rule is malformed (a bug).
pub(super) fn program(root: bool) -> Result<BpfProgram, seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls::REFUSED.iter().chain(calls::REFUSED_HERE) {
        rules.insert(*call, Vec::new());
    }
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
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?;
    let mut program = prefix(root);
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// What one list with one answer can't say.
fn prefix(root: bool) -> BpfProgram {
    let mut program = vec![statement(LOAD, NUMBER)];
    let mut answer = |jump, value, errno: libc::c_int| {
        let (jt, jf) = (0, 1);
        program.push(sock_filter {
            code: jump,
            jt,
            jf,
            k: value,
        });
        program.push(statement(RETURN, ERRNO | errno.cast_unsigned()));
    };
    answer(JUMP_NOT_LESS, X32, libc::EPERM);
    answer(JUMP_GREATER, NEWEST, libc::ENOSYS);
    // Its flags are in memory, where a filter can't read them; the older calls' are not.
    answer(JUMP_EQUAL, number(libc::SYS_clone3), libc::ENOSYS);
    if root {
        answer(JUMP_EQUAL, number(libc::SYS_openat2), libc::ENOSYS);
    }
    program
}

fn statement(code: u16, k: u32) -> sock_filter {
    let (jt, jf) = (0, 0);
    sock_filter { code, jt, jf, k }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;
type Rule = Result<SeccompRule, seccompiler::Error>;

/// Arguments of these calls are C integers: the upper half of the register is noise.
fn compare(argument: u8, how: SeccompCmpOp, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
}

fn is(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Eq, value.cast_unsigned().into())
}

fn not(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Ne, value.cast_unsigned().into())
}

fn masked(argument: u8, mask: libc::c_int, value: libc::c_int) -> Condition {
    let how = SeccompCmpOp::MaskedEq(mask.cast_unsigned().into());
    compare(argument, how, value.cast_unsigned().into())
}

/// All conditions at once.
fn rule(conditions: impl IntoIterator<Item = Condition>) -> Rule {
    let conditions: Result<Vec<_>, _> = conditions.into_iter().collect();
    let conditions = conditions.map_err(seccompiler::Error::Backend)?;
    SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)
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

/// `clone(flags, ...)` and `unshare(flags)`: no new namespace of any kind.
fn namespaces() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    /// The same bit means the exit signal's upper half to `clone`, and is no signal.
    const CLONE_NEWTIME: libc::c_int = 0x80;
    let flags = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        CLONE_NEWTIME,
    ];
    flags
        .iter()
        .map(|flag| rule([masked(0, *flag, *flag)]))
        .collect()
}

/// `personality(persona)`: asking (all ones) and the plain one (0) stay.
fn personality() -> Rule {
    rule([not(0, 0), not(0, -1)])
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
fn limits() -> Rule {
    let new = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
    rule([not(0, 0), new])
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
