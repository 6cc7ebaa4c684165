use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::vault::tests::permit;

/// What is handed out for a file of this content and mode.
fn handed_out(content: &[u8], mode: u32) -> Result<Vec<u8>, VaultError> {
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), content).expect("write");
    fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("chmod");
    assert_eq!(check(file.path()).is_ok(), mode & 0o077 == 0);
    read(&permit(), file.path()).map(|secret| secret.expose().to_vec())
}

#[test]
fn one_newline_at_the_end_is_not_part_of_it() {
    for (content, expected) in [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        (" spaces \n", " spaces "),
        ("p\u{e4}ss\n", "p\u{e4}ss"),
    ] {
        let secret = handed_out(content.as_bytes(), 0o600).expect(content);
        assert_eq!(secret, expected.as_bytes());
    }
    let most = "x".repeat(LIMIT - 1);
    let secret = handed_out(most.as_bytes(), 0o400).expect("fits");
    assert_eq!(secret, most.as_bytes());
}

#[test]
fn what_is_no_line_is_no_credential() {
    let long = "x".repeat(LIMIT);
    for content in ["", "\n", "one\ntwo\n", "one\n\n", "one\r\n", "a\0b", &long] {
        let error = handed_out(content.as_bytes(), 0o600).expect_err("handed out");
        assert!(matches!(error, VaultError::Content { .. }), "{error}");
        assert!(!error.to_string().contains("two"), "{error}");
    }
    let error = handed_out(b"\xff\xfe", 0o600).expect_err("handed out");
    assert!(matches!(error, VaultError::Read { .. }), "{error}");
}

#[test]
fn a_file_that_others_may_touch_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o602, 0o601, 0o610, 0o666] {
        let error = handed_out(b"hunter2", mode).expect_err("handed out");
        let exposed = matches!(error, VaultError::Exposed { .. });
        assert!(exposed, "{mode:o}: {error}");
        let shown = error.to_string().contains(&format!("{mode:04o}"));
        assert!(shown, "{error}");
    }
    for mode in [0o600, 0o400] {
        assert!(handed_out(b"hunter2", mode).is_ok(), "{mode:o}");
    }
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested: only root can give files away");
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), "hunter2").expect("write");
    std::os::unix::fs::chown(file.path(), Some(65534), None).expect("chown");
    for refused in [read(&permit(), file.path()).map(drop), check(file.path())] {
        let error = refused.expect_err("handed out");
        let exposed = matches!(error, VaultError::Exposed { uid: 65534, .. });
        assert!(exposed, "{error}");
    }
}

#[test]
fn only_a_file_is_one_and_nothing_is_waited_for() {
    let dir = tempfile::tempdir().expect("dir");
    let pipe = dir.path().join("pipe");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&pipe, mode).expect("mkfifo");
    for path in [pipe.as_path(), dir.path()] {
        assert!(read(&permit(), path).is_err(), "{}", path.display());
        assert!(check(path).is_err(), "{}", path.display());
    }
    let nothing = dir.path().join("nothing");
    let error = read(&permit(), &nothing).expect_err("handed out");
    assert!(error.to_string().contains("nothing"), "{error}");
}
