//! What a daemon under test could leave in the kernel: its cgroup, its bpffs, its pins; and
//! what a container in that cgroup could, where the host has version 1 hierarchies too.
//!
//! Finding and removing are apart: the demo and the tests look first, and only the guard's
//! last resort removes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use crate::wait;

/// How long a cgroup may stay busy after its last process has ended.
const GONE: Duration = Duration::from_secs(5);

/// Where to look.
#[derive(Debug, Clone)]
pub struct Leftovers {
    /// The enforced cgroup; none where no cgroup2 is mounted.
    pub cgroup: Option<PathBuf>,
    /// The mount point of the guard's own bpffs.
    pub bpffs: PathBuf,
    /// The directory of the pins on it.
    pub pins: String,
}

impl Leftovers {
    /// One line for each thing that is still there; empty if all is clean.
    pub fn find(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(dir) = self.cgroup.as_ref().filter(|dir| dir.exists()) {
            found.push(format!("cgroup {}", dir.display()));
        }
        for dir in self.version1() {
            found.push(format!("cgroup {}", dir.display()));
        }
        for pin in files_below(&self.bpffs.join(&self.pins)) {
            found.push(format!("pin {}", pin.display()));
        }
        found
    }

    /// The processes in the cgroup and below it.
    pub fn processes(&self) -> Vec<u32> {
        self.cgroup
            .iter()
            .flat_map(|dir| directories_below(dir))
            .flat_map(|dir| pids(&dir))
            .collect()
    }

    /// Ends the processes in the cgroup and waits until it is empty.
    pub fn end_processes(&self) -> Result<()> {
        let Some(dir) = self.cgroup.as_ref().filter(|dir| dir.exists()) else {
            return Ok(());
        };
        let kill = dir.join("cgroup.kill");
        fs::write(&kill, "1").with_context(|| format!("write {}", kill.display()))?;
        wait::until("the cgroup to be empty", Duration::from_secs(10), || {
            Ok(self.processes().is_empty().then_some(()))
        })
    }

    /// The directories of the same name in the version 1 hierarchies of a hybrid host: runc
    /// makes its container's path in each of them, and takes only the last part away again.
    fn version1(&self) -> Vec<PathBuf> {
        let name = self.cgroup.as_ref().and_then(|dir| dir.file_name());
        let mounts = mounts().into_iter().filter(|(_, kind)| kind == "cgroup");
        name.into_iter()
            .flat_map(|name| mounts.clone().map(move |(mount, _)| mount.join(name)))
            .filter(|dir| dir.exists())
            .collect()
    }

    /// Removes what is there, without asking the daemon. Unmounting the guard's own bpffs
    /// drops its pins, and with them the last reference to the programs.
    pub fn sweep(&self) {
        if is_mount_point(&self.bpffs)
            && let Err(error) = umount2(&self.bpffs, MntFlags::MNT_DETACH)
        {
            eprintln!("umount {}: {error}", self.bpffs.display());
        }
        if let Err(error) = self.end_processes() {
            eprintln!("{error:#}");
        }
        let own = self.cgroup.iter().filter(|dir| dir.exists()).cloned();
        for dir in own.chain(self.version1()) {
            if let Err(error) = wait::until("rmdir", GONE, || remove_tree(&dir)) {
                eprintln!("{}: {error:#}", dir.display());
            }
        }
    }
}

/// Removes a cgroup and those below it; nothing if one of them is still in use.
fn remove_tree(dir: &Path) -> Result<Option<()>> {
    for dir in directories_below(dir).iter().rev() {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(None),
            // Whoever made it has removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done.with_context(|| format!("rmdir {}", dir.display()))?,
        }
    }
    Ok(Some(()))
}

/// Where the cgroup v2 hierarchy is mounted: not always at `/sys/fs/cgroup`.
pub fn cgroup2_mount() -> Option<PathBuf> {
    mounts()
        .into_iter()
        .find(|(_, kind)| kind == "cgroup2")
        .map(|(point, _)| point)
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> bool {
    mounts().iter().any(|(point, _)| point == path)
}

fn mounts() -> Vec<(PathBuf, String)> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((PathBuf::from(words.next()?), words.next()?.to_owned()))
        })
        .collect()
}

/// The processes directly in a cgroup.
pub fn pids(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A directory and all below it, parents first.
fn directories_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
    }
    found
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    directories_below(dir)
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| !path.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup as the daemon would leave it, with a process in a child of it.
    #[test]
    fn finds_and_removes_a_cgroup_with_a_process() {
        let mount = cgroup2_mount().expect("cgroup2 is mounted");
        let name = format!("portcullis-test-left-{}", std::process::id());
        let left = Leftovers {
            cgroup: Some(mount.join(&name)),
            bpffs: "/nonexistent".into(),
            pins: name.clone(),
        };
        let child = mount.join(&name).join("s-1");
        fs::create_dir_all(&child).expect("mkdir (root?)");
        let mut sleep = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep");
        fs::write(child.join("cgroup.procs"), sleep.id().to_string()).expect("join");
        assert_eq!(left.processes(), [sleep.id()]);
        assert_eq!(left.find().len(), 1);
        // Reaped beside the sweep: a zombie would stay in cgroup.procs.
        let reaper = std::thread::spawn(move || sleep.wait());
        left.sweep();
        assert!(left.find().is_empty());
        reaper.join().expect("reaper").expect("wait");
    }
}
