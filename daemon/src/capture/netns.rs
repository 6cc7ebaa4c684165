//! Network namespaces by the kernel's own cookie.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use crate::sys;

/// The kernel's name of a network namespace; never given twice while the host is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsCookie(pub u64);

impl NetnsCookie {
    /// Of the namespace that a socket is in.
    ///
    /// # Errors
    /// `getsockopt(SO_NETNS_COOKIE)`: not a socket, or Linux before 5.14.
    pub fn of_socket(socket: impl AsFd) -> io::Result<Self> {
        sys::netns_cookie(socket.as_fd()).map(Self)
    }

    /// Of the calling thread's namespace.
    ///
    /// # Errors
    /// No socket can be made, or as for [`NetnsCookie::of_socket`].
    pub fn current() -> io::Result<Self> {
        Self::of_socket(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
    }
}
