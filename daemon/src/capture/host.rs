//! What the host must have before the gate can be put up: root, cgroup2, BTF, bpffs.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use super::{CaptureError, cgroupfs};

/// Checks for root, cgroup2 and BTF; gives the cgroup2 mount point.
pub(super) fn preflight() -> Result<PathBuf, CaptureError> {
    if !geteuid().is_root() {
        return Err(CaptureError::NotRoot);
    }
    let cgroup2 = cgroupfs::mount_point()?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(CaptureError::NoBtf);
    }
    Ok(cgroup2)
}

/// Mounts a bpf file system at `path` unless one is there.
pub(super) fn mount_bpffs(path: &Path) -> Result<(), CaptureError> {
    make_dir(path)?;
    if is_bpffs(path)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| CaptureError::io("mount -t bpf bpf", path)(errno.into()))
}

pub(super) fn is_bpffs(path: &Path) -> Result<bool, CaptureError> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == BPF_FS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(CaptureError::io("statfs", path)(errno.into())),
    }
}

/// Makes a directory that only root may enter, and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), CaptureError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(CaptureError::io("mkdir", path))
}

/// Takes the lock that keeps a second daemon off the same pins.
pub(super) fn lock(pins: &Path) -> Result<Flock<File>, CaptureError> {
    let directory = File::open(pins).map_err(CaptureError::io("open", pins))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => CaptureError::Busy(pins.to_owned()),
        other => CaptureError::io("flock", pins)(io::Error::from(other)),
    })
}
