//! `capable`, `bpf`, `sb_mount`, `move_mount`, `userns_create`, `kernel_module_request`:
//! what root, or a namespace that makes one root, could do to the gate.

use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::lsm::may_use;
use portcullis_ebpf_common::reason;

use super::place::{held, is_launching};
use super::{EPERM, PASS, report};
use portcullis_ebpf_common::hook;

/// Asked only when the process has the capability: capability(7) comes before this.
#[inline(always)]
pub fn capable(ctx: &LsmContext) -> i32 {
    /// Of the options: the kernel asks without meaning to do anything.
    const NOAUDIT: u32 = 2;
    const DAC_READ_SEARCH: u32 = 2;
    let capability = ctx.arg::<i32>(2) as u32;
    if may_use(capability) || held().is_none() || is_launching() {
        return PASS;
    }
    // The kernel asks for this one first at every look-up, and is content with another.
    if ctx.arg::<u32>(3) & NOAUDIT == 0 && capability != DAC_READ_SEARCH {
        report(hook::LSM_CAPABLE, reason::CAPABILITY, capability);
    }
    EPERM
}

/// What no agent does.
#[inline(always)]
pub fn never(hook: u32) -> i32 {
    if held().is_none() {
        return PASS;
    }
    report(hook, reason::PRIVILEGE, 0);
    EPERM
}

/// What only a launcher does.
#[inline(always)]
pub fn launcher_only(hook: u32) -> i32 {
    if held().is_none() || is_launching() {
        return PASS;
    }
    report(hook, reason::PRIVILEGE, 0);
    EPERM
}
