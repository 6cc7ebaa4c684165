//! System calls that an agent's filter refuses whatever their arguments are.
//!
//! Each either reaches round the gate, or reaches a process or a part of the kernel that
//! is not the agent's. Numbers newer than the libc crate's are from Linux's tables; from
//! 424 on they are the same on every architecture.

const OPEN_TREE_ATTR: i64 = 467;

/// On every architecture.
pub(crate) const REFUSED: &[i64] = &[
    // Does socket calls in the kernel, out of this filter's sight.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Takes the gate's programs off, or puts others beside them.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    // A mount shows what the agent's view hides: cgroup.procs, bpffs.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    // Opens a file past the mounts that hide it.
    libc::SYS_open_by_handle_at,
    // Another process's memory and descriptors, and what they hold: connected sockets.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_userfaultfd,
    // request_key(2) starts a helper as root, outside.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The kernel's own state.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
];

/// On this one only.
#[cfg(target_arch = "x86_64")]
pub(crate) const REFUSED_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS__sysctl,
];
/// On this one only.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const REFUSED_HERE: &[i64] = &[294]; // kexec_file_load

/// Calls with a mode, and which argument it is.
#[cfg(target_arch = "x86_64")]
pub(super) const MODES_HERE: &[(i64, u8)] = &[
    (libc::SYS_chmod, 1),
    (libc::SYS_creat, 1),
    (libc::SYS_mknod, 1),
];
/// Calls with a mode, and which argument it is.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const MODES_HERE: &[(i64, u8)] = &[];

/// Calls with flags and then a mode, and which argument the flags are.
#[cfg(target_arch = "x86_64")]
pub(super) const OPENS_HERE: &[(i64, u8)] = &[(libc::SYS_open, 1)];
/// Calls with flags and then a mode, and which argument the flags are.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OPENS_HERE: &[(i64, u8)] = &[];
