//! `file_open`, `file_permission`, `mmap_file`, `file_receive`, `file_ioctl` and its twin for
//! 32-bit callers, `file_fcntl`: the gate's own files, the kernel's controls and devices,
//! sockets that came in as descriptors, and signals by descriptor.
//!
//! `file_permission` is asked at every read and write, `mmap_file` for the rest, so they
//! also hold descriptors that were open before the session was. Absent: other files, which
//! are for file permissions.

use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::lsm::{LsmConfig, PROC_MAGIC, hidden, is_control, may_open_device};
use portcullis_ebpf_common::{hook, reason};

use super::kernel::{pointer, read16, read32, read64};
use super::place::{held, is_launching, made_here, process};
use super::{EACCES, EPERM, PASS, hidden as own, report};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFCHR: u16 = 0o020_000;
/// Of `file.f_mode`.
const FMODE_WRITE: u32 = 2;
/// Of the mask of `file_permission`.
const MAY_WRITE: i32 = 2;

#[inline(always)]
pub fn open(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let file = pointer(ctx, 0);
    let inode = read64(file + u64::from(config.offsets.file_inode));
    let kind = read16(inode + u64::from(config.offsets.inode_mode)) & S_IFMT;
    if kind == S_IFBLK || kind == S_IFCHR {
        return device(config, inode, kind);
    }
    let mode = read32(file + u64::from(config.offsets.file_mode));
    let dentry = read64(file + u64::from(config.offsets.file_dentry));
    if own::of(config, dentry) & wanted(mode & FMODE_WRITE != 0) != 0 {
        if is_launching() {
            return PASS;
        }
        report(hook::LSM_FILE_OPEN, reason::HIDDEN_FILE, 0);
        return EACCES;
    }
    if mode & FMODE_WRITE == 0 || !controls_the_kernel(config, inode) || is_launching() {
        return PASS;
    }
    report(hook::LSM_FILE_OPEN, reason::KERNEL_FILE, 0);
    EACCES
}

#[inline(always)]
fn device(config: &LsmConfig, inode: u64, kind: u16) -> i32 {
    // `dev_t` of the kernel: 12 bits of major number above 20 of minor.
    let number = read32(inode + u64::from(config.offsets.inode_device));
    if (kind == S_IFCHR && may_open_device(number >> 20, number & 0xf_ffff)) || is_launching() {
        return PASS;
    }
    report(hook::LSM_FILE_OPEN, reason::DEVICE_FILE, number);
    EACCES
}

#[inline(always)]
pub fn permission(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let writes = ctx.arg::<i32>(1) & MAY_WRITE != 0;
    let file = pointer(ctx, 0);
    let inode = read64(file + u64::from(config.offsets.file_inode));
    let is_own = own::of_inode(config, inode) & wanted(writes) != 0;
    if (!writes && !is_own) || is_launching() {
        return PASS;
    }
    if is_own {
        report(hook::LSM_FILE_PERMISSION, reason::HIDDEN_FILE, 0);
        return EACCES;
    }
    if is_foreign_socket(config, file, inode) {
        report(hook::LSM_FILE_PERMISSION, reason::OUTSIDE_SOCKET, 0);
        return EACCES;
    }
    if controls_the_kernel(config, inode) {
        report(hook::LSM_FILE_PERMISSION, reason::KERNEL_FILE, 0);
        return EACCES;
    }
    PASS
}

/// Reading without a read: nobody maps a hidden file, which it could not open either.
#[inline(always)]
pub fn map(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let file = pointer(ctx, 0);
    if file == 0 {
        return PASS;
    }
    let inode = read64(file + u64::from(config.offsets.file_inode));
    if own::of_inode(config, inode) & hidden::READ == 0 || is_launching() {
        return PASS;
    }
    report(hook::LSM_MMAP_FILE, reason::HIDDEN_FILE, 0);
    EACCES
}

#[inline(always)]
pub fn receive(ctx: &LsmContext) -> i32 {
    let Some(config) = held() else {
        return PASS;
    };
    let file = pointer(ctx, 0);
    let inode = read64(file + u64::from(config.offsets.file_inode));
    if is_foreign_socket(config, file, inode) {
        report(hook::LSM_FILE_RECEIVE, reason::OUTSIDE_SOCKET, 0);
        return EACCES;
    }
    PASS
}

#[inline(always)]
pub fn ioctl(ctx: &LsmContext, hook: u32) -> i32 {
    // Both type into a terminal that a shell outside may read.
    const TIOCSTI: u32 = 0x5412;
    const TIOCLINUX: u32 = 0x541c;
    // Both are F_SETOWN for sockets.
    const FIOSETOWN: u32 = 0x8901;
    const SIOCSPGRP: u32 = 0x8902;
    let request = ctx.arg::<u32>(1);
    let is_refused = matches!(request, TIOCSTI | TIOCLINUX | FIOSETOWN | SIOCSPGRP);
    if !is_refused || held().is_none() {
        return PASS;
    }
    report(hook, reason::PRIVILEGE, request);
    EPERM
}

/// The bit of `lsm::hidden` that forbids it.
#[inline(always)]
fn wanted(writes: bool) -> u32 {
    if writes { hidden::WRITE } else { hidden::READ }
}

/// The owner of a descriptor, whom the kernel signals when there is input. `task_kill` is
/// not asked for these signals. A process may name itself.
#[inline(always)]
pub fn fcntl(ctx: &LsmContext) -> i32 {
    const F_SETOWN: u32 = 8;
    const F_SETOWN_EX: u32 = 15;
    let command = ctx.arg::<u32>(1);
    if (command != F_SETOWN && command != F_SETOWN_EX) || held().is_none() {
        return PASS;
    }
    if command == F_SETOWN && ctx.arg::<u64>(2) == u64::from(process()) {
        return PASS;
    }
    report(hook::LSM_FILE_FCNTL, reason::OUTSIDE_PROCESS, command);
    EPERM
}

/// A socket that was made elsewhere. A descriptor that only names a socket's path
/// (`O_PATH`) has no socket behind it.
#[inline(always)]
fn is_foreign_socket(config: &LsmConfig, file: u64, inode: u64) -> bool {
    let kind = read16(inode + u64::from(config.offsets.inode_mode)) & S_IFMT;
    if kind != S_IFSOCK {
        return false;
    }
    let socket = read64(file + u64::from(config.offsets.file_private));
    if socket == 0 {
        return false;
    }
    let sock = read64(socket + u64::from(config.offsets.socket_sock));
    !made_here(config, sock)
}

/// Would a write to this file change the kernel's state? In procfs only the files of
/// processes would not; those are held by `ptrace_access_check`.
#[inline(always)]
fn controls_the_kernel(config: &LsmConfig, inode: u64) -> bool {
    let offsets = &config.offsets;
    let super_block = read64(inode + u64::from(offsets.inode_super));
    let magic = read64(super_block + u64::from(offsets.super_magic));
    if magic != PROC_MAGIC {
        return is_control(magic);
    }
    let proc_inode = inode - u64::from(offsets.proc_inode);
    read64(proc_inode + u64::from(offsets.proc_pid)) == 0
}
