//! What the host must have before the gate can be put up: root, Linux 6.1, cgroup2, BTF,
//! bpffs.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::sys::utsname::uname;
use nix::unistd::geteuid;

use super::{CaptureError, cgroupfs};

/// The oldest kernel that the gate was measured on: the programs set a system call's error
/// (`bpf_set_retval`), which those before can't everywhere.
const OLDEST: (u32, u32) = (6, 1);

/// Checks for root, the kernel, cgroup2 and BTF; gives the cgroup2 mount point.
pub(super) fn preflight() -> Result<PathBuf, CaptureError> {
    if !geteuid().is_root() {
        return Err(CaptureError::NotRoot);
    }
    let release = uname().map_err(|errno| CaptureError::io("uname", "/")(errno.into()))?;
    let release = release.release().to_string_lossy();
    if version(&release).is_none_or(|version| version < OLDEST) {
        return Err(CaptureError::OldKernel(release.into_owned()));
    }
    let cgroup2 = cgroupfs::mount_point()?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(CaptureError::NoBtf);
    }
    Ok(cgroup2)
}

/// Major and minor number of `6.1.0-41-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for old in ["5.10.0-32-cloud-amd64", "6.0.19", "5.19"] {
            assert!(version(old) < Some(OLDEST), "{old}");
        }
        for fit in ["6.1.0-56-cloud-amd64", "6.12.95+deb12-amd64", "7.0"] {
            assert!(version(fit) >= Some(OLDEST), "{fit}");
        }
        assert_eq!(version("next"), None);
    }
}
