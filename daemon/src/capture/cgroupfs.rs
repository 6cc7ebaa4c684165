//! The cgroup v2 file system: where it is, and the few files of it that the gate uses.
//!
//! A cgroup's id is the inode number of its directory. Absent: controllers and limits.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::CaptureError;
use crate::types::CgroupId;

/// Where the cgroup2 hierarchy is mounted, from `/proc/self/mountinfo`.
///
/// # Errors
/// There is none (a host that knows only version 1).
pub fn mount_point() -> Result<PathBuf, CaptureError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(CaptureError::io("read", path))?;
    find_cgroup2(&text).ok_or(CaptureError::NoCgroup2)
}

/// The mount point of the first cgroup2 line whose root is the hierarchy's own
/// (proc_pid_mountinfo(5): fields 4, 5, and the type after the dash).
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_cgroup2 = file_system.split(' ').next() == Some("cgroup2");
        (is_cgroup2 && root == "/").then(|| PathBuf::from(unescape(point)))
    })
}

/// Undoes the octal escapes of mountinfo for the characters that it escapes.
fn unescape(point: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(point.to_owned(), |text, (code, plain)| {
            text.replace(code, plain)
        })
}

/// Makes a cgroup and those above it; one that exists is taken as it is.
pub fn create(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// The id that the kernel programs see for a cgroup directory.
pub fn id(path: &Path) -> io::Result<CgroupId> {
    Ok(CgroupId(fs::metadata(path)?.ino()))
}

/// The cgroup of a process, as a directory of this mount (proc_pid_cgroup(5), the line
/// of hierarchy 0).
///
/// # Errors
/// The process is gone, or lives outside the mount's part of the hierarchy.
pub fn of_process(pid: u32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::other("it has no cgroup2 line"))?;
    if path.split('/').any(|part| part == "..") {
        return Err(io::Error::other(
            "it lives outside this part of the cgroup2 hierarchy",
        ));
    }
    Ok(mount_point().map_err(io::Error::other)?.join(path))
}

/// Moves a process, all its threads, into a cgroup.
pub fn move_process(path: &Path, pid: u32) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), pid.to_string())
}

/// Is there a live process in the cgroup or below it?
pub fn is_populated(path: &Path) -> io::Result<bool> {
    let events = fs::read_to_string(path.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "populated 1"))
}

/// All cgroups below this one, outer ones first.
///
/// # Errors
/// `path` itself can't be listed; what vanishes meanwhile is left out.
pub fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            let inner = below(&path).unwrap_or_default();
            found.push(path);
            found.extend(inner);
        }
    }
    Ok(found)
}

/// The threads in the cgroup and below it, as far as they can be listed.
pub fn threads(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.threads")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(threads(&entry.path()));
        }
    }
    found
}

/// Kills every process in the cgroup and below it (Linux 5.14).
pub fn kill(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")
}

/// Removes an empty cgroup and the empty ones below it.
///
/// # Errors
/// `EBUSY` while a process lives there, and a little longer.
pub fn try_remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            try_remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The same; a process that has just died may hold it for up to a second, which is waited
/// for.
///
/// # Errors
/// `EBUSY` while a process lives there.
pub fn remove(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match try_remove(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < 50 => {
                if is_populated(path)? {
                    return Err(error);
                }
                tries += 1;
                sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy_beside_version_1_and_bind_mounts() {
        let mountinfo = "\
31 24 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
32 24 0:28 /docker/x /inner rw - cgroup2 cgroup2 rw
33 24 0:28 / /sys/fs/cgroup/uni\\040fied rw,nosuid shared:10 - cgroup2 cgroup2 rw
";
        let found = find_cgroup2(mountinfo);
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/uni fied")));
        assert_eq!(
            find_cgroup2("31 24 0:27 / /x rw - cgroup cgroup rw,cpu\n"),
            None
        );
    }
}
