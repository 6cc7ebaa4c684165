//! BPF LSM programs: what the cgroup hooks can't see. Linux 6.1, with `bpf` among the
//! security modules in force; the gate's other programs do not need them.
//!
//! Attached once for the whole host. Each lets a process outside the enforced cgroup go on
//! after one look; inside it, what is not known to be harmless is refused. Invariant: an
//! address that can't be read is a process or socket outside. Where each structure's field
//! lies comes from the daemon, so that one object fits every kernel. Each return is a
//! constant on a path of its own: the verifier of 6.12 takes nothing else.

pub mod files;
pub mod hidden;
pub mod inodes;
pub mod kernel;
pub mod place;
pub mod privileges;
pub mod sockets;
pub mod tasks;
pub mod unix;

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use portcullis_ebpf_common::GateEvent;
use portcullis_ebpf_common::lsm::{HiddenKey, Launch, LsmConfig};

use crate::event::{Attempt, Author, report_with};
use crate::session;

/// Where the enforced cgroup is, and where the kernel's fields lie.
#[map]
pub static LSM_CONFIG: Array<LsmConfig> = Array::with_max_entries(1, 0);

/// Process id -> what it may still do although it is in a session. LRU: a launcher that is
/// forgotten is refused.
#[map]
pub static LAUNCHING: LruHashMap<u32, Launch> = LruHashMap::with_max_entries(1_024, 0);

/// The gate's and the daemon's own files -> bits of `lsm::hidden`.
#[map]
pub static HIDDEN: HashMap<HiddenKey, u32> = HashMap::with_max_entries(8_192, 0);

/// Program result: let the call go on to the other security modules.
pub const PASS: i32 = 0;
/// `EPERM`.
pub const EPERM: i32 = -1;
/// `EACCES`.
pub const EACCES: i32 = -13;

/// Records a refusal that is about no socket.
#[inline(always)]
pub fn report(hook: u32, reason: u32, detail: u32) {
    report_socket(hook, reason, [0; 3], |event| event.option = detail);
}

/// Records a refusal; the three numbers are a socket's family, type and protocol.
#[inline(always)]
pub fn report_socket(hook: u32, reason: u32, socket: [u32; 3], fill: impl FnOnce(&mut GateEvent)) {
    let attempt = Attempt {
        hook,
        family: socket[0],
        kind: socket[1],
        protocol: socket[2],
        netns: 0,
        dst: [0; 4],
        port: 0,
    };
    report_with(&attempt, &session::current(), reason, Author::Running, fill);
}
