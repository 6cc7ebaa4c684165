//! Who is inside: the running process, another process, the maker of a socket.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use portcullis_ebpf_common::MAX_CGROUP_LEVEL;
use portcullis_ebpf_common::lsm::{Launch, LsmConfig};

use super::kernel::{read32, read64};
use super::{LAUNCHING, LSM_CONFIG};
use crate::session;

/// What the daemon wrote, if the running process is inside the enforced cgroup: one
/// helper call for all the others.
#[inline(always)]
pub fn held() -> Option<&'static LsmConfig> {
    let config = installed()?;
    if session::ancestor(config.level as i32) == config.enforced {
        Some(config)
    } else {
        None
    }
}

/// What the daemon wrote, once it has.
#[inline(always)]
pub fn installed() -> Option<&'static LsmConfig> {
    let config = LSM_CONFIG.get(0)?;
    if config.enforced == 0 {
        return None;
    }
    Some(config)
}

/// Is it a launcher that has not yet become the agent's command?
#[inline(always)]
pub fn is_launching() -> bool {
    launch().is_some_and(|launch| launch.outer == 0)
}

/// Was this socket made in the session that the running process has just left for a
/// narrower one?
#[inline(always)]
pub fn made_before(config: &LsmConfig, sock: u64) -> bool {
    let Some(launch) = launch() else {
        return false;
    };
    let cgroup = read64(sock + u64::from(config.offsets.sock_cgroup));
    is_within(config, cgroup, launch.outer)
}

/// What the running process may still do, if it is where it was put.
#[inline(always)]
fn launch() -> Option<&'static Launch> {
    // SAFETY: an entry that is written once.
    let launch = unsafe { LAUNCHING.get(process()) }?;
    // SAFETY: helpers without arguments.
    let (cgroup, now) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns()) };
    // In the session's very cgroup: what is in one below has moved since.
    if launch.session != cgroup || launch.until <= now {
        return None;
    }
    Some(launch)
}

/// Id of the running process.
#[inline(always)]
pub fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Was this socket (`struct sock`) made in the running process's session? One that is
/// accepted belongs to where its listener was made.
#[inline(always)]
pub fn made_here(config: &LsmConfig, sock: u64) -> bool {
    let cgroup = read64(sock + u64::from(config.offsets.sock_cgroup));
    is_here(config, cgroup)
}

/// Is this process (`struct task_struct`) in the running process's session, or in a
/// narrower one inside it?
#[inline(always)]
pub fn lives_here(config: &LsmConfig, task: u64) -> bool {
    let set = read64(task + u64::from(config.offsets.task_cgroups));
    let cgroup = read64(set + u64::from(config.offsets.css_set_cgroup));
    is_here(config, cgroup)
}

/// Was this socket made inside the enforced cgroup?
#[inline(always)]
pub fn made_inside(config: &LsmConfig, sock: u64) -> bool {
    let cgroup = read64(sock + u64::from(config.offsets.sock_cgroup));
    ancestor(config, cgroup, config.level) == config.enforced
}

#[inline(always)]
fn is_here(config: &LsmConfig, cgroup: u64) -> bool {
    is_within(config, cgroup, session::current().session)
}

/// Is it the session's cgroup, or one below? There is no session 0.
#[inline(always)]
fn is_within(config: &LsmConfig, cgroup: u64, session: u64) -> bool {
    if session == 0 || cgroup == 0 {
        return false;
    }
    let level = read32(cgroup + u64::from(config.offsets.cgroup_level));
    // Sessions begin one level below the enforced cgroup.
    let mut at = config.level + 1;
    let mut steps = 0;
    while steps < MAX_CGROUP_LEVEL {
        if at > level {
            return false;
        }
        if ancestor(config, cgroup, at) == session {
            return true;
        }
        at += 1;
        steps += 1;
    }
    false
}

/// Id of a cgroup's ancestor at this level, which must not be below its own.
#[inline(always)]
fn ancestor(config: &LsmConfig, cgroup: u64, level: u32) -> u64 {
    let offsets = &config.offsets;
    let list = cgroup + u64::from(offsets.cgroup_ancestors);
    let ancestor = read64(list + 8 * u64::from(level));
    let node = read64(ancestor + u64::from(offsets.cgroup_node));
    read64(node + u64::from(offsets.node_id))
}
