//! Programs that start anywhere on the host, told by the kernel's process events.
//!
//! Whoever enters a network namespace runs a program in it sooner or later: here the gate
//! learns of it before the program connects. A kernel without these events costs speed
//! only: the first connect() from a new namespace is then refused, and tells of it too.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, recv, send};

use crate::sys;

const PROC_EVENT_EXEC: u32 = 0x0000_0002;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr` and `struct cn_msg` before the event.
const HEADERS: usize = 16 + 20;
/// `what`, `cpu` and `timestamp_ns` before the event's own fields.
const EVENT: usize = 16;

/// The reader of the events.
#[derive(Debug)]
pub struct Execs(OwnedFd);

impl Execs {
    /// Asks the kernel for them.
    ///
    /// # Errors
    /// The kernel has none (`CONFIG_PROC_EVENTS`), or not for us.
    pub fn open() -> io::Result<Self> {
        let socket = sys::netns::process_events()?;
        send(socket.as_raw_fd(), &listen(), MsgFlags::empty())?;
        Ok(Self(socket))
    }

    /// Waits for the next exec: the process id. Events may be missed on a busy host.
    ///
    /// # Errors
    /// The socket can't be read.
    pub fn next(&self) -> io::Result<u32> {
        let mut buffer = [0_u8; 1024];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let event = buffer.get(..length).and_then(exec);
                    if let Some(pid) = event {
                        return Ok(pid);
                    }
                }
                // Overrun: what was lost is found by the scan.
                Err(nix::Error::ENOBUFS | nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The request, as `linux/connector.h` and `linux/cn_proc.h` lay it out.
fn listen() -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADERS + 4);
    let mut put = |bytes: &[u8]| message.extend_from_slice(bytes);
    put(&40_u32.to_ne_bytes()); // nlmsg_len
    put(&NLMSG_DONE.to_ne_bytes());
    put(&[0; 10]); // nlmsg_flags, nlmsg_seq, nlmsg_pid
    put(&1_u32.to_ne_bytes()); // cb_id.idx = CN_IDX_PROC
    put(&1_u32.to_ne_bytes()); // cb_id.val = CN_VAL_PROC
    put(&[0; 8]); // seq, ack
    put(&4_u16.to_ne_bytes()); // len
    put(&[0; 2]); // flags
    put(&PROC_CN_MCAST_LISTEN.to_ne_bytes());
    message
}

/// The process of an exec event; none for other messages.
fn exec(message: &[u8]) -> Option<u32> {
    let event = message.get(HEADERS..)?;
    let word = |at: usize| {
        let bytes = event.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    if word(0)? != PROC_EVENT_EXEC {
        return None;
    }
    word(EVENT + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_is_told_and_nothing_else_is_one() {
        let mut message = vec![0; HEADERS + 40];
        message[HEADERS] = 2;
        message[HEADERS + EVENT] = 7;
        message[HEADERS + EVENT + 4] = 9;
        assert_eq!(exec(&message), Some(9));
        message[HEADERS] = 1;
        assert_eq!(exec(&message), None);
        assert_eq!(exec(&message[..HEADERS + 3]), None);
        assert_eq!(listen().len(), 40);
    }
}
