//! Parts of seccomp filters: conditions, and rules that the agent's filter and the daemon's
//! own have in common.

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
pub(super) const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO

/// The rules of a filter: what each call is refused for, everything if there is nothing.
pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What every filter here refuses.
pub(crate) fn refused() -> Rules {
    let calls = calls::REFUSED.iter().chain(calls::REFUSED_HERE);
    calls.map(|call| (*call, Vec::new())).collect()
}

/// The filter that answers EPERM to what the rules say, and ENOSYS to the calls whose
/// arguments it can't read.
///
/// # Errors
/// This machine's architecture has no filter, or a rule is malformed (a bug).
pub(crate) fn compile(rules: Rules, unreadable: &[i64]) -> Result<BpfProgram, seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?;
    let mut program = prefix(unreadable);
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// What one list with one answer can't say: calls of another ABI, calls that are newer
/// than this, and those whose arguments a filter can't read (as an older kernel would
/// answer them).
fn prefix(unreadable: &[i64]) -> BpfProgram {
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
    for call in unreadable {
        answer(JUMP_EQUAL, number(*call), libc::ENOSYS);
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

pub(crate) type Condition = Result<SeccompCondition, seccompiler::BackendError>;
pub(crate) type Rule = Result<SeccompRule, seccompiler::Error>;

/// Arguments of these calls are C integers: the upper half of the register is noise.
pub(crate) fn compare(argument: u8, how: SeccompCmpOp, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
}

pub(crate) fn is(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Eq, value.cast_unsigned().into())
}

pub(crate) fn not(argument: u8, value: libc::c_int) -> Condition {
    compare(argument, SeccompCmpOp::Ne, value.cast_unsigned().into())
}

pub(crate) fn masked(argument: u8, mask: libc::c_int, value: libc::c_int) -> Condition {
    let how = SeccompCmpOp::MaskedEq(mask.cast_unsigned().into());
    compare(argument, how, value.cast_unsigned().into())
}

/// A pointer that points somewhere.
pub(crate) fn pointer(argument: u8) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)
}

/// All conditions at once.
pub(crate) fn rule(conditions: impl IntoIterator<Item = Condition>) -> Rule {
    let conditions: Result<Vec<_>, _> = conditions.into_iter().collect();
    let conditions = conditions.map_err(seccompiler::Error::Backend)?;
    SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)
}

/// `clone(flags, ...)` and `unshare(flags)`: no new namespace of any kind.
pub(crate) fn namespaces() -> Result<Vec<SeccompRule>, seccompiler::Error> {
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
pub(crate) fn personality() -> Rule {
    rule([not(0, 0), not(0, -1)])
}
