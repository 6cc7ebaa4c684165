//! Which session does the running process belong to?
//!
//! Walks the process's cgroups from the leaf upwards; the deepest session wins, ended
//! or not, so that a narrower session inside a wider one is never taken for the wider.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use portcullis_ebpf_common::{MAX_CGROUP_LEVEL, SESSION_ENDED, reason};

use crate::SESSIONS;

/// Where the running process sits. Two numbers and no `Result`: the verifier refuses the
/// copies that the compiler makes of a variant's unused half.
#[derive(Clone, Copy)]
pub struct Place {
    /// Its own cgroup.
    pub cgroup: u64,
    /// The cgroup of its session, ended or not; 0 if it has none.
    pub session: u64,
    /// Why nothing passes from there: one of `reason`; 0 if something may.
    pub reason: u32,
}

/// Finds the running process's cgroup and session.
#[inline(always)]
pub fn current() -> Place {
    let mut place = Place {
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        session: 0,
        reason: reason::NO_SESSION,
    };
    if ancestor(MAX_CGROUP_LEVEL + 1) != 0 {
        place.reason = reason::TOO_DEEP;
        return place;
    }
    let mut level = MAX_CGROUP_LEVEL;
    while level >= 0 {
        let id = ancestor(level);
        // SAFETY: one number, which the daemon changes in one store.
        if id != 0
            && let Some(session) = unsafe { SESSIONS.get(id) }
        {
            place.session = id;
            place.reason = if session.flags & SESSION_ENDED == 0 {
                0
            } else {
                reason::SESSION_ENDED
            };
            return place;
        }
        level -= 1;
    }
    place
}

/// Id of the running process's cgroup at this level of the tree; 0 if it sits above it.
#[inline(always)]
pub fn ancestor(level: i32) -> u64 {
    // SAFETY: a helper that takes a number.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}
