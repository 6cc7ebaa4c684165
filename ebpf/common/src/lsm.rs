//! What the BPF LSM programs and the daemon share.
//!
//! The programs read the kernel's own structures. Where a field lies differs from kernel
//! to kernel; the daemon reads it from the kernel's BTF and hands it over here.

/// The one entry of the map `LSM_CONFIG`; its key is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LsmConfig {
    /// Cgroup id of the enforced parent; 0 until the daemon has written the entry.
    pub enforced: u64,
    /// Its level in the tree; the root has 0.
    pub level: u32,
    /// Which argument of `inode_setattr` is the file; before Linux 6.9 it is the first.
    pub setattr_dentry: u32,
    /// Where the fields lie.
    pub offsets: Offsets,
    /// Zero.
    pub pad: u32,
}

/// Byte offsets in structures of the running kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`.
    pub css_set_cgroup: u32,
    /// `cgroup.level`.
    pub cgroup_level: u32,
    /// `cgroup.ancestors`.
    pub cgroup_ancestors: u32,
    /// `cgroup.kn`.
    pub cgroup_node: u32,
    /// `kernfs_node.id`.
    pub node_id: u32,
    /// `socket.sk`.
    pub socket_sock: u32,
    /// `sock.sk_cgrp_data.cgroup`.
    pub sock_cgroup: u32,
    /// `sock.__sk_common.skc_family`.
    pub sock_family: u32,
    /// `unix_sock.addr`.
    pub unix_address: u32,
    /// `unix_address.len`.
    pub address_length: u32,
    /// `unix_address.name`.
    pub address_name: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.f_mode`.
    pub file_mode: u32,
    /// `file.private_data`.
    pub file_private: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_rdev`.
    pub inode_device: u32,
    /// `inode.i_sb`.
    pub inode_super: u32,
    /// `super_block.s_magic`.
    pub super_magic: u32,
    /// `proc_inode.vfs_inode`.
    pub proc_inode: u32,
    /// `proc_inode.pid`.
    pub proc_pid: u32,
    /// `file.f_path.dentry`.
    pub file_dentry: u32,
    /// `dentry.d_parent`.
    pub dentry_parent: u32,
    /// `dentry.d_inode`.
    pub dentry_inode: u32,
    /// `dentry.d_sb`.
    pub dentry_super: u32,
    /// `inode.i_ino`.
    pub inode_number: u32,
    /// `super_block.s_dev`.
    pub super_device: u32,
}

/// Key of a file or directory that is the gate's or the daemon's own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HiddenKey {
    /// Inode number.
    pub inode: u64,
    /// Device of its file system as the kernel has it: major number above 20 bits of minor.
    pub device: u32,
    /// Zero.
    pub pad: u32,
}

/// Bits of what no process of a session may do with a file of the map `HIDDEN`.
pub mod hidden {
    /// Open it for reading, or what is below it.
    pub const READ: u32 = 1;
    /// Change it, or what is below it.
    pub const WRITE: u32 = 2;
    /// Take its name away or give that to another file. What is below it is not meant.
    pub const NAME: u32 = 4;
    /// A note of the daemon's, which the programs do not ask for: it has looked at what is
    /// below after it was hidden, and it has been hidden ever since.
    pub const SETTLED: u32 = 8;
}

/// How many directories up from a file one of [`hidden`] is looked for. What lies deeper is
/// refused to a session: it could be hidden.
pub const DEEPEST_FILE: u32 = 64;

/// What a process that was just given a session may still do until it executes a command:
/// of the map `LAUNCHING`, whose key is its process id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// When it ends, in nanoseconds since boot.
    pub until: u64,
    /// The cgroup of its session. It has nothing of this in any other, nor has whoever gets
    /// its number there.
    pub session: u64,
    /// 0 for a launcher, which comes from outside of every session. Else the cgroup of the
    /// session that it comes from, whose sockets it may still read: the daemon's answer
    /// comes by one.
    pub outer: u64,
}

/// How long a process that has just been given a session may still do what a launcher
/// does before it becomes the agent's command, in nanoseconds.
pub const LAUNCH_NANOSECONDS: u64 = 30_000_000_000;

/// Capabilities (bits by number, capability(7)) that a process of a session can use where
/// it has them. None of them makes a packet, a device, a mount, a program in the kernel or
/// a way into another process. What is not here is refused, root or not.
pub const CAPABILITIES: u64 = bits(&[
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL, of its own session's processes
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    14, // IPC_LOCK
    23, // SYS_NICE
    28, // LEASE
    29, // AUDIT_WRITE
]);

const fn bits(numbers: &[u32]) -> u64 {
    let mut all = 0;
    let mut at = 0;
    while at < numbers.len() {
        all |= 1 << numbers[at];
        at += 1;
    }
    all
}

/// May a process of a session use this capability?
#[inline(always)]
pub const fn may_use(capability: u32) -> bool {
    capability < 64 && CAPABILITIES >> capability & 1 == 1
}

/// May a process of a session make this socket? The inet ones are left to the cgroup
/// programs for what they do; here are all families, of which those see only two.
#[inline(always)]
pub const fn may_create_any(family: u32, kind: u32, protocol: u32) -> bool {
    const AF_NETLINK: u32 = 16;
    const NETLINK_ROUTE: u32 = 0;
    if family == crate::AF_UNIX {
        return true;
    }
    if family == AF_NETLINK {
        return protocol == NETLINK_ROUTE;
    }
    // Here the protocol is as asked for; 0 is the family's own for the type.
    let tcp = kind == crate::SOCK_STREAM && (protocol == 0 || protocol == crate::IPPROTO_TCP);
    let udp = kind == crate::SOCK_DGRAM && (protocol == 0 || protocol == crate::IPPROTO_UDP);
    (family == crate::AF_INET || family == crate::AF_INET6) && (tcp || udp)
}

/// May a process of a session open this character device? The harmless ones of memory(4),
/// and terminals; every other one is a door of the kernel.
#[inline(always)]
pub const fn may_open_device(major: u32, minor: u32) -> bool {
    // null, zero, full, random, urandom.
    let is_memory = major == 1 && matches!(minor, 3 | 5 | 7 | 8 | 9);
    // tty (the process's own), ptmx.
    let is_terminal = major == 5 && matches!(minor, 0 | 2);
    // The slaves of pseudo-terminals.
    is_memory || is_terminal || (major >= 136 && major <= 143)
}

/// Is a file of this file system one of the kernel's controls? (linux/magic.h; procfs,
/// which has both kinds, is not here.)
#[inline(always)]
pub const fn is_control(magic: u64) -> bool {
    matches!(
        magic,
        0x6367_7270 // cgroup2
            | 0x0027_e0eb // cgroup
            | 0x6265_6572 // sysfs
            | 0x6462_6720 // debugfs
            | 0x7472_6163 // tracefs
            | 0x7363_6673 // securityfs
            | 0xcafe_4a11 // bpf
            | 0x6265_6570 // configfs
            | 0xde5e_81e4 // efivarfs
            | 0x4249_4e4d // binfmt_misc
    )
}

/// Magic number of procfs.
pub const PROC_MAGIC: u64 = 0x9fa0;

const _: () = {
    assert!(size_of::<Offsets>() == 27 * 4);
    assert!(size_of::<LsmConfig>() == 128);
    assert!(size_of::<HiddenKey>() == 16);
    assert!(size_of::<Launch>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_of_the_network_or_the_kernel_is_left() {
        // DAC_READ_SEARCH, NET_ADMIN, NET_RAW, SYS_MODULE, SYS_RAWIO, SYS_PTRACE,
        // SYS_ADMIN, MKNOD, PERFMON, BPF, CHECKPOINT_RESTORE, and one of the future.
        for capability in [2, 12, 13, 16, 17, 19, 21, 27, 38, 39, 40, 64] {
            assert!(!may_use(capability), "{capability}");
        }
        assert!(may_use(7) && may_use(10));
    }

    #[test]
    fn families_and_kinds() {
        assert!(may_create_any(1, 5, 0) && may_create_any(16, 3, 0));
        assert!(may_create_any(2, 1, 0) && may_create_any(10, 2, 17));
        let (raw, sctp, mptcp, udplite, audit) = (3, 132, 262, 136, 9);
        assert!(!may_create_any(2, raw, 0) && !may_create_any(2, 1, sctp));
        assert!(!may_create_any(2, 1, mptcp) && !may_create_any(10, 2, udplite));
        assert!(!may_create_any(16, raw, audit));
        for family in [17, 30, 38, 40, 44] {
            assert!(!may_create_any(family, 1, 0), "{family}");
        }
    }

    #[test]
    fn doors_of_the_kernel() {
        assert!(may_open_device(1, 3) && may_open_device(136, 7));
        // mem, kmsg, console, tun, sda.
        for (major, minor) in [(1, 1), (1, 11), (5, 1), (10, 200), (8, 0)] {
            assert!(!may_open_device(major, minor), "{major}:{minor}");
        }
        assert!(is_control(0x6367_7270) && !is_control(0xef53) && !is_control(PROC_MAGIC));
    }
}
