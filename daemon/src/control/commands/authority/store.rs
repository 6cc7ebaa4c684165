//! The host's trust store: a directory of certificates, and the program that takes them up.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// The certificate's file there.
const NAME: &str = "portcullis.crt";

/// One way to keep a trust store.
#[derive(Debug)]
struct Store {
    anchors: &'static str,
    /// Takes up what was added.
    update: &'static [&'static str],
    /// Forgets what was removed.
    renew: &'static [&'static str],
}

/// The first whose directory is there is the host's.
const STORES: [Store; 4] = [
    // Debian, Ubuntu, Alpine.
    Store {
        anchors: "/usr/local/share/ca-certificates",
        update: &["update-ca-certificates"],
        renew: &["update-ca-certificates", "--fresh"],
    },
    // Fedora, RHEL.
    Store {
        anchors: "/etc/pki/ca-trust/source/anchors",
        update: &["update-ca-trust", "extract"],
        renew: &["update-ca-trust", "extract"],
    },
    // SUSE.
    Store {
        anchors: "/etc/pki/trust/anchors",
        update: &["update-ca-certificates"],
        renew: &["update-ca-certificates", "--fresh"],
    },
    // Arch.
    Store {
        anchors: "/etc/ca-certificates/trust-source/anchors",
        update: &["update-ca-trust", "extract"],
        renew: &["update-ca-trust", "extract"],
    },
];

/// Puts the certificate in; says what was done.
pub(super) fn trust(pem: &str) -> anyhow::Result<String> {
    let store = find(Path::new("/"))?;
    let file = Path::new(store.anchors).join(NAME);
    super::write(&file, pem)?;
    run(store.update)?;
    Ok(format!("trusted: {}", file.display()))
}

/// Takes it out; says what was done.
pub(super) fn untrust() -> anyhow::Result<String> {
    let store = find(Path::new("/"))?;
    let file = Path::new(store.anchors).join(NAME);
    match fs::remove_file(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.with_context(|| format!("cannot remove {}", file.display()))?,
    }
    run(store.renew)?;
    Ok(format!("no longer trusted: {}", file.display()))
}

fn find(root: &Path) -> anyhow::Result<&'static Store> {
    let there = |store: &&Store| root.join(store.anchors.trim_start_matches('/')).is_dir();
    let Some(store) = STORES.iter().find(there) else {
        let known = STORES.map(|store| store.anchors).join(", ");
        bail!(
            "no trust store that this command knows ({known}): `portcullis authority export` \
             gives you the certificate"
        );
    };
    Ok(store)
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_the_one_whose_directory_is_there() {
        for store in &STORES {
            let root = tempfile::tempdir().expect("directory");
            let error = find(root.path()).expect_err("none").to_string();
            assert!(error.contains("authority export"), "{error}");
            let anchors = root.path().join(store.anchors.trim_start_matches('/'));
            fs::create_dir_all(anchors).expect("mkdir");
            assert_eq!(find(root.path()).expect("found").anchors, store.anchors);
        }
    }
}
