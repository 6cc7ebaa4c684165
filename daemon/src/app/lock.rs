//! One daemon for each run directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Takes the lock, and writes our process id into it for the next one to read.
///
/// # Errors
/// Another daemon holds it; the error names it.
pub(super) fn take(run_dir: &Path) -> anyhow::Result<Flock<File>> {
    let dir = run_dir.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run_dir)
        .with_context(|| format!("cannot make {dir}"))?;
    let path = run_dir.join("lock");
    let options = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .mode(0o600)
        .clone();
    let file = options
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "another portcullisd holds {} (pid {}): stop it first",
                path.display(),
                holder.trim()
            )
        }
    }
}
