//! Types and constants that the kernel programs and the daemon share.
//!
//! Everything here crosses the boundary as bytes of a BPF map: fixed-width integers,
//! padding written out, sizes asserted. Addresses are four words that lie in memory in
//! network order, IPv4 as IPv4-mapped IPv6; ports are in host byte order. Feature `user` adds `aya::Pod`.
//! A change to any layout here, or to what a map holds, raises [`ABI`].
#![no_std]

pub mod dns;
pub mod lsm;
pub mod options;
pub mod packet;

/// Version of the map layouts. Pins of another version are refused, never read.
pub const ABI: u32 = 5;

/// Deepest cgroup level (the root is level 0) at which a session is looked for. A process
/// that sits deeper is refused: a narrower session could hide there.
pub const MAX_CGROUP_LEVEL: i32 = 15;

/// `AF_UNIX`.
pub const AF_UNIX: u32 = 1;
/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
pub const AF_INET6: u32 = 10;
/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;

/// Bit of [`Listener::flags`]: there is an IPv6 listener.
pub const LISTENER_V6: u32 = 1;

/// What the pinned maps were made by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// [`ABI`] of the maps; 0 until the first start has finished.
    pub abi: u32,
    /// Zero.
    pub pad: u32,
    /// Hash of the object whose programs are attached.
    pub object: u64,
}

/// The gate's listener in one network namespace; its key is the namespace's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IPv4 address, network order.
    pub v4: u32,
    /// Port of the IPv4 listener.
    pub port4: u16,
    /// Port of the IPv6 listener.
    pub port6: u16,
    /// IPv6 address, network order.
    pub v6: Addr,
    /// [`LISTENER_V6`].
    pub flags: u32,
    /// UDP port of the resolver at the IPv4 address; 0 where there is none.
    pub dns4: u16,
    /// The same at the IPv6 address.
    pub dns6: u16,
}

/// An agent session; its key is the id of its cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// [`SESSION_ENDED`].
    pub flags: u64,
}

/// The session has ended: nothing passes from it. Its entry stays, so that a narrower
/// session never falls back to the wider one around it.
pub const SESSION_ENDED: u64 = 1;

/// Key of a destination that the policy knows as a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestKey {
    /// Address.
    pub addr: Addr,
    /// Port.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// What a socket asked for before it was turned to the gate; its key is the socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Destination address.
    pub dst: Addr,
    /// Cgroup id of the process that connected (the leaf).
    pub cgroup: u64,
    /// Cgroup id of its session.
    pub session: u64,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// Process (thread group) id in the first pid namespace.
    pub pid: u32,
    /// User id in the first user namespace.
    pub uid: u32,
    /// Destination port.
    pub port: u16,
    /// Address family of the socket.
    pub family: u16,
    /// 1 once a [`TupleKey`] leads here: from then on the end of the TCP connection
    /// removes the entry, before that the closing of the socket.
    pub tied: u32,
    /// Name of the process.
    pub comm: [u8; 16],
}

/// The agent's end of a connection to the gate, as `accept(2)` reports it; leads to the
/// socket cookie. The other end is always the gate's listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleKey {
    /// Source address.
    pub addr: Addr,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Source port.
    pub port: u16,
    /// Zero.
    pub pad: [u16; 3],
}

/// Where a socket was turned; kept by the kernel with the socket, for as long as it lives.
/// The one place that says what a socket's packets may look like: whoever turns another
/// kind of socket to the gate writes one of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// The address that the process asked for: what `getpeername(2)` tells it.
    pub asked: Addr,
    /// The gate's address.
    pub gate: Addr,
    /// The port that the process asked for.
    pub asked_port: u16,
    /// The gate's port.
    pub gate_port: u16,
    /// [`IPPROTO_TCP`].
    pub protocol: u32,
}

/// Room for a unix address: 108 bytes, the zero byte that ends the longest path, padding.
pub const UNIX_PATH: usize = 112;

/// A unix address that a session may use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnixKey {
    /// Cgroup id of the session.
    pub session: u64,
    /// Bytes of an abstract name with its leading zero; 0 for a path. Two abstract names
    /// may differ in nothing but zeros at their ends.
    pub abstract_len: u32,
    /// Zero.
    pub pad: u32,
    /// The path, or the abstract name; zeros behind it.
    pub path: [u8; UNIX_PATH],
}

/// Something that a program refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateEvent {
    /// Destination address; zero where there is none.
    pub dst: Addr,
    /// Cgroup id of the process (the leaf).
    pub cgroup: u64,
    /// Cgroup id of its session; 0 when it has none.
    pub session: u64,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// Process (thread group) id in the first pid namespace.
    pub pid: u32,
    /// User id in the first user namespace.
    pub uid: u32,
    /// Why: one of [`reason`].
    pub reason: u32,
    /// Which program: one of [`hook`].
    pub hook: u32,
    /// Address family of the socket.
    pub family: u32,
    /// Type of the socket (`SOCK_STREAM`, ...).
    pub kind: u32,
    /// Protocol of the socket (`IPPROTO_TCP`, ...).
    pub protocol: u32,
    /// Destination port; 0 where there is none.
    pub port: u32,
    /// Level of the socket option, where it is one that was refused.
    pub level: u32,
    /// Its name.
    pub option: u32,
    /// Name of the process.
    pub comm: [u8; 16],
    /// Unix address, where it is one that was refused: as in [`UnixKey::path`].
    pub path: [u8; UNIX_PATH],
}

/// Values of [`GateEvent::reason`].
pub mod reason {
    /// The process is under the enforced cgroup but in no session.
    pub const NO_SESSION: u32 = 1;
    /// The process sits deeper than [`crate::MAX_CGROUP_LEVEL`].
    pub const TOO_DEEP: u32 = 2;
    /// Neither TCP nor anything else that the gate understands.
    pub const NOT_TCP: u32 = 3;
    /// No service of the policy is at this address and port.
    pub const UNKNOWN_DESTINATION: u32 = 4;
    /// The gate has no listener in the socket's network namespace.
    pub const NO_LISTENER: u32 = 5;
    /// The gate has no IPv6 listener there.
    pub const NO_LISTENER_V6: u32 = 6;
    /// The map of waiting connections is full.
    pub const MAP_FULL: u32 = 7;
    /// A datagram.
    pub const DATAGRAM: u32 = 8;
    /// A kind of socket that the gate does not understand.
    pub const SOCKET_KIND: u32 = 9;
    /// A packet that is not for the gate.
    pub const PACKET: u32 = 10;
    /// The gate's own port.
    pub const GATE_PORT: u32 = 11;
    /// A socket option that is not on the list.
    pub const OPTION: u32 = 12;
    /// A unix address that is not on the session's list.
    pub const UNIX_ADDRESS: u32 = 13;
    /// The socket is bound to a device other than the loopback.
    pub const DEVICE: u32 = 14;
    /// The process's session has ended.
    pub const SESSION_ENDED: u32 = 15;
    /// The socket was made outside the session.
    pub const OUTSIDE_SOCKET: u32 = 32;
    /// A process outside the session.
    pub const OUTSIDE_PROCESS: u32 = 33;
    /// A capability that no session has; its number is in [`crate::GateEvent::option`].
    pub const CAPABILITY: u32 = 34;
    /// Something that no session may do whatever its capabilities.
    pub const PRIVILEGE: u32 = 35;
    /// Writing to a file that controls the kernel.
    pub const KERNEL_FILE: u32 = 36;
    /// A device; its number is in [`crate::GateEvent::option`].
    pub const DEVICE_FILE: u32 = 37;
    /// A file or directory of the gate or its daemon.
    pub const HIDDEN_FILE: u32 = 38;
}

/// Values of [`GateEvent::hook`].
pub mod hook {
    /// `cgroup/connect4`.
    pub const CONNECT4: u32 = 1;
    /// `cgroup/connect6`.
    pub const CONNECT6: u32 = 2;
    /// `cgroup/sendmsg4`.
    pub const SENDMSG4: u32 = 3;
    /// `cgroup/sendmsg6`.
    pub const SENDMSG6: u32 = 4;
    /// `cgroup/sock_create`.
    pub const SOCK_CREATE: u32 = 5;
    /// `sockops`.
    pub const SOCK_OPS: u32 = 6;
    /// `cgroup_skb/egress`.
    pub const EGRESS: u32 = 7;
    /// `cgroup/post_bind4`.
    pub const POST_BIND4: u32 = 8;
    /// `cgroup/post_bind6`.
    pub const POST_BIND6: u32 = 9;
    /// `cgroup/setsockopt`.
    pub const SETSOCKOPT: u32 = 10;
    /// `cgroup/connect_unix`.
    pub const UNIX_CONNECT: u32 = 11;
    /// `cgroup/sendmsg_unix`.
    pub const UNIX_SENDMSG: u32 = 12;
    /// The first one of BPF LSM; those before are of the cgroup.
    pub const LSM: u32 = 32;
    /// `lsm/socket_create`.
    pub const LSM_SOCKET_CREATE: u32 = 32;
    /// `lsm/socket_connect`.
    pub const LSM_SOCKET_CONNECT: u32 = 33;
    /// `lsm/socket_sendmsg`.
    pub const LSM_SOCKET_SENDMSG: u32 = 34;
    /// `lsm/socket_recvmsg`.
    pub const LSM_SOCKET_RECVMSG: u32 = 35;
    /// `lsm/socket_listen`.
    pub const LSM_SOCKET_LISTEN: u32 = 36;
    /// `lsm/unix_stream_connect`.
    pub const LSM_UNIX_STREAM_CONNECT: u32 = 37;
    /// `lsm/unix_may_send`.
    pub const LSM_UNIX_MAY_SEND: u32 = 38;
    /// `lsm/file_open`.
    pub const LSM_FILE_OPEN: u32 = 39;
    /// `lsm/file_permission`.
    pub const LSM_FILE_PERMISSION: u32 = 40;
    /// `lsm/file_receive`.
    pub const LSM_FILE_RECEIVE: u32 = 41;
    /// `lsm/file_ioctl`.
    pub const LSM_FILE_IOCTL: u32 = 42;
    /// `lsm/ptrace_access_check`.
    pub const LSM_PTRACE: u32 = 43;
    /// `lsm/task_kill`.
    pub const LSM_TASK_KILL: u32 = 44;
    /// `lsm/task_alloc`.
    pub const LSM_TASK_ALLOC: u32 = 45;
    /// `lsm/capable`.
    pub const LSM_CAPABLE: u32 = 46;
    /// `lsm/bpf`.
    pub const LSM_BPF: u32 = 47;
    /// `lsm/sb_mount`.
    pub const LSM_SB_MOUNT: u32 = 48;
    /// `lsm/move_mount`.
    pub const LSM_MOVE_MOUNT: u32 = 49;
    /// `lsm/userns_create`.
    pub const LSM_USERNS_CREATE: u32 = 50;
    /// `lsm/kernel_module_request`.
    pub const LSM_MODULE_REQUEST: u32 = 51;
    /// `lsm/inode_create`.
    pub const LSM_INODE_CREATE: u32 = 52;
    /// `lsm/inode_link`.
    pub const LSM_INODE_LINK: u32 = 53;
    /// `lsm/inode_unlink`.
    pub const LSM_INODE_UNLINK: u32 = 54;
    /// `lsm/inode_symlink`.
    pub const LSM_INODE_SYMLINK: u32 = 55;
    /// `lsm/inode_mkdir`.
    pub const LSM_INODE_MKDIR: u32 = 56;
    /// `lsm/inode_rmdir`.
    pub const LSM_INODE_RMDIR: u32 = 57;
    /// `lsm/inode_mknod`.
    pub const LSM_INODE_MKNOD: u32 = 58;
    /// `lsm/inode_rename`.
    pub const LSM_INODE_RENAME: u32 = 59;
    /// `lsm/inode_setattr`.
    pub const LSM_INODE_SETATTR: u32 = 60;
    /// `lsm/inode_setxattr`.
    pub const LSM_INODE_SETXATTR: u32 = 61;
    /// `lsm/inode_removexattr`.
    pub const LSM_INODE_REMOVEXATTR: u32 = 62;
    /// `lsm/inode_set_acl`.
    pub const LSM_INODE_SET_ACL: u32 = 63;
    /// `lsm/inode_remove_acl`.
    pub const LSM_INODE_REMOVE_ACL: u32 = 64;
    /// `lsm/inode_file_setattr`.
    pub const LSM_INODE_FILE_SETATTR: u32 = 65;
    /// `lsm/mmap_file`.
    pub const LSM_MMAP_FILE: u32 = 66;
    /// `lsm/file_fcntl`.
    pub const LSM_FILE_FCNTL: u32 = 67;
    /// `lsm/file_ioctl_compat`.
    pub const LSM_FILE_IOCTL_COMPAT: u32 = 68;
}

/// An address. In words, because the kernel gives it so and the programs would else take
/// it apart into bytes.
pub type Addr = [u32; 4];

/// An IPv4 address (network order) as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(v4: u32) -> Addr {
    [0, 0, MAPPED, v4]
}

/// Is it an IPv4-mapped address?
#[inline(always)]
pub const fn is_mapped(addr: Addr) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == MAPPED
}

const MAPPED: u32 = 0xffff_u32.to_be();

/// The 16 bytes of an address in network order, as words.
pub fn words(bytes: [u8; 16]) -> Addr {
    let mut words = [0; 4];
    for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*four);
    }
    words
}

/// The words of an address as its 16 bytes in network order.
pub fn bytes(addr: Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (four, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(addr) {
        *four = word.to_ne_bytes();
    }
    bytes
}

/// May a process of a session make this socket? TCP, and UDP, which is then refused where
/// it sends: resolvers and address sorting ask for one and live with its refusal, but not
/// all live without it. MPTCP is not among them: its subflows are connections of the
/// kernel's own choosing, and clients that try it fall back to TCP.
#[inline(always)]
pub const fn may_create(family: u32, kind: u32, protocol: u32) -> bool {
    (family == AF_INET || family == AF_INET6)
        && ((kind == SOCK_STREAM && protocol == IPPROTO_TCP)
            || (kind == SOCK_DGRAM && protocol == IPPROTO_UDP))
}

const _: () = {
    assert!(size_of::<Meta>() == 16);
    assert!(size_of::<Listener>() == 32);
    assert!(size_of::<Session>() == 8);
    assert!(size_of::<DestKey>() == 20);
    assert!(size_of::<Origin>() == 72);
    assert!(size_of::<TupleKey>() == 32);
    assert!(size_of::<Turned>() == 40);
    assert!(size_of::<UnixKey>() == 128);
    assert!(size_of::<GateEvent>() == 208);
};

#[cfg(feature = "user")]
mod pod {
    use crate::dns::Asker;
    use crate::lsm::{HiddenKey, Launch, LsmConfig};
    use crate::*;

    macro_rules! pod {
        ($($name:ident),*) => {$(
            // SAFETY: `repr(C)`, integers and arrays of integers only, no padding (the
            // size asserts above would differ), every bit pattern valid.
            unsafe impl aya::Pod for $name {}
        )*};
    }
    pod!(
        Meta, Listener, Session, DestKey, Origin, TupleKey, Turned, UnixKey, GateEvent, Asker,
        LsmConfig, HiddenKey, Launch
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tcp_and_udp_of_the_inet_families() {
        assert!(may_create(AF_INET, SOCK_STREAM, IPPROTO_TCP));
        assert!(may_create(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
        let (mptcp, sctp, icmp, udplite, raw) = (262, 132, 1, 136, 3);
        assert!(!may_create(AF_INET, SOCK_STREAM, mptcp));
        assert!(!may_create(AF_INET, SOCK_STREAM, sctp));
        assert!(!may_create(AF_INET, SOCK_DGRAM, icmp));
        assert!(!may_create(AF_INET6, SOCK_DGRAM, udplite));
        assert!(!may_create(AF_INET, raw, IPPROTO_TCP));
        assert!(!may_create(1, SOCK_STREAM, IPPROTO_TCP));
    }

    #[test]
    fn mapped_address_is_the_one_of_rfc_4291() {
        let v4 = core::net::Ipv4Addr::new(192, 0, 2, 1);
        let v6 = v4.to_ipv6_mapped().octets();
        assert_eq!(mapped(u32::from_ne_bytes(v4.octets())), words(v6));
        assert_eq!(bytes(words(v6)), v6);
        assert!(is_mapped(words(v6)));
        assert!(!is_mapped(words(core::net::Ipv6Addr::LOCALHOST.octets())));
    }
}
