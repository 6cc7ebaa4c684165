//! Files and directories that nobody else has a hand in.
//!
//! Invariant: what others could have read or changed is not used, and what is made is there
//! whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::AuthorityError;
use crate::types::Secret;
use crate::whole;

/// Key and certificate take about 1,200 bytes.
const LIMIT: u64 = 64 * 1024;

/// For us only, if it is not there.
pub(super) fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(directory)
        .map_err(call("mkdir", directory))?;
    check_directory(directory)
}

/// Puts the file there, unless there is one already: whether it did.
pub(super) fn place(path: &Path, text: &Secret) -> Result<bool, AuthorityError> {
    let new = whole::write_aside(path, text.expose(), 0o600).map_err(call("write", path))?;
    let flags = RenameFlags::RENAME_NOREPLACE;
    let placed = renameat2(AT_FDCWD, &new, AT_FDCWD, path, flags).map_err(io::Error::from);
    match placed {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) => {
            // Nothing of a key stays lying about.
            let _ = std::fs::remove_file(&new);
            match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(false),
                _ => Err(call("rename to", path)(error)),
            }
        }
    }
}

/// Puts an empty file there, unless there is one already.
pub(super) fn mark(path: &Path) -> Result<(), AuthorityError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Ok(_) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(call("write", path)(error)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), AuthorityError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(call("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// Removes the files whose names begin so: what was left half way, with a key in it perhaps.
pub(super) fn sweep(directory: &Path, prefix: &str) -> Result<(), AuthorityError> {
    let entries = std::fs::read_dir(directory).map_err(call("readdir", directory))?;
    for entry in entries {
        let entry = entry.map_err(call("readdir", directory))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), AuthorityError> {
    let directory = path.parent().unwrap_or(path);
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(call("fsync", directory))
}

/// Who can put files into the directory can put another authority there.
pub(super) fn check_directory(directory: &Path) -> Result<(), AuthorityError> {
    let metadata = match std::fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AuthorityError::None(directory.to_owned()));
        }
        Err(error) => return Err(call("stat", directory)(error)),
    };
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if metadata.is_dir() && mode & 0o022 == 0 && is_ours(uid) {
        return Ok(());
    }
    Err(AuthorityError::Exposed {
        path: directory.to_owned(),
        mode,
        uid,
        kind: "directory",
        what: "write to",
    })
}

/// Opened first and judged by its descriptor, so that nobody can swap it in between.
pub(super) fn read(path: &Path) -> Result<Secret, AuthorityError> {
    let mut options = OpenOptions::new();
    // Neither a link elsewhere nor a pipe that waits for a writer.
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AuthorityError::None(
                path.parent().unwrap_or(path).to_owned(),
            ));
        }
        Err(error) => return Err(call("open", path)(error)),
    };
    let metadata = file.metadata().map_err(call("stat", path))?;
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    if !metadata.is_file() || mode & 0o077 != 0 || !is_ours(uid) {
        return Err(AuthorityError::Exposed {
            path: path.to_owned(),
            mode,
            uid,
            kind: "file",
            what: "read",
        });
    }
    let mut text = String::new();
    let read = file.take(LIMIT).read_to_string(&mut text);
    let text = Secret::new(text);
    read.map_err(call("read", path))?;
    Ok(text)
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// Puts the certificate where everybody may read it, whole or not at all.
pub(super) fn publish(path: &Path, certificate: &str) -> Result<(), AuthorityError> {
    whole::replace(path, certificate.as_bytes(), 0o644).map_err(call("write", path))
}

fn call(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    move |source| AuthorityError::Call {
        call,
        path: path.to_owned(),
        source,
    }
}
