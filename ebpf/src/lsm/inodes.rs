//! `inode_create`, `inode_link`, `inode_unlink`, `inode_rename`, `inode_setattr`, ...: names
//! and attributes of the gate's own files, and of those that control the kernel (pins,
//! cgroups). What is in a file is for `files`.

use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::lsm::{LsmConfig, hidden, is_control};
use portcullis_ebpf_common::{hook, reason};

use super::kernel::{pointer, read64};
use super::place::{held, is_launching};
use super::{EACCES, PASS, hidden as own, report};

/// What changes a file or makes one.
#[inline(always)]
pub fn change(dentry: u64, hook: u32) -> i32 {
    judge(dentry, hidden::WRITE, hook)
}

/// What takes a name away.
#[inline(always)]
pub fn remove(dentry: u64, hook: u32) -> i32 {
    judge(dentry, hidden::WRITE | hidden::NAME, hook)
}

/// Another name would lead round the directory that hides the file.
#[inline(always)]
pub fn link(ctx: &LsmContext) -> i32 {
    if change(pointer(ctx, 0), hook::LSM_INODE_LINK) != PASS {
        return EACCES;
    }
    if change(pointer(ctx, 2), hook::LSM_INODE_LINK) != PASS {
        return EACCES;
    }
    PASS
}

/// The file that is moved, and the one that it replaces.
#[inline(always)]
pub fn rename(ctx: &LsmContext) -> i32 {
    if remove(pointer(ctx, 1), hook::LSM_INODE_RENAME) != PASS {
        return EACCES;
    }
    if remove(pointer(ctx, 3), hook::LSM_INODE_RENAME) != PASS {
        return EACCES;
    }
    PASS
}

/// chmod, chown, truncate, utimes.
#[inline(always)]
pub fn set_attributes(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let (first, second) = (pointer(ctx, 0), pointer(ctx, 1));
    if config.setattr_dentry == 0 {
        return change(first, hook::LSM_INODE_SETATTR);
    }
    change(second, hook::LSM_INODE_SETATTR)
}

#[inline(always)]
fn judge(dentry: u64, bits: u32, hook: u32) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let reason = if own::of(config, dentry) & bits != 0 {
        reason::HIDDEN_FILE
    } else if is_kernels(config, dentry) {
        reason::KERNEL_FILE
    } else {
        return PASS;
    };
    if is_launching() {
        return PASS;
    }
    report(hook, reason, 0);
    EACCES
}

/// On a file system of controls; in procfs nothing has a name that could be changed.
#[inline(always)]
fn is_kernels(config: &LsmConfig, dentry: u64) -> bool {
    let super_block = read64(dentry + u64::from(config.offsets.dentry_super));
    is_control(read64(super_block + u64::from(config.offsets.super_magic)))
}
