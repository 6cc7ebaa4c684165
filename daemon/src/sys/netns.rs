//! System calls for network namespaces: the loopback device, and who has started what.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

/// Brings `lo` up in the network namespace of the socket. One that is up stays so.
///
/// # Errors
/// `SIOCSIFFLAGS` is not permitted, or there is no `lo`.
pub fn bring_loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: zeros are a valid `ifreq`: characters and numbers only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo\0") {
        *to = from.cast_signed();
    }
    interface(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just written this field of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = libc::IFF_UP as libc::c_short;
    if flags & up == up {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | up;
    interface(socket, libc::SIOCSIFFLAGS, &mut request)
}

fn interface(
    socket: BorrowedFd<'_>,
    call: libc::c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // The request's type differs between libcs.
    let call = call as _;
    // SAFETY: both calls take an `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), call, &raw mut *request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A netlink socket on which the kernel tells of each fork, exec and exit on the host
/// (`CN_IDX_PROC`; kernels with `CONFIG_PROC_EVENTS`).
///
/// # Errors
/// The kernel has no process events, or they are not for us (another pid namespace).
pub fn process_events() -> io::Result<OwnedFd> {
    const NETLINK_CONNECTOR: c_int = 11;
    const CN_IDX_PROC: u32 = 1;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_CONNECTOR) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zeros are a valid address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = CN_IDX_PROC;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address and its length fit and outlive the call.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
    if bound == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}
