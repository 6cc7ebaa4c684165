//! Programs on the enforced cgroup, by links that are pinned.
//!
//! A pinned link outlives the daemon, so a dead daemon leaves the gate shut. A link that
//! is there already gets the new program by `BPF_LINK_UPDATE`, in one step of the kernel:
//! there is no moment without a program. [`verify`] asks the kernel what is in force.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, Program, ProgramError};

use super::CaptureError;
use super::loader::Pins;
use crate::sys;

/// One place in the kernel where a program of ours sits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    /// Name of the program in the object, and of its pins.
    pub(super) name: &'static str,
    /// `enum bpf_attach_type`.
    attach_type: u32,
}

/// All of them, in the order in which they are attached.
pub(super) const HOOKS: [Hook; 7] = [
    Hook {
        name: "sock_create",
        attach_type: 2,
    },
    Hook {
        name: "sock_release",
        attach_type: 34,
    },
    Hook {
        name: "sock_ops",
        attach_type: 3,
    },
    Hook {
        name: "sendmsg4",
        attach_type: 14,
    },
    Hook {
        name: "sendmsg6",
        attach_type: 15,
    },
    Hook {
        name: "connect4",
        attach_type: 10,
    },
    Hook {
        name: "connect6",
        attach_type: 11,
    },
];

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
    object: &mut Ebpf,
    pins: &Pins,
    cgroup: &Enforced,
) -> Result<(), CaptureError> {
    for hook in HOOKS {
        let program = object
            .program_mut(hook.name)
            .ok_or(CaptureError::Missing(hook.name))?;
        let path = pins.links().join(hook.name);
        if !update(hook, program, &path, cgroup)? {
            let link =
                attach_new(program, &cgroup.directory).map_err(CaptureError::program(hook.name))?;
            link.pin(&path).map_err(|cause| CaptureError::Pin {
                path: path.clone(),
                cause,
            })?;
        }
        pin_program(program, &pins.programs(), hook.name)?;
    }
    Ok(())
}

/// Puts the program into the pinned link. False if there is none, or only one whose
/// cgroup is gone: that pin is removed.
fn update(
    hook: Hook,
    program: &Program,
    path: &Path,
    cgroup: &Enforced,
) -> Result<bool, CaptureError> {
    if !path.exists() {
        return Ok(false);
    }
    let link = open_link(path)?;
    let fd = program.fd().map_err(CaptureError::program(hook.name))?;
    match sys::bpf_link_update(link.as_fd(), fd.as_fd()) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOLINK) => {
            fs::remove_file(path).map_err(CaptureError::io("unlink", path))?;
            Ok(false)
        }
        Err(error) => Err(CaptureError::io("BPF_LINK_UPDATE", path)(error)),
        Ok(()) if is_listed(hook, program_id(hook, program)?, cgroup)? => Ok(true),
        Ok(()) => Err(CaptureError::OtherCgroup(path.to_owned())),
    }
}

fn open_link(path: &Path) -> Result<OwnedFd, CaptureError> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| CaptureError::io("open", path)(error.into()))?;
    sys::bpf_object(&text).map_err(CaptureError::io("BPF_OBJ_GET", path))
}

/// Detaches a pinned link at once; the pin stays.
pub(super) fn detach(path: &Path) -> Result<(), CaptureError> {
    let link = open_link(path)?;
    sys::bpf_link_detach(link.as_fd()).map_err(CaptureError::io("BPF_LINK_DETACH", path))
}

fn attach_new(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    // Links are always of the "multi" kind; the kernel takes no mode for them.
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    // An attachment that is no link can't be pinned: Linux before 5.7.
    link.map_err(|_| ProgramError::IOError(io::ErrorKind::Unsupported.into()))
}

/// Pins the program under its name; an older one of that name is replaced in one step.
fn pin_program(
    program: &mut Program,
    directory: &Path,
    name: &'static str,
) -> Result<(), CaptureError> {
    let (path, fresh) = (directory.join(name), directory.join(format!("{name}-new")));
    // Left behind by a start that was interrupted here.
    let _ = fs::remove_file(&fresh);
    program.pin(&fresh).map_err(|cause| CaptureError::Pin {
        path: fresh.clone(),
        cause,
    })?;
    fs::rename(&fresh, &path).map_err(CaptureError::io("rename", path))
}

/// Asks the kernel: is each pinned link there, with a program that the cgroup lists?
pub(super) fn verify(pins: &Pins, cgroup: &Enforced) -> Result<Vec<Layer>, CaptureError> {
    HOOKS
        .into_iter()
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
    object: &Ebpf,
    layers: &[Layer],
    cgroup: &Enforced,
) -> Result<(), CaptureError> {
    for (hook, layer) in HOOKS.into_iter().zip(layers) {
        let program = object
            .program(hook.name)
            .ok_or(CaptureError::Missing(hook.name))?;
        if program_id(hook, program)? != layer.program {
            return Err(CaptureError::NotInForce {
                hook: hook.name,
                cgroup: cgroup.path.clone(),
            });
        }
    }
    Ok(())
}

fn program_id(hook: Hook, program: &Program) -> Result<u32, CaptureError> {
    let info = program.info().map_err(CaptureError::program(hook.name))?;
    Ok(info.id())
}

fn is_listed(hook: Hook, program: u32, cgroup: &Enforced) -> Result<bool, CaptureError> {
    sys::bpf_attached(cgroup.directory.as_fd(), hook.attach_type)
        .map(|ids| ids.contains(&program))
        .map_err(CaptureError::io("BPF_PROG_QUERY", &cgroup.path))
}
