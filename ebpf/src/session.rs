//! Which session does the running process belong to?
//!
//! Walks the process's cgroups from the leaf upwards; the deepest session wins, so that a
//! narrower session inside a wider one is never taken for the wider.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use portcullis_ebpf_common::{MAX_CGROUP_LEVEL, reason};

use crate::SESSIONS;

/// Where the running process sits.
#[derive(Clone, Copy)]
pub struct Place {
    /// Its own cgroup.
    pub cgroup: u64,
    /// The cgroup of its session, or why there is none.
    pub session: Result<u64, u32>,
}

/// Finds the running process's cgroup and session.
#[inline(always)]
pub fn current() -> Place {
    // SAFETY: a helper without arguments.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    Place {
        cgroup,
        session: find(),
    }
}

#[inline(always)]
fn find() -> Result<u64, u32> {
    // SAFETY: a helper that takes a number; no such level gives 0.
    if unsafe { bpf_get_current_ancestor_cgroup_id(MAX_CGROUP_LEVEL + 1) } != 0 {
        return Err(reason::TOO_DEEP);
    }
    let mut level = MAX_CGROUP_LEVEL;
    while level >= 0 {
        // SAFETY: as above.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id != 0 && SESSIONS.get_ptr(id).is_some() {
            return Ok(id);
        }
        level -= 1;
    }
    Err(reason::NO_SESSION)
}
