//! What an agent may inherit as standard input, output and error.
//!
//! The kernel programs look at the cgroup that a socket was made in, so a socket from
//! outside is never held; a directory, a device or a kernel object is a hole of its own.
//! Pipes, terminals, plain files and unnamed unix socket pairs stay. What a plain file or
//! pipe leads to is the caller's choice.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};

use super::LaunchError;
use crate::sys;

/// A log sink, not a helper: what systemd gives a unit as its output.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// File systems whose files are the kernel's own controls (statfs(2)).
const CONTROLS: [(i64, &str); 9] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0xcafe_4a11, "bpf"),
    (0x6e73_6673, "nsfs"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
];

/// Checks the three, and those that are to be kept beside them.
///
/// # Errors
/// The first that is not allowed, with what it is.
pub fn check(kept: &[u32]) -> Result<(), LaunchError> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    for (stream, fd) in [
        ("standard input", input.as_fd()),
        ("standard output", output.as_fd()),
        ("standard error", error.as_fd()),
    ] {
        if let Some(what) = forbidden(fd) {
            let stream = stream.into();
            return Err(LaunchError::Stream { stream, what });
        }
    }
    for number in kept {
        let found = sys::with_inherited(*number, forbidden);
        let what = found.unwrap_or_else(|| Some("not open".into()));
        if let Some(what) = what {
            let stream = format!("descriptor {number}");
            return Err(LaunchError::Stream { stream, what });
        }
    }
    Ok(())
}

/// What is wrong with it, if anything.
fn forbidden(fd: BorrowedFd<'_>) -> Option<String> {
    let stat = match fstat(fd) {
        Ok(stat) => stat,
        // Closed: the agent may open what it likes there.
        Err(nix::Error::EBADF) => return None,
        Err(errno) => return Some(format!("unreadable (fstat: {errno})")),
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match kind {
        SFlag::S_IFIFO => None,
        SFlag::S_IFREG => control_file(fd),
        SFlag::S_IFCHR => device(fd, stat.st_rdev),
        SFlag::S_IFSOCK => socket(fd),
        SFlag::S_IFDIR => Some("a directory".into()),
        SFlag::S_IFBLK => Some("a block device".into()),
        _ => Some("a kernel object".into()),
    }
}

fn control_file(fd: BorrowedFd<'_>) -> Option<String> {
    let FsType(magic) = match fstatfs(fd) {
        Ok(stat) => stat.filesystem_type(),
        Err(errno) => return Some(format!("unreadable (fstatfs: {errno})")),
    };
    let (_, name) = CONTROLS.iter().find(|(number, _)| *number == magic)?;
    Some(format!("a file of {name}"))
}

/// Terminals, and null, zero, full, random, urandom (Linux's list of devices, major 1).
fn device(fd: BorrowedFd<'_>, number: libc::dev_t) -> Option<String> {
    let (major, minor) = (major(number), minor(number));
    let harmless = major == 1 && [3, 5, 7, 8, 9].contains(&minor);
    let terminal = nix::unistd::isatty(fd).unwrap_or(false);
    (!harmless && !terminal).then(|| format!("the device {major}:{minor}"))
}

fn socket(fd: BorrowedFd<'_>) -> Option<String> {
    match sys::socket_domain(fd) {
        Ok(libc::AF_UNIX) => unix_socket(fd),
        Ok(family) => Some(format!("a socket of family {family}")),
        Err(error) => Some(format!("an unreadable socket ({error})")),
    }
}

/// Only one end of a pair, connected and without a name at either end, is like a pipe.
fn unix_socket(fd: BorrowedFd<'_>) -> Option<String> {
    let Ok(peer) = getpeername::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&fd)) else {
        return Some("a unix socket that is not connected".into());
    };
    let own = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&fd)).ok();
    let name = |address: Option<&SockaddrStorage>| {
        let address = address?.as_unix_addr()?;
        match (address.path(), address.as_abstract()) {
            (Some(path), _) => Some(path.display().to_string()),
            (None, Some(name)) => Some(format!("@{}", String::from_utf8_lossy(name))),
            (None, None) => None,
        }
    };
    match (name(Some(&peer)), name(own.as_ref())) {
        (None, None) => None,
        (Some(peer), None) if peer == JOURNAL => None,
        (Some(path), _) | (None, Some(path)) => Some(format!("a unix socket of {path}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn pipes_files_null_and_unnamed_pairs_pass() {
        let (read, _write) = io::pipe().expect("pipe");
        let (a, b) = UnixStream::pair().expect("pair");
        let file = tempfile::tempfile().expect("file");
        let null = File::open("/dev/null").expect("null");
        for fd in [
            read.as_fd(),
            a.as_fd(),
            b.as_fd(),
            file.as_fd(),
            null.as_fd(),
        ] {
            assert_eq!(forbidden(fd), None);
        }
    }

    #[test]
    fn sockets_from_outside_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let listener = UnixListener::bind(dir.path().join("helper")).expect("bind");
        let client = UnixStream::connect(dir.path().join("helper")).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("tcp");
        let udp = UdpSocket::bind("[::1]:0").expect("udp");
        let loose = UnixDatagram::unbound().expect("datagram");
        for fd in [
            client.as_fd(),
            server.as_fd(),
            listener.as_fd(),
            tcp.as_fd(),
            udp.as_fd(),
            loose.as_fd(),
        ] {
            assert!(forbidden(fd).is_some(), "{fd:?}");
        }
    }

    #[test]
    fn directories_controls_and_kernel_objects_are_refused() {
        let directory = File::open("/").expect("root");
        let control = File::open("/proc/self/status").expect("proc");
        let namespace = File::open("/proc/self/ns/net").expect("nsfs");
        let event = nix::sys::eventfd::EventFd::new().expect("eventfd");
        for (fd, word) in [
            (directory.as_fd(), "directory"),
            (control.as_fd(), "proc"),
            (namespace.as_fd(), "nsfs"),
            (event.as_fd(), "object"),
        ] {
            let what = forbidden(fd).expect("refused");
            assert!(what.contains(word), "{what}");
        }
    }
}
