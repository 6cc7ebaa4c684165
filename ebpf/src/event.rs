//! Tells the daemon of a refusal.
//!
//! A full ring buffer loses the event, never the refusal, and the loss is counted.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::{EbpfContext, helpers::generated::bpf_set_retval};
use portcullis_ebpf_common::{Addr, GateEvent, UNIX_PATH};

use crate::session::Place;
use crate::{EVENTS, LOST};

/// `EACCES`.
pub const EACCES: i32 = 13;
/// `ECONNREFUSED`.
pub const ECONNREFUSED: i32 = 111;

/// Program result: let the call go on.
pub const PASS: i32 = 1;
const REFUSE: i32 = 0;

/// The attempt that a program looks at.
pub struct Attempt {
    /// One of `hook`.
    pub hook: u32,
    /// Address family of the socket.
    pub family: u32,
    /// Its type.
    pub kind: u32,
    /// Its protocol.
    pub protocol: u32,
    /// Cookie of its network namespace.
    pub netns: u64,
    /// Destination address.
    pub dst: Addr,
    /// Destination port.
    pub port: u16,
}

/// Who did it?
pub enum Author {
    /// The running process.
    Running,
    /// Not known: the program may run in the name of somebody else.
    Unknown,
}

/// Records the refusal and returns the program's result for it; the system call fails
/// with `errno`.
#[inline(always)]
pub fn refuse<C: EbpfContext>(
    _ctx: &C,
    attempt: &Attempt,
    place: &Place,
    reason: u32,
    errno: i32,
) -> i32 {
    report(attempt, place, reason, Author::Running);
    fail(errno)
}

/// The program's result for a system call that is to fail with `errno`.
#[inline(always)]
pub fn fail(errno: i32) -> i32 {
    // SAFETY: a helper that takes a number. Should it fail, the call gets EPERM.
    unsafe { bpf_set_retval(-errno) };
    REFUSE
}

/// Records the refusal.
#[inline(always)]
pub fn report(attempt: &Attempt, place: &Place, reason: u32, author: Author) {
    report_with(attempt, place, reason, author, |_| {});
}

/// Records the refusal with what only this program knows.
#[inline(always)]
pub fn report_with(
    attempt: &Attempt,
    place: &Place,
    reason: u32,
    author: Author,
    fill: impl FnOnce(&mut GateEvent),
) {
    let Some(mut entry) = EVENTS.reserve::<GateEvent>(0) else {
        count_lost();
        return;
    };
    let (pid, uid, comm) = match author {
        Author::Running => (
            (bpf_get_current_pid_tgid() >> 32) as u32,
            bpf_get_current_uid_gid() as u32,
            bpf_get_current_comm().unwrap_or([0; 16]),
        ),
        Author::Unknown => (0, 0, [0; 16]),
    };
    let event = entry.write(GateEvent {
        dst: attempt.dst,
        cgroup: place.cgroup,
        session: place.session,
        netns: attempt.netns,
        pid,
        uid,
        reason,
        hook: attempt.hook,
        family: attempt.family,
        kind: attempt.kind,
        protocol: attempt.protocol,
        port: u32::from(attempt.port),
        level: 0,
        option: 0,
        comm,
        path: [0; UNIX_PATH],
    });
    fill(event);
    entry.submit(0);
}

#[inline(always)]
fn count_lost() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: the map gave the pointer; each CPU has its own value.
        unsafe { *lost += 1 };
    }
}
