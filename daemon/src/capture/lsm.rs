//! BPF LSM programs: the layer for what the cgroup programs can't see. Optional at run time.
//!
//! Attached once for the whole host by links that are pinned, so that they outlive the
//! daemon like the others. All or none: a kernel that refuses one gives
//! [`LsmState::Unavailable`], which the administrator must accept. A new daemon attaches
//! its own programs before it lets go of the old ones. Absent: what the programs refuse.

mod btf;
mod offsets;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{Lsm, Program};
use aya::{Btf, Ebpf};
use portcullis_ebpf_common::lsm::{LAUNCH_NANOSECONDS, Launch, LsmConfig};

use super::attach::{Enforced, Layer};
use super::loader::Pins;
use super::{CaptureError, cgroupfs, host};
use crate::types::CgroupId;
use offsets::Kernel;

/// The security modules in force, in their order.
const MODULES: &str = "/sys/kernel/security/lsm";
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What every kernel from 6.1 on has; the program's name has `lsm_` before it.
const HOOKS: [&str; 34] = [
    // First, so that a launcher that is there already is seen to become an agent.
    "bprm_committed_creds",
    "socket_create",
    "socket_connect",
    "socket_sendmsg",
    "socket_recvmsg",
    "socket_listen",
    "unix_stream_connect",
    "unix_may_send",
    "file_open",
    "file_permission",
    "file_receive",
    "file_ioctl",
    "mmap_file",
    "file_fcntl",
    "ptrace_access_check",
    "task_kill",
    "task_alloc",
    "capable",
    "bpf",
    "sb_mount",
    "move_mount",
    "userns_create",
    "kernel_module_request",
    "inode_create",
    "inode_link",
    "inode_unlink",
    "inode_symlink",
    "inode_mkdir",
    "inode_rmdir",
    "inode_mknod",
    "inode_rename",
    "inode_setattr",
    "inode_setxattr",
    "inode_removexattr",
];

/// What `inode_setxattr`, `inode_setattr` and `file_ioctl` see where these are not: from 6.2,
/// 6.17 and, for 32-bit callers, 6.8 and the stable kernels of that time.
const NEWER: [&str; 4] = [
    "inode_set_acl",
    "inode_remove_acl",
    "inode_file_setattr",
    "file_ioctl_compat",
];

/// Whether the layer is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LsmState {
    /// Every hook has its program.
    InForce(Vec<Layer>),
    /// None has, and why.
    Unavailable(String),
}

/// Why not, or that something is broken.
enum Obstacle {
    Unavailable(String),
    Broken(CaptureError),
}

impl From<CaptureError> for Obstacle {
    fn from(error: CaptureError) -> Self {
        Self::Broken(error)
    }
}

/// Loads every program, attaches it and pins its link.
///
/// # Errors
/// The kernel took the programs, but a step after that failed.
pub(super) fn start(
    object: &mut Ebpf,
    pins: &Pins,
    cgroup: &Enforced,
) -> Result<LsmState, CaptureError> {
    match install(object, pins, cgroup) {
        Ok(layers) => Ok(LsmState::InForce(layers)),
        Err(Obstacle::Unavailable(why)) => Ok(LsmState::Unavailable(why)),
        Err(Obstacle::Broken(error)) => Err(error),
    }
}

fn install(object: &mut Ebpf, pins: &Pins, cgroup: &Enforced) -> Result<Vec<Layer>, Obstacle> {
    modules(&fs::read_to_string(MODULES))?;
    let types =
        fs::read(VMLINUX).map_err(|error| Obstacle::Unavailable(format!("{VMLINUX}: {error}")))?;
    let kernel = offsets::find(&types, &NEWER).map_err(|name| {
        Obstacle::Unavailable(format!("{VMLINUX} does not know the kernel's {name}"))
    })?;
    let config = config(cgroup, &kernel)?;
    let hooks = || HOOKS.into_iter().chain(kernel.hooks.iter().copied());
    let btf =
        Btf::from_sys_fs().map_err(|error| Obstacle::Unavailable(format!("{VMLINUX}: {error}")))?;
    for hook in hooks() {
        let loaded = program(object, hook)?.load(hook, &btf);
        loaded.map_err(|error| {
            let cause = CaptureError::program(hook)(error);
            Obstacle::Unavailable(format!("the kernel refused it: {cause}"))
        })?;
    }
    // Before the programs, which do nothing without it.
    let map = object.map_mut("LSM_CONFIG");
    let map = map.ok_or(CaptureError::Missing("LSM_CONFIG"))?;
    let mut map: Array<_, LsmConfig> =
        Array::try_from(map).map_err(CaptureError::map("LSM_CONFIG"))?;
    map.set(0, config, 0)
        .map_err(CaptureError::map("LSM_CONFIG"))?;
    let directory = pins.lsm();
    host::make_dir(&directory)?;
    for hook in hooks() {
        attach(program(object, hook)?, hook, &directory)?;
    }
    Ok(layers(pins, hooks())?)
}

/// Is `bpf` among the modules? Programs attach without it, and are never asked.
fn modules(text: &io::Result<String>) -> Result<(), Obstacle> {
    let why = match text {
        Ok(text) if text.trim().split(',').any(|module| module == "bpf") => return Ok(()),
        Ok(text) => format!("bpf is not in {MODULES}: boot with lsm={},bpf", text.trim()),
        Err(error) => format!("{MODULES}: {error}"),
    };
    Err(Obstacle::Unavailable(why))
}

fn config(cgroup: &Enforced, kernel: &Kernel) -> Result<LsmConfig, CaptureError> {
    let path = &cgroup.path;
    let level = level(path)?;
    let enforced = cgroupfs::id(path).map_err(CaptureError::io("stat", path))?;
    Ok(LsmConfig {
        enforced: enforced.0,
        level,
        setattr_dentry: kernel.setattr_dentry,
        offsets: kernel.offsets,
        pad: 0,
    })
}

/// How far the enforced cgroup is below the root of the hierarchy, which is level 0.
fn level(path: &Path) -> Result<u32, CaptureError> {
    let below = path.strip_prefix(cgroupfs::mount_point()?);
    let count = below.map_or(0, |below| below.components().count());
    u32::try_from(count).map_err(|error| {
        let error = io::Error::new(io::ErrorKind::InvalidInput, error);
        CaptureError::io("level of", path)(error)
    })
}

fn program<'a>(object: &'a mut Ebpf, hook: &'static str) -> Result<&'a mut Lsm, CaptureError> {
    match object.program_mut(&format!("lsm_{hook}")) {
        Some(Program::Lsm(program)) => Ok(program),
        _ => Err(CaptureError::Missing(hook)),
    }
}

/// The old program, if there is one, is in force until the new one is.
fn attach(program: &mut Lsm, hook: &'static str, directory: &Path) -> Result<(), CaptureError> {
    let id = program.attach().map_err(CaptureError::program(hook))?;
    let link = program.take_link(id).map_err(CaptureError::program(hook))?;
    let (path, fresh) = (directory.join(hook), directory.join(format!("{hook}-new")));
    // Left behind by a start that was interrupted here.
    let _ = fs::remove_file(&fresh);
    FdLink::from(link)
        .pin(&fresh)
        .map_err(|cause| CaptureError::Pin {
            path: fresh.clone(),
            cause,
        })?;
    fs::rename(&fresh, &path).map_err(CaptureError::io("rename", path))
}

/// Asks the kernel for every pinned link.
///
/// # Errors
/// One is gone.
pub(super) fn layers(
    pins: &Pins,
    hooks: impl Iterator<Item = &'static str>,
) -> Result<Vec<Layer>, CaptureError> {
    hooks
        .map(|hook| {
            let path = pins.lsm().join(hook);
            let absent = |_| CaptureError::LsmNotInForce(hook);
            let link: FdLink = PinnedLink::from_pin(path).map_err(absent)?.into();
            let info = link
                .info()
                .map_err(|cause| CaptureError::Link { name: hook, cause })?;
            Ok(Layer {
                hook,
                program: info.program_id(),
                link: info.id(),
            })
        })
        .collect()
}

/// The map of processes that are about to become agents.
pub(super) struct Launching(Mutex<HashMap<MapData, u32, Launch>>);

impl Launching {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, CaptureError> {
        let map: Map = object
            .take_map("LAUNCHING")
            .ok_or(CaptureError::Missing("LAUNCHING"))?;
        let map = HashMap::try_from(map).map_err(CaptureError::map("LAUNCHING"))?;
        Ok(Self(map.into()))
    }

    /// Notes what the process may still do until it executes a command, and not for long.
    pub(super) fn expect(
        &self,
        pid: u32,
        session: CgroupId,
        outer: Option<CgroupId>,
    ) -> Result<(), CaptureError> {
        let launch = Launch {
            until: since_boot()?.saturating_add(LAUNCH_NANOSECONDS),
            session: session.0,
            outer: outer.map_or(0, |outer| outer.0),
        };
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(pid, launch, 0)
            .map_err(CaptureError::map("LAUNCHING"))
    }

    /// It may do no more than any other; most often the kernel has seen to that.
    pub(super) fn forget(&self, pid: u32) -> Result<(), CaptureError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match map.remove(&pid) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(CaptureError::map("LAUNCHING")(error)),
        }
    }
}

/// Nanoseconds since boot, suspended time included: proc_uptime(5).
fn since_boot() -> Result<u64, CaptureError> {
    let path = PathBuf::from("/proc/uptime");
    let text = fs::read_to_string(&path).map_err(CaptureError::io("read", &path))?;
    parse_uptime(&text).ok_or_else(|| {
        let error = io::Error::from(io::ErrorKind::InvalidData);
        CaptureError::io("read", path)(error)
    })
}

/// Seconds with two digits behind the point.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    let hundredths: u64 = rest.get(..2)?.parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    seconds
        .checked_mul(100)?
        .checked_add(hundredths)?
        .checked_mul(10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_must_be_listed_by_itself() {
        let listed = |text: &str| modules(&Ok(text.into()));
        assert!(listed("lockdown,capability,bpf\n").is_ok());
        let Err(Obstacle::Unavailable(why)) = listed("lockdown,capability,bpfx") else {
            panic!("taken for listed");
        };
        assert!(why.contains("lsm=lockdown,capability,bpfx,bpf"), "{why}");
        assert!(modules(&Err(io::ErrorKind::NotFound.into())).is_err());
    }

    #[test]
    fn uptime_is_in_hundredths() {
        assert_eq!(parse_uptime("12.34 9.9\n"), Some(12_340_000_000));
        assert_eq!(parse_uptime("12"), None);
    }
}
