//! The order in which a process gives up what an agent may not have.
//!
//! Mounts while there are capabilities, then the user, then the capabilities, then what
//! needs none. Each step is final; one that fails ends the launch.

use std::fs;
use std::path::PathBuf;

use landlock::{
    AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::view::{self, Wishes};
use super::{Identity, LaunchError, filter, mounts};
use crate::sys;

/// What the daemon says to hide and to leave.
#[derive(Debug, Default)]
pub struct Orders {
    /// The daemon's own paths.
    pub hide: Vec<PathBuf>,
    /// Unix sockets that the policy lists: paths, or names that begin with `@`.
    pub unix_sockets: Vec<String>,
    /// Group id of the control socket, if it has one.
    pub control_group: Option<u32>,
    /// Descriptors that it keeps beside standard input, output and error.
    pub descriptors: Vec<u32>,
}

/// Directories that a root caller asks to keep writable, checked.
///
/// # Errors
/// Not root, or a directory of the system.
pub fn writable(identity: &Identity, asked: &[PathBuf]) -> Result<Vec<PathBuf>, LaunchError> {
    if !asked.is_empty() && !identity.is_privileged() {
        return Err(LaunchError::WritableNotRoot);
    }
    let check = |path: &PathBuf| {
        let found = path.canonicalize();
        let found = found.map_err(LaunchError::path("find", path))?;
        if found.is_dir() && view::may_write(&found) {
            Ok(found)
        } else {
            Err(LaunchError::Writable(path.clone()))
        }
    };
    asked.iter().map(check).collect()
}

/// Makes this process, which must have one thread, fit to become the agent.
///
/// # Errors
/// The first step that the kernel refuses; the process must end then.
pub fn confine(
    identity: &Identity,
    writable: Vec<PathBuf>,
    orders: &Orders,
) -> Result<(), LaunchError> {
    sys::close_on_exec_from(3).map_err(LaunchError::call("close_range"))?;
    for number in &orders.descriptors {
        sys::keep_at_exec(*number).map_err(LaunchError::call("fcntl(F_SETFD)"))?;
    }
    if identity.is_privileged() {
        mounts::apply(&plan(identity, writable, orders)?)?;
        sys::drop_bounding_set().map_err(LaunchError::call("prctl(PR_CAPBSET_DROP)"))?;
        sys::lock_securebits().map_err(LaunchError::call("prctl(PR_SET_SECUREBITS)"))?;
    }
    identity.assume(orders.control_group)?;
    sys::drop_capabilities().map_err(LaunchError::call("capset"))?;
    nix::sys::prctl::set_no_new_privs()
        .map_err(LaunchError::errno("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    restrict(orders)?;
    let program = filter::program(identity.is_root())?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn plan(
    identity: &Identity,
    mut writable: Vec<PathBuf>,
    orders: &Orders,
) -> Result<view::View, LaunchError> {
    let read = |path: &str| fs::read_to_string(path).map_err(LaunchError::path("read", path));
    writable.extend(std::env::current_dir().and_then(|path| path.canonicalize()));
    writable.extend(identity.home().and_then(|path| path.canonicalize().ok()));
    let real = |path: &PathBuf| path.canonicalize().ok();
    let paths = orders.unix_sockets.iter().map(PathBuf::from);
    let wishes = Wishes {
        writable,
        hide: orders.hide.iter().filter_map(real).collect(),
        sockets: paths.filter_map(|path| real(&path)).collect(),
    };
    let sockets = view::bound_sockets(&read("/proc/net/unix")?);
    let sockets: Vec<PathBuf> = sockets.iter().filter_map(real).collect();
    Ok(view::plan(
        &read("/proc/self/mountinfo")?,
        &sockets,
        &wishes,
    ))
}

/// Landlock (Linux 5.13) keeps the agent from processes outside: their memory, files and
/// descriptors by way of ptrace rights; with 6.12 signals and abstract sockets too. A
/// host without it is the daemon's to accept or not.
fn restrict(orders: &Orders) -> Result<RulesetStatus, LaunchError> {
    let mut scope: BitFlags<Scope> = Scope::Signal.into();
    if !orders.unix_sockets.iter().any(|name| name.starts_with('@')) {
        scope |= Scope::AbstractUnixSocket;
    }
    // A rule set must handle something. Nothing makes block devices here; moving files
    // between directories is handled by every rule set, and so must be allowed.
    let rules = Ruleset::default()
        .handle_access(AccessFs::MakeBlock | AccessFs::Refer)?
        .scope(scope)?
        .create()?;
    let root = fs::File::open("/").map_err(LaunchError::path("open", "/"))?;
    let status = rules
        .add_rule(PathBeneath::new(root, AccessFs::Refer))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Whether the kernel keeps an agent from the memory of its user's other processes:
/// Landlock, or Yama's `ptrace_scope` of at least 1. The reason if not.
pub fn process_guard() -> Result<(), String> {
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if sys::has_landlock() || yama.trim().parse::<u32>().is_ok_and(|scope| scope >= 1) {
        return Ok(());
    }
    Err("the kernel has no Landlock, and kernel.yama.ptrace_scope is 0 or absent".into())
}
