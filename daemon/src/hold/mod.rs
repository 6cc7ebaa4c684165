//! The daemon holds itself down: what it could do by a bug in one of its parsers.
//!
//! [`begin`] before any thread: nothing of its memory in a core dump, a swap file or under
//! a debugger, and no capability that is not for the start. [`finish`] when the gate is up:
//! only what serving takes, on every thread, for good. Each step that fails ends the start.
//! Absent on purpose: Landlock, which would also keep the daemon from looking at the
//! agents' namespaces (docs/threat-model.md).

mod filter;
mod threads;

use std::io;

use nix::sys::resource::{Resource, setrlimit};
use thiserror::Error;

use crate::sys;

/// What the start takes: kernel programs, cgroups, the control socket's group, low ports;
/// and what [`SERVING`] takes. By the kernel's numbers (capability.h).
const STARTING: &[(u8, &str)] = &[
    (0, "chown"),
    // The root of cgroup2 has mode 0555.
    (1, "dac_override"),
    (8, "setpcap"),
    (14, "ipc_lock"),
    (24, "sys_resource"),
    (38, "perfmon"),
    (39, "bpf"),
];

/// What serving takes, each with what it is for.
const SERVING: &[(u8, &str)] = &[
    // Ports below 1024, and the loopback device, in agents' network namespaces.
    (10, "net_bind_service"),
    (12, "net_admin"),
    // Which network namespace a process of another user is in.
    (19, "sys_ptrace"),
    // setns(2).
    (21, "sys_admin"),
    // The cpuset controller asks for it when a process moves into a session's cgroup.
    (23, "sys_nice"),
];

/// The kernel refuses to hold the daemon down.
#[derive(Debug, Error)]
pub enum HoldError {
    /// A call failed.
    #[error("cannot hold the daemon down: {call}: {source}")]
    Call {
        /// The system call.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The filter can't be made or installed.
    #[error("cannot hold the daemon down: seccomp: {0}")]
    Filter(#[from] seccompiler::Error),
    /// A thread is not held.
    #[error("cannot hold the daemon down: thread {thread} still has {what}")]
    Thread {
        /// Its name.
        thread: String,
        /// What it should not have.
        what: String,
    },
}

fn call(call: &'static str) -> impl FnOnce(io::Error) -> HoldError {
    move |source| HoldError::Call { call, source }
}

/// What the daemon will do later on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Start programs: a credential comes from one.
    pub programs: bool,
}

/// Before any thread is started.
///
/// # Errors
/// The kernel refuses a step, other than to lock the memory, which is only logged.
pub fn begin() -> Result<(), HoldError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(io::Error::from)
        .map_err(call("setrlimit(RLIMIT_CORE)"))?;
    nix::sys::prctl::set_dumpable(false)
        .map_err(io::Error::from)
        .map_err(call("prctl(PR_SET_DUMPABLE)"))?;
    match lock_memory() {
        Ok(()) => tracing::debug!("memory is locked: nothing of it is swapped out"),
        Err(error) => tracing::info!("memory is not locked, and may be swapped out: {error}"),
    }
    let wanted = bits(STARTING) | bits(SERVING);
    sys::privileges::keep_capabilities(wanted).map_err(call("capset"))
}

/// At the start of each thread of the runtime: they serve from the beginning. What fails
/// here is found by [`finish`].
pub fn this_thread_serves() {
    // Told by `finish`, which looks at each thread.
    let _ = sys::privileges::keep_capabilities(bits(SERVING));
}

/// Does `work` on a thread that serves already: the threads that it starts do so too.
///
/// # Errors
/// The thread can't be started, or panics.
pub fn serving<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = || {
        this_thread_serves();
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        let panicked = |_| io::Error::other("the thread panicked");
        thread.join().map_err(panicked)
    })
}

/// On the main thread, when the gate is up and before anybody is served.
///
/// # Errors
/// The kernel refuses a step, or a thread has more than it should.
pub fn finish(needs: Needs) -> Result<(), HoldError> {
    // Without setpcap nobody could raise what the bounding set has; with no_new_privs,
    // nobody will.
    match sys::privileges::bound_capabilities(bits(SERVING)) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => {
            return Err(call("prctl(PR_CAPBSET_DROP)")(error));
        }
        _ => {}
    }
    sys::privileges::keep_capabilities(bits(SERVING)).map_err(call("capset"))?;
    let program = filter::program(needs)?;
    // Also sets no_new_privs, on every thread.
    seccompiler::apply_filter_all_threads(&program)?;
    threads::check(bits(SERVING))?;
    let kept: Vec<&str> = SERVING.iter().map(|(_, name)| *name).collect();
    tracing::debug!(
        "held down: capabilities {}, no_new_privs, seccomp",
        kept.join(", ")
    );
    Ok(())
}

/// Nothing that is locked is swapped out. Only where the kernel sets no bound to it: else
/// some later allocation would fail.
fn lock_memory() -> io::Result<()> {
    let unbound = nix::sys::resource::RLIM_INFINITY;
    setrlimit(Resource::RLIMIT_MEMLOCK, unbound, unbound)?;
    sys::privileges::lock_memory()
}

fn bits(capabilities: &[(u8, &str)]) -> u64 {
    let bit = |(number, _): &(u8, &str)| 1_u64 << number;
    capabilities.iter().map(bit).fold(0, |all, bit| all | bit)
}
