//! Programs on the enforced cgroup, by links that are pinned.
//!
//! A pinned link outlives the daemon, so a dead daemon leaves the gate shut. A link that
//! is there already gets the new program by `BPF_LINK_UPDATE`, in one step of the kernel:
//! there is no moment without a program. [`verify`] asks the kernel what is in force.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};

use super::CaptureError;
use super::loader::Pins;
use crate::sys;

/// One place in the kernel where a program of ours sits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    /// Name of the program in the object, and of its pins.
    pub(super) name: &'static str,
    /// `enum bpf_attach_type`.
    pub(super) attach_type: u32,
}

const fn hook(name: &'static str, attach_type: u32) -> Hook {
    Hook { name, attach_type }
}

/// Those without which there is no gate, in the order in which they are attached.
pub(super) const HOOKS: &[Hook] = &[
    hook("egress", 1),
    hook("ingress", 0),
    hook("sock_create", 2),
    hook("sock_release", 34),
    hook("sock_ops", 3),
    hook("post_bind4", 12),
    hook("post_bind6", 13),
    hook("setsockopt", 22),
    hook("sendmsg4", 14),
    hook("sendmsg6", 15),
    hook("recvmsg4", 19),
    hook("recvmsg6", 20),
    hook("getpeername4", 29),
    hook("getpeername6", 30),
    hook("connect4", 10),
    hook("connect6", 11),
];

/// Those that not every supported kernel has, and what is open without each.
pub(super) const OPTIONAL: &[(Hook, &str)] = &[
    (
        hook("unix_connect", 49),
        "unix sockets of helpers outside the session, by connect()",
    ),
    (
        hook("unix_sendmsg", 50),
        "unix sockets of helpers outside the session, by datagram",
    ),
];

/// A program that the kernel has taken.
pub(super) struct Loaded {
    pub(super) hook: Hook,
    pub(super) program: OwnedFd,
}

/// A hook that this kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLayer {
    /// The hook.
    pub name: &'static str,
    /// What the kernel said.
    pub why: String,
    /// What it leaves open.
    pub leaves_open: &'static str,
}

/// What holds the agents, and what this kernel has no hook for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Asked from the kernel at this moment.
    pub in_force: Vec<Layer>,
    /// Found at the start.
    pub missing: Vec<MissingLayer>,
}

/// A program that is in force, for `portcullis status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The hook.
    pub hook: &'static str,
    /// The kernel's id of the program.
    pub program: u32,
    /// The kernel's id of the link that holds it there.
    pub link: u32,
}

/// The enforced cgroup, open.
#[derive(Debug)]
pub(super) struct Enforced {
    pub(super) path: PathBuf,
    pub(super) directory: File,
}

/// Attaches every program or puts it into its pinned link, and pins it.
pub(super) fn attach(
    loaded: &[Loaded],
    pins: &Pins,
    cgroup: &Enforced,
) -> Result<(), CaptureError> {
    for loaded in loaded {
        pin_program(loaded, &pins.programs())?;
        let path = pins.links().join(loaded.hook.name);
        if !update(loaded, pins, &path, cgroup)? {
            let (program, directory) = (loaded.program.as_fd(), cgroup.directory.as_fd());
            let link = sys::bpf_link_create(program, directory, loaded.hook.attach_type)
                .map_err(CaptureError::io("BPF_LINK_CREATE", &path))?;
            sys::bpf_pin(link.as_fd(), &c_path(&path)?)
                .map_err(CaptureError::io("BPF_OBJ_PIN", &path))?;
        }
    }
    Ok(())
}

/// Puts the program into the pinned link. False if there is none, or only one whose
/// cgroup is gone: that pin is removed.
fn update(
    loaded: &Loaded,
    pins: &Pins,
    path: &Path,
    cgroup: &Enforced,
) -> Result<bool, CaptureError> {
    if !path.exists() {
        return Ok(false);
    }
    let link = open_link(path)?;
    match sys::bpf_link_update(link.as_fd(), loaded.program.as_fd()) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOLINK) => {
            fs::remove_file(path).map_err(CaptureError::io("unlink", path))?;
            Ok(false)
        }
        Err(error) => Err(CaptureError::io("BPF_LINK_UPDATE", path)(error)),
        Ok(()) if is_listed(loaded.hook, program_id(loaded.hook, pins)?, cgroup)? => Ok(true),
        Ok(()) => Err(CaptureError::OtherCgroup(path.to_owned())),
    }
}

fn open_link(path: &Path) -> Result<OwnedFd, CaptureError> {
    sys::bpf_object(&c_path(path)?).map_err(CaptureError::io("BPF_OBJ_GET", path))
}

fn c_path(path: &Path) -> Result<CString, CaptureError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| CaptureError::io("open", path)(error.into()))
}

/// Detaches a pinned link at once; the pin stays.
pub(super) fn detach(path: &Path) -> Result<(), CaptureError> {
    let link = open_link(path)?;
    sys::bpf_link_detach(link.as_fd()).map_err(CaptureError::io("BPF_LINK_DETACH", path))
}

/// Pins the program under its name; an older one of that name is replaced in one step.
fn pin_program(loaded: &Loaded, directory: &Path) -> Result<(), CaptureError> {
    let name = loaded.hook.name;
    let (path, fresh) = (directory.join(name), directory.join(format!("{name}-new")));
    // Left behind by a start that was interrupted here.
    let _ = fs::remove_file(&fresh);
    sys::bpf_pin(loaded.program.as_fd(), &c_path(&fresh)?)
        .map_err(CaptureError::io("BPF_OBJ_PIN", &fresh))?;
    fs::rename(&fresh, &path).map_err(CaptureError::io("rename", path))
}

/// Asks the kernel: is each pinned link there, with a program that the cgroup lists?
/// Hooks that the kernel does not have are left out.
pub(super) fn verify(
    pins: &Pins,
    cgroup: &Enforced,
    missing: &[MissingLayer],
) -> Result<Vec<Layer>, CaptureError> {
    let is_there = |hook: &Hook| missing.iter().all(|layer| layer.name != hook.name);
    let optional = OPTIONAL.iter().map(|(hook, _)| *hook).filter(is_there);
    let hooks = HOOKS.iter().copied().chain(optional);
    hooks
        .map(|hook| {
            let absent = || CaptureError::NotInForce {
                hook: hook.name,
                cgroup: cgroup.path.clone(),
            };
            let link: FdLink = PinnedLink::from_pin(pins.links().join(hook.name))
                .map_err(|_| absent())?
                .into();
            let info = link.info().map_err(|cause| CaptureError::Link {
                name: hook.name,
                cause,
            })?;
            if !is_listed(hook, info.program_id(), cgroup)? {
                return Err(absent());
            }
            Ok(Layer {
                hook: hook.name,
                program: info.program_id(),
                link: info.id(),
            })
        })
        .collect()
}

/// Checks besides that the programs in force are the ones that were just loaded.
pub(super) fn verify_loaded(
    loaded: &[Loaded],
    pins: &Pins,
    layers: &[Layer],
    cgroup: &Enforced,
) -> Result<(), CaptureError> {
    for Loaded { hook, .. } in loaded {
        let id = program_id(*hook, pins)?;
        let is_in_force = |layer: &Layer| layer.hook == hook.name && layer.program == id;
        if !layers.iter().any(is_in_force) {
            return Err(CaptureError::NotInForce {
                hook: hook.name,
                cgroup: cgroup.path.clone(),
            });
        }
    }
    Ok(())
}

/// The id of the program that is pinned under the hook's name.
fn program_id(hook: Hook, pins: &Pins) -> Result<u32, CaptureError> {
    let path = pins.programs().join(hook.name);
    let info = ProgramInfo::from_pin(path).map_err(CaptureError::program(hook.name))?;
    Ok(info.id())
}

fn is_listed(hook: Hook, program: u32, cgroup: &Enforced) -> Result<bool, CaptureError> {
    sys::bpf_attached(cgroup.directory.as_fd(), hook.attach_type)
        .map(|ids| ids.contains(&program))
        .map_err(CaptureError::io("BPF_PROG_QUERY", &cgroup.path))
}
