//! A cgroup name of a test's own, and its removal with everything that runs in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// A name for a cgroup below the cgroup2 mount. Dropping it kills what runs there and
/// removes the directories, after a panic too.
#[derive(Debug)]
pub struct TestCgroup {
    name: String,
    path: PathBuf,
}

impl TestCgroup {
    /// Finds the cgroup2 mount and chooses a name that no other test has. The directory
    /// itself is for the code under test to make.
    ///
    /// # Errors
    /// There is no cgroup2 mount.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-test-{}-{number}", std::process::id());
        let path = cgroup2()?.join(&name);
        Ok(Self { name, path })
    }

    /// The name, relative to the mount.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..100 {
            remove_tree(&self.path);
            if !self.path.exists() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("left behind: {}", self.path.display());
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

fn cgroup2() -> Result<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    mountinfo
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .context("no cgroup2 file system is mounted")
}
