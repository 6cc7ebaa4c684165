//! Files that are there whole or not at all, in place of what was there before.
//!
//! Invariant: whoever opens the path finds the old contents or the new, with the mode that
//! was asked for whatever the mask is; no link there leads the writing elsewhere.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Puts a file there, or replaces the plain file that is there.
///
/// # Errors
/// Something else is there, a link too; a system call fails.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            let problem = "what is there is no plain file";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let new = write_aside(path, contents, mode)?;
    let renamed = fs::rename(&new, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&new);
    }
    renamed
}

/// Writes a file beside the path, to be renamed; it has a name of its own.
///
/// # Errors
/// A system call fails; then nothing is left.
pub fn write_aside(path: &Path, contents: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(contents)?;
        // Whatever the mask was.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map(|()| new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn it_replaces_a_file_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        for (contents, mode) in [("first", 0o644), ("second", 0o600)] {
            replace(&path, contents.as_bytes(), mode).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), contents);
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, mode);
            assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        }
    }

    #[test]
    fn neither_a_link_nor_anything_else_than_a_file_is_written_through_or_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("other"), "untouched").expect("write");
        symlink(path("other"), path("link")).expect("symlink");
        symlink(path("nowhere"), path("dangling")).expect("symlink");
        fs::create_dir(path("directory")).expect("mkdir");
        for name in ["link", "dangling", "directory"] {
            let error = replace(&path(name), b"new", 0o644).expect_err(name);
            assert!(error.to_string().contains("no plain file"), "{error}");
        }
        assert_eq!(
            fs::read_to_string(path("other")).expect("there"),
            "untouched"
        );
        assert!(!path("nowhere").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 4);
    }
}
