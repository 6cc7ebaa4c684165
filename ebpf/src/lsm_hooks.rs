//! Entry points of the BPF LSM programs; what each does is in `lsm`.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use portcullis_ebpf_common::hook;

use crate::lsm::kernel::pointer;
use crate::lsm::{files, inodes, privileges, sockets, tasks, unix};

#[lsm(hook = "socket_create")]
fn lsm_socket_create(ctx: LsmContext) -> i32 {
    sockets::create(&ctx)
}

#[lsm(hook = "socket_connect")]
fn lsm_socket_connect(ctx: LsmContext) -> i32 {
    sockets::used(&ctx, hook::LSM_SOCKET_CONNECT)
}

#[lsm(hook = "socket_sendmsg")]
fn lsm_socket_sendmsg(ctx: LsmContext) -> i32 {
    sockets::used(&ctx, hook::LSM_SOCKET_SENDMSG)
}

#[lsm(hook = "socket_recvmsg")]
fn lsm_socket_recvmsg(ctx: LsmContext) -> i32 {
    sockets::used(&ctx, hook::LSM_SOCKET_RECVMSG)
}

#[lsm(hook = "socket_listen")]
fn lsm_socket_listen(ctx: LsmContext) -> i32 {
    sockets::used(&ctx, hook::LSM_SOCKET_LISTEN)
}

#[lsm(hook = "unix_stream_connect")]
fn lsm_unix_stream_connect(ctx: LsmContext) -> i32 {
    unix::stream_connect(&ctx)
}

#[lsm(hook = "unix_may_send")]
fn lsm_unix_may_send(ctx: LsmContext) -> i32 {
    unix::may_send(&ctx)
}

#[lsm(hook = "file_open")]
fn lsm_file_open(ctx: LsmContext) -> i32 {
    files::open(&ctx)
}

#[lsm(hook = "file_permission")]
fn lsm_file_permission(ctx: LsmContext) -> i32 {
    files::permission(&ctx)
}

#[lsm(hook = "file_receive")]
fn lsm_file_receive(ctx: LsmContext) -> i32 {
    files::receive(&ctx)
}

#[lsm(hook = "file_ioctl")]
fn lsm_file_ioctl(ctx: LsmContext) -> i32 {
    files::ioctl(&ctx, hook::LSM_FILE_IOCTL)
}

#[lsm(hook = "file_ioctl_compat")]
fn lsm_file_ioctl_compat(ctx: LsmContext) -> i32 {
    files::ioctl(&ctx, hook::LSM_FILE_IOCTL_COMPAT)
}

#[lsm(hook = "mmap_file")]
fn lsm_mmap_file(ctx: LsmContext) -> i32 {
    files::map(&ctx)
}

#[lsm(hook = "file_fcntl")]
fn lsm_file_fcntl(ctx: LsmContext) -> i32 {
    files::fcntl(&ctx)
}

#[lsm(hook = "ptrace_access_check")]
fn lsm_ptrace_access_check(ctx: LsmContext) -> i32 {
    tasks::ptrace(&ctx)
}

#[lsm(hook = "task_kill")]
fn lsm_task_kill(ctx: LsmContext) -> i32 {
    tasks::kill(&ctx)
}

#[lsm(hook = "task_alloc")]
fn lsm_task_alloc(ctx: LsmContext) -> i32 {
    tasks::alloc(&ctx)
}

#[lsm(hook = "bprm_committed_creds")]
fn lsm_bprm_committed_creds(_ctx: LsmContext) -> i32 {
    tasks::committed()
}

#[lsm(hook = "capable")]
fn lsm_capable(ctx: LsmContext) -> i32 {
    privileges::capable(&ctx)
}

#[lsm(hook = "bpf")]
fn lsm_bpf(_ctx: LsmContext) -> i32 {
    privileges::never(hook::LSM_BPF)
}

#[lsm(hook = "sb_mount")]
fn lsm_sb_mount(_ctx: LsmContext) -> i32 {
    privileges::launcher_only(hook::LSM_SB_MOUNT)
}

#[lsm(hook = "move_mount")]
fn lsm_move_mount(_ctx: LsmContext) -> i32 {
    privileges::launcher_only(hook::LSM_MOVE_MOUNT)
}

#[lsm(hook = "userns_create")]
fn lsm_userns_create(_ctx: LsmContext) -> i32 {
    privileges::never(hook::LSM_USERNS_CREATE)
}

#[lsm(hook = "kernel_module_request")]
fn lsm_kernel_module_request(_ctx: LsmContext) -> i32 {
    privileges::never(hook::LSM_MODULE_REQUEST)
}

#[lsm(hook = "inode_create")]
fn lsm_inode_create(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_CREATE)
}

#[lsm(hook = "inode_link")]
fn lsm_inode_link(ctx: LsmContext) -> i32 {
    inodes::link(&ctx)
}

#[lsm(hook = "inode_unlink")]
fn lsm_inode_unlink(ctx: LsmContext) -> i32 {
    inodes::remove(pointer(&ctx, 1), hook::LSM_INODE_UNLINK)
}

#[lsm(hook = "inode_symlink")]
fn lsm_inode_symlink(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_SYMLINK)
}

#[lsm(hook = "inode_mkdir")]
fn lsm_inode_mkdir(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_MKDIR)
}

#[lsm(hook = "inode_rmdir")]
fn lsm_inode_rmdir(ctx: LsmContext) -> i32 {
    inodes::remove(pointer(&ctx, 1), hook::LSM_INODE_RMDIR)
}

#[lsm(hook = "inode_mknod")]
fn lsm_inode_mknod(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_MKNOD)
}

#[lsm(hook = "inode_rename")]
fn lsm_inode_rename(ctx: LsmContext) -> i32 {
    inodes::rename(&ctx)
}

#[lsm(hook = "inode_setattr")]
fn lsm_inode_setattr(ctx: LsmContext) -> i32 {
    inodes::set_attributes(&ctx)
}

#[lsm(hook = "inode_setxattr")]
fn lsm_inode_setxattr(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_SETXATTR)
}

#[lsm(hook = "inode_removexattr")]
fn lsm_inode_removexattr(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_REMOVEXATTR)
}

#[lsm(hook = "inode_set_acl")]
fn lsm_inode_set_acl(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_SET_ACL)
}

#[lsm(hook = "inode_remove_acl")]
fn lsm_inode_remove_acl(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 1), hook::LSM_INODE_REMOVE_ACL)
}

#[lsm(hook = "inode_file_setattr")]
fn lsm_inode_file_setattr(ctx: LsmContext) -> i32 {
    inodes::change(pointer(&ctx, 0), hook::LSM_INODE_FILE_SETATTR)
}
