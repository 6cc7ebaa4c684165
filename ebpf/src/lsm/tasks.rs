//! `ptrace_access_check`, `task_kill`, `task_alloc`, `bprm_committed_creds`: other processes,
//! and the ways of a process out of its cgroup.

use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::{hook, reason};

use super::kernel::pointer;
use super::place::{held, lives_here, process};
use super::{EPERM, LAUNCHING, PASS, report};

/// Memory, descriptors and environment of a process: ptrace(2), pidfd_getfd(2),
/// process_vm_writev(2), most files of /proc/PID.
#[inline(always)]
pub fn ptrace(ctx: &LsmContext) -> i32 {
    const NOAUDIT: u32 = 4;
    let Some(config) = held() else {
        return PASS;
    };
    if lives_here(config, pointer(ctx, 0)) {
        return PASS;
    }
    if ctx.arg::<u32>(1) & NOAUDIT == 0 {
        report(hook::LSM_PTRACE, reason::OUTSIDE_PROCESS, 0);
    }
    EPERM
}

#[inline(always)]
pub fn kill(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    if lives_here(config, pointer(ctx, 0)) {
        return PASS;
    }
    report(hook::LSM_TASK_KILL, reason::OUTSIDE_PROCESS, 0);
    EPERM
}

/// A child that clone3(2) would put into another cgroup.
#[inline(always)]
pub fn alloc(ctx: &LsmContext) -> i32 {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    if ctx.arg::<u64>(1) & CLONE_INTO_CGROUP == 0 || held().is_none() {
        return PASS;
    }
    report(hook::LSM_TASK_ALLOC, reason::PRIVILEGE, 0);
    EPERM
}

/// From here on a launcher is the agent.
#[inline(always)]
pub fn committed() -> i32 {
    let process = process();
    if LAUNCHING.get_ptr(process).is_some() {
        let _ = LAUNCHING.remove(process);
    }
    PASS
}
