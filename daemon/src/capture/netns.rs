//! Network namespaces: the kernel's own cookie for each, and the way into one.
//!
//! Only a thread that ends afterwards enters a namespace, so no other task ever runs in a
//! foreign one. A [`Netns`] keeps its namespace alive for as long as it is held; so does
//! every socket made inside.

use std::fs::{self, File, Metadata};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};

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
        Self::of_socket(any_socket()?)
    }
}

/// A namespace as `/proc` shows it. Given anew once nobody holds the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    /// Of a thread, which may be the first of its process.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn of_thread(tid: u32) -> io::Result<Self> {
        fs::metadata(path(tid)).map(|of| Self::new(&of))
    }

    fn new(of: &Metadata) -> Self {
        Self {
            device: of.dev(),
            inode: of.ino(),
        }
    }
}

fn path(tid: u32) -> PathBuf {
    format!("/proc/{tid}/ns/net").into()
}

/// A namespace that is held open.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
}

impl Netns {
    /// The namespace of a thread.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn of_thread(tid: u32) -> io::Result<Self> {
        let file = File::open(path(tid))?;
        let id = NetnsId::new(&file.metadata()?);
        Ok(Self { file, id })
    }

    /// Its id, which stays its own while it is held.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Does `work` inside, on a thread of its own, with the loopback device up.
    ///
    /// # Errors
    /// `setns` or the loopback device's ioctl is refused, or what `work` gives.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            sys::netns::bring_loopback_up(any_socket()?.as_fd())?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    }
}

/// Unbound, so that a namespace without addresses has one too.
fn any_socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_ours_is_in_our_namespace() {
        let own = NetnsId::of_thread(std::process::id()).expect("own");
        let open = Netns::of_thread(std::process::id()).expect("own");
        assert_eq!(open.id(), own);
        assert!(NetnsId::of_thread(u32::MAX).is_err());
    }
}
