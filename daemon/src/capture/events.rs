//! What the kernel programs refused, one event each.
//!
//! The ring buffer has one reader. Events that found it full are lost and counted; the
//! refusal itself never depends on it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use portcullis_ebpf_common::{GateEvent, hook, reason};

use super::orig_dst::text;
use super::{CaptureError, NetnsCookie, UnixAddress};
use crate::sys;
use crate::types::{CgroupId, OrigDst};

/// Why a program refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The process is under the enforced cgroup but in no session.
    NoSession,
    /// Its session has ended.
    SessionEnded,
    /// The process sits too deep in the cgroup tree for its session to be found.
    TooDeep,
    /// A connect() of something else than TCP.
    NotTcp,
    /// No service of the policy is at this address and port.
    UnknownDestination,
    /// The gate has no listener in the socket's network namespace.
    NoListener,
    /// The gate has no IPv6 listener there.
    NoListenerV6,
    /// Too many connections wait for the gate.
    MapFull,
    /// A datagram.
    Datagram,
    /// A kind of socket that the gate does not understand.
    SocketKind,
    /// A packet that is not for the gate.
    Packet,
    /// The gate's own port.
    GatePort,
    /// A socket option that could change where packets go.
    SocketOption,
    /// A unix address that is not on the session's list.
    UnixAddress,
    /// The socket is bound to a device other than the loopback.
    Device,
    /// The socket was made outside the session.
    OutsideSocket,
    /// A process outside the session.
    OutsideProcess,
    /// A capability that no session has, by its number.
    Capability(u32),
    /// Something that no session may do whatever its capabilities.
    Privilege,
    /// Writing to a file that controls the kernel.
    KernelFile,
    /// A device, by the kernel's number: 12 bits of major above 20 of minor.
    DeviceFile(u32),
    /// A file or directory of the gate or its daemon.
    HiddenFile,
    /// A number that this daemon does not know.
    Unknown(u32),
}

impl Reason {
    /// `detail` is what the program says besides; few do.
    fn new(number: u32, detail: u32) -> Self {
        match number {
            reason::NO_SESSION => Self::NoSession,
            reason::TOO_DEEP => Self::TooDeep,
            reason::NOT_TCP => Self::NotTcp,
            reason::UNKNOWN_DESTINATION => Self::UnknownDestination,
            reason::NO_LISTENER => Self::NoListener,
            reason::NO_LISTENER_V6 => Self::NoListenerV6,
            reason::MAP_FULL => Self::MapFull,
            reason::DATAGRAM => Self::Datagram,
            reason::SOCKET_KIND => Self::SocketKind,
            reason::PACKET => Self::Packet,
            reason::GATE_PORT => Self::GatePort,
            reason::OPTION => Self::SocketOption,
            reason::UNIX_ADDRESS => Self::UnixAddress,
            reason::DEVICE => Self::Device,
            reason::SESSION_ENDED => Self::SessionEnded,
            reason::OUTSIDE_SOCKET => Self::OutsideSocket,
            reason::OUTSIDE_PROCESS => Self::OutsideProcess,
            reason::CAPABILITY => Self::Capability(detail),
            reason::PRIVILEGE => Self::Privilege,
            reason::KERNEL_FILE => Self::KernelFile,
            reason::DEVICE_FILE => Self::DeviceFile(detail),
            reason::HIDDEN_FILE => Self::HiddenFile,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSession => "in no session",
            Self::SessionEnded => "its session has ended",
            Self::TooDeep => "too deep in the cgroup tree",
            Self::NotTcp => "not TCP",
            Self::UnknownDestination => "no service of the policy is there",
            Self::NoListener => "no gate in this network namespace",
            Self::NoListenerV6 => "no IPv6 gate in this network namespace",
            Self::MapFull => "too many connections wait for the gate",
            Self::Datagram => "datagram",
            Self::SocketKind => "kind of socket not allowed",
            Self::Packet => "packet not for the gate",
            Self::GatePort => "port of the gate",
            Self::SocketOption => "socket option not allowed",
            Self::UnixAddress => "unix address not allowed",
            Self::Device => "bound to a device",
            Self::OutsideSocket => "socket made outside the session",
            Self::OutsideProcess => "process outside the session",
            Self::Capability(number) => return write!(f, "capability {number} not allowed"),
            Self::Privilege => "no session may do that",
            Self::KernelFile => "file that controls the kernel",
            Self::HiddenFile => "file of the gate or its daemon",
            Self::DeviceFile(number) => {
                let (major, minor) = (number >> 20, number & 0xf_ffff);
                return write!(f, "device {major}:{minor} not allowed");
            }
            Self::Unknown(number) => return write!(f, "reason {number}"),
        })
    }
}

/// One refusal of a kernel program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRefused {
    /// Why.
    pub reason: Reason,
    /// Which program.
    pub hook: &'static str,
    /// Where to, or for a bind() from where; none when a socket was to be made, an option
    /// set, or a unix address used.
    pub dst: Option<OrigDst>,
    /// Cgroup of the process (the leaf).
    pub cgroup: CgroupId,
    /// Cgroup of its session.
    pub session: Option<CgroupId>,
    /// Network namespace of the socket.
    pub netns: NetnsCookie,
    /// Its process (thread group) id, in the first pid namespace; 0 where the packet alone
    /// is known.
    pub pid: u32,
    /// Its user id, in the first user namespace; 0 where the packet alone is known.
    pub uid: u32,
    /// Its name, as the process chose it; empty where the packet alone is known.
    pub comm: String,
    /// Address family of the socket (`AF_INET`, ...).
    pub family: u32,
    /// Type of the socket (`SOCK_STREAM`, ...).
    pub kind: u32,
    /// Protocol of the socket (`IPPROTO_TCP`, ...).
    pub protocol: u32,
    /// Level and name of the socket option, where one was refused.
    pub option: Option<(u32, u32)>,
    /// The unix address, where one was refused and could be read.
    pub unix: Option<UnixAddress>,
}

impl GateRefused {
    /// Reads an event out of the ring buffer's bytes; none if they are no event.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = Words(bytes);
        let dst = words.array()?;
        let (cgroup, session, netns) = (words.u64()?, words.u64()?, words.u64()?);
        let (pid, uid) = (words.u32()?, words.u32()?);
        let (reason, hook) = (words.u32()?, words.u32()?);
        let (family, kind, protocol) = (words.u32()?, words.u32()?, words.u32()?);
        let port = words.u32()?;
        let (level, option) = (words.u32()?, words.u32()?);
        let comm: [u8; 16] = words.array()?;
        let unix = UnixAddress::reported(words.array()?);
        let dst = SocketAddr::new(Ipv6Addr::from(dst).into(), u16::try_from(port).ok()?);
        let sets_option = hook == hook::SETSOCKOPT;
        let is_unix = matches!(hook, hook::UNIX_CONNECT | hook::UNIX_SENDMSG);
        let is_lsm = hook >= hook::LSM;
        let has_dst = !(hook == hook::SOCK_CREATE || sets_option || is_unix || is_lsm);
        Some(Self {
            reason: Reason::new(reason, option),
            hook: hook_name(hook),
            dst: has_dst.then(|| OrigDst::new(dst)),
            cgroup: CgroupId(cgroup),
            session: (session != 0).then_some(CgroupId(session)),
            netns: NetnsCookie(netns),
            pid,
            uid,
            comm: text(&comm),
            family,
            kind,
            protocol,
            option: sets_option.then_some((level, option)),
            unix,
        })
    }
}

fn hook_name(number: u32) -> &'static str {
    match number {
        hook::CONNECT4 => "connect4",
        hook::CONNECT6 => "connect6",
        hook::SENDMSG4 => "sendmsg4",
        hook::SENDMSG6 => "sendmsg6",
        hook::SOCK_CREATE => "sock_create",
        hook::SOCK_OPS => "sock_ops",
        hook::EGRESS => "egress",
        hook::POST_BIND4 => "post_bind4",
        hook::POST_BIND6 => "post_bind6",
        hook::SETSOCKOPT => "setsockopt",
        hook::UNIX_CONNECT => "unix_connect",
        hook::UNIX_SENDMSG => "unix_sendmsg",
        hook::LSM_SOCKET_CREATE => "lsm/socket_create",
        hook::LSM_SOCKET_CONNECT => "lsm/socket_connect",
        hook::LSM_SOCKET_SENDMSG => "lsm/socket_sendmsg",
        hook::LSM_SOCKET_RECVMSG => "lsm/socket_recvmsg",
        hook::LSM_SOCKET_LISTEN => "lsm/socket_listen",
        hook::LSM_UNIX_STREAM_CONNECT => "lsm/unix_stream_connect",
        hook::LSM_UNIX_MAY_SEND => "lsm/unix_may_send",
        hook::LSM_FILE_OPEN => "lsm/file_open",
        hook::LSM_FILE_PERMISSION => "lsm/file_permission",
        hook::LSM_FILE_RECEIVE => "lsm/file_receive",
        hook::LSM_FILE_IOCTL => "lsm/file_ioctl",
        hook::LSM_FILE_IOCTL_COMPAT => "lsm/file_ioctl_compat",
        hook::LSM_FILE_FCNTL => "lsm/file_fcntl",
        hook::LSM_PTRACE => "lsm/ptrace_access_check",
        hook::LSM_TASK_KILL => "lsm/task_kill",
        hook::LSM_TASK_ALLOC => "lsm/task_alloc",
        hook::LSM_CAPABLE => "lsm/capable",
        hook::LSM_BPF => "lsm/bpf",
        hook::LSM_SB_MOUNT => "lsm/sb_mount",
        hook::LSM_MOVE_MOUNT => "lsm/move_mount",
        hook::LSM_USERNS_CREATE => "lsm/userns_create",
        hook::LSM_MODULE_REQUEST => "lsm/kernel_module_request",
        hook::LSM_MMAP_FILE => "lsm/mmap_file",
        other => inode_hook_name(other),
    }
}

fn inode_hook_name(number: u32) -> &'static str {
    match number {
        hook::LSM_INODE_CREATE => "lsm/inode_create",
        hook::LSM_INODE_LINK => "lsm/inode_link",
        hook::LSM_INODE_UNLINK => "lsm/inode_unlink",
        hook::LSM_INODE_SYMLINK => "lsm/inode_symlink",
        hook::LSM_INODE_MKDIR => "lsm/inode_mkdir",
        hook::LSM_INODE_RMDIR => "lsm/inode_rmdir",
        hook::LSM_INODE_MKNOD => "lsm/inode_mknod",
        hook::LSM_INODE_RENAME => "lsm/inode_rename",
        hook::LSM_INODE_SETATTR => "lsm/inode_setattr",
        hook::LSM_INODE_SETXATTR => "lsm/inode_setxattr",
        hook::LSM_INODE_REMOVEXATTR => "lsm/inode_removexattr",
        hook::LSM_INODE_SET_ACL => "lsm/inode_set_acl",
        hook::LSM_INODE_REMOVE_ACL => "lsm/inode_remove_acl",
        hook::LSM_INODE_FILE_SETATTR => "lsm/inode_file_setattr",
        _ => "unknown",
    }
}

/// The fields of a `repr(C)` structure without padding, in their order.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}

/// The reader of the ring buffer.
pub struct Events {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, CaptureError> {
        let ring = object
            .take_map("EVENTS")
            .ok_or(CaptureError::Missing("EVENTS"))?;
        let lost = object
            .take_map("LOST")
            .ok_or(CaptureError::Missing("LOST"))?;
        Ok(Self {
            ring: RingBuf::try_from(ring).map_err(CaptureError::map("EVENTS"))?,
            lost: PerCpuArray::try_from(lost).map_err(CaptureError::map("LOST"))?,
        })
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<GateRefused> {
        while let Some(item) = self.ring.next() {
            match GateRefused::parse(&item) {
                Some(event) => return Some(event),
                None => tracing::error!(bytes = item.len(), "event of unknown form"),
            }
        }
        None
    }

    /// Waits for the next event. Dropping the future loses none. Needs a tokio runtime.
    ///
    /// # Errors
    /// The ring buffer can't be waited for (`epoll_ctl`).
    pub async fn next(&mut self) -> io::Result<GateRefused> {
        loop {
            if let Some(event) = self.try_next() {
                return Ok(event);
            }
            sys::readable(self.ring.as_fd()).await?;
        }
    }

    /// How many events were lost, since the maps were made, because nobody read in time.
    ///
    /// # Errors
    /// The map can't be read.
    pub fn lost(&self) -> Result<u64, CaptureError> {
        let counts = self.lost.get(&0, 0).map_err(CaptureError::map("LOST"))?;
        Ok(counts.iter().sum())
    }
}

// `parse` reads the fields one by one: it must be changed when this changes.
const _: () = assert!(size_of::<GateEvent>() == 16 + 3 * 8 + 10 * 4 + 16 + 112);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_bytes_are_no_event() {
        assert_eq!(GateRefused::parse(&[0; 207]), None);
        let event = GateRefused::parse(&[0; 208]).expect("208 bytes");
        assert_eq!((event.reason, event.session), (Reason::Unknown(0), None));
    }
}
