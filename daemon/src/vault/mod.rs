//! Where a service's credential comes from: a file that only root can read.
//!
//! A credential is handed out only for a [`Permit`], is read anew each time (so that a
//! rotated file counts at once) and is wiped when dropped. Absent for now: other sources.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::policy::Permit;
use crate::types::Secret;

/// The longest credential file that is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// The credential can't be handed out; our configuration is to blame.
#[derive(Debug, Error)]
pub enum VaultError {
    /// A system call failed.
    #[error("cannot read the credential file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else than root may read or change it.
    #[error(
        "the credential file {path} has mode {mode:04o} and owner {uid}: \
         it must be a file of mode 0600 or 0400 that belongs to the daemon's user"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// Nothing usable in it.
    #[error("the credential file {path} {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Reads the credential from a file. One newline at its end is not part of it.
pub fn credential(_permit: &Permit, path: &Path) -> Result<Secret, VaultError> {
    let file = open(path)?;
    let content = |problem| VaultError::Content {
        path: path.to_owned(),
        problem,
    };
    // Room for all of it at once: text that grows leaves copies behind.
    let mut text = String::with_capacity(LIMIT + 1);
    let read = file.take(LIMIT as u64 + 1).read_to_string(&mut text);
    if text.ends_with('\n') {
        text.pop();
    }
    // From here on it is wiped, whatever is wrong with it.
    let secret = Secret::new(text);
    read.map_err(|source| VaultError::Read {
        path: path.to_owned(),
        source,
    })?;
    match secret.expose() {
        [] => Err(content("is empty")),
        bytes if bytes.len() >= LIMIT => Err(content("is longer than 64 KiB")),
        bytes if bytes.iter().any(|byte| b"\n\r\0".contains(byte)) => {
            Err(content("has more than one line"))
        }
        _ => Ok(secret),
    }
}

/// Checks a credential file, without reading what is in it.
pub fn check(path: &Path) -> Result<(), VaultError> {
    open(path).map(drop)
}

/// Opened first and judged by its descriptor, so that nobody can swap it in between.
fn open(path: &Path) -> Result<File, VaultError> {
    let failed = |source| VaultError::Read {
        path: path.to_owned(),
        source,
    };
    // A pipe in its place must not make us wait for a writer.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    let ours = uid == 0 || uid == nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || mode & 0o077 != 0 || !ours {
        return Err(VaultError::Exposed {
            path: path.to_owned(),
            mode,
            uid,
        });
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
