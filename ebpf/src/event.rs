//! Tells the daemon of a refusal.
//!
//! A full ring buffer loses the event, never the refusal, and the loss is counted.

use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::{EbpfContext, helpers::generated::bpf_set_retval};
use portcullis_ebpf_common::{Addr, GateEvent};

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

/// Records the refusal and returns the program's result for it; the system call fails
/// with `errno`.
#[inline(always)]
pub fn refuse<C: EbpfContext>(
    ctx: &C,
    attempt: &Attempt,
    place: &Place,
    reason: u32,
    errno: i32,
) -> i32 {
    send(ctx, attempt, place, reason);
    // SAFETY: a helper that takes a number. Should it fail, the call gets EPERM.
    unsafe { bpf_set_retval(-errno) };
    REFUSE
}

#[inline(always)]
fn send<C: EbpfContext>(ctx: &C, attempt: &Attempt, place: &Place, reason: u32) {
    let Some(mut entry) = EVENTS.reserve::<GateEvent>(0) else {
        count_lost();
        return;
    };
    entry.write(GateEvent {
        dst: attempt.dst,
        cgroup: place.cgroup,
        session: place.session,
        netns: attempt.netns,
        pid: ctx.tgid(),
        uid: ctx.uid(),
        reason,
        hook: attempt.hook,
        family: attempt.family,
        kind: attempt.kind,
        protocol: attempt.protocol,
        port: u32::from(attempt.port),
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    });
    entry.submit(0);
}

#[inline(always)]
fn count_lost() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: the map gave the pointer; each CPU has its own value.
        unsafe { *lost += 1 };
    }
}
