//! A file that only root can read: `file:/path`, and `systemd:NAME` in the service
//! manager's directory.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Fetched, LIMIT, Pending, Source, VaultError, usable};
use crate::policy::Permit;
use crate::types::Secret;

/// A file of one line.
pub(super) struct Plain(pub(super) PathBuf);

impl Source for Plain {
    fn fetch<'a>(&'a self, permit: &'a Permit) -> Pending<'a, Fetched> {
        // A small file on this host: no thread is worth its while.
        Box::pin(async { Ok(read(permit, &self.0)?.into()) })
    }
}

/// The file of a credential that the service manager gave.
pub(super) fn of_systemd(directory: Option<&Path>, name: &str) -> Result<PathBuf, VaultError> {
    let directory = directory.ok_or_else(|| VaultError::NoDirectory(name.into()))?;
    Ok(directory.join(name))
}

/// Reads the credential from a file. One newline at its end is not part of it.
pub(super) fn read(_permit: &Permit, path: &Path) -> Result<Secret, VaultError> {
    read_private(path)
}

/// The same for what is not a service's own credential but leads to it: a token.
pub(super) fn read_private(path: &Path) -> Result<Secret, VaultError> {
    usable(read_text(path)?).map_err(|problem| VaultError::Content {
        from: format!("file {}", path.display()),
        problem,
    })
}

/// Reads a private key, as it is.
pub(super) fn read_key(_permit: &Permit, path: &Path) -> Result<Secret, VaultError> {
    let key = read_text(path)?;
    if key.expose().len() >= LIMIT {
        return Err(VaultError::Content {
            from: format!("file {}", path.display()),
            problem: "is longer than 64 KiB",
        });
    }
    Ok(key)
}

fn read_text(path: &Path) -> Result<Secret, VaultError> {
    let file = open(path)?;
    // Room for all of it at once: text that grows leaves copies behind.
    let mut text = String::with_capacity(LIMIT + 1);
    let read = file.take(LIMIT as u64 + 1).read_to_string(&mut text);
    if text.ends_with('\n') {
        text.pop();
    }
    // From here on it is wiped, whatever is wrong with it.
    let secret = Secret::new(text);
    read.map(|_| secret).map_err(|source| VaultError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Checks a credential file, without reading what is in it.
pub(super) fn check(path: &Path) -> Result<(), VaultError> {
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
#[path = "file_tests.rs"]
mod tests;
