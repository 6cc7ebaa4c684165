//! Where a service's credential comes from: a file that only root can read.
//!
//! A credential is handed out only for a [`Permit`], is read anew each time (so that a
//! rotated file counts at once) and is wiped when dropped. Absent for now: other sources.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::policy::Permit;
use crate::types::Secret;

/// The longest credential file that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

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
    let failed = |source| VaultError::Read {
        path: path.to_owned(),
        source,
    };
    // Opened first and judged by its descriptor, so that nobody can swap it in between.
    let mut file = File::open(path).map_err(failed)?;
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
    let content = |problem| VaultError::Content {
        path: path.to_owned(),
        problem,
    };
    if metadata.len() > LIMIT {
        return Err(content("is longer than 64 KiB"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() {
        return Err(content("is empty"));
    }
    if text.contains(['\n', '\r', '\0']) {
        return Err(content("has more than one line"));
    }
    Ok(Secret::new(text))
}

/// Checks a credential file at start, without keeping what is in it.
pub fn check(path: &Path) -> Result<(), VaultError> {
    let metadata = std::fs::metadata(path).map_err(|source| VaultError::Read {
        path: path.to_owned(),
        source,
    })?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if !metadata.is_file() || mode & 0o077 != 0 {
        return Err(VaultError::Exposed {
            path: path.to_owned(),
            mode,
            uid,
        });
    }
    Ok(())
}
