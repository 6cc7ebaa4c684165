//! A bpf file system of a test's own: unmounting it removes every pin, and with the pins
//! what they hold attached.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// A directory for the code under test to mount a bpf file system on. Dropping it
/// unmounts, after a panic too.
#[derive(Debug)]
pub struct TestBpffs {
    directory: TempDir,
}

impl TestBpffs {
    /// Makes the directory.
    ///
    /// # Errors
    /// There is no room for temporary files.
    pub fn new() -> Result<Self> {
        Ok(Self {
            directory: TempDir::with_prefix("portcullis-bpffs-")?,
        })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything that is pinned in or below a directory there, directories left out. (The
    /// kernel puts iterators of its own into the root.)
    pub fn pins(&self, directory: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path().join(directory), &mut found);
        found
    }
}

impl Drop for TestBpffs {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
