//! Which files and directories are the daemon's own: an agent that runs as root must not
//! see them, whatever their mode is.

use std::path::{Path, PathBuf};

use crate::capture::OwnFiles;
use crate::config::{Config, DEFAULT_PATH};
use crate::policy::{CredentialRef, Policy};

/// Directories that others use as well: there the one file is hidden, not its directory.
const SHARED: [&str; 10] = [
    "/", "/etc", "/home", "/root", "/run", "/srv", "/tmp", "/var", "/var/log", "/var/tmp",
];

/// The configuration's own; a policy's credentials are found by [`credentials`].
pub(super) fn of_config(config: &Config) -> Vec<PathBuf> {
    let mut hidden = vec![
        config.run_dir.clone(),
        config.gate.bpffs.clone(),
        config.policies.clone(),
        directory_or_file(&config.audit.file),
    ];
    hidden.push(directory_or_file(Path::new(DEFAULT_PATH)));
    hidden.extend(systemd_credentials());
    hidden.extend(config.vault.secret_file().map(directory_or_file));
    hidden
}

/// Where the policy's credentials are, as far as they are files.
pub(super) fn credentials(policy: &Policy) -> Vec<PathBuf> {
    let mut hidden: Vec<PathBuf> = policy
        .services()
        .filter_map(|service| match &service.credential {
            CredentialRef::File(path) => Some(directory_or_file(path)),
            // The configuration knows where the others are.
            _ => None,
        })
        .collect();
    hidden.sort();
    hidden.dedup();
    hidden
}

/// What the kernel programs hold against every session, whoever started it: the same files,
/// each credential by itself too (its directory may be shared, or its path a link), and the
/// daemon's own program.
pub(super) fn from_every_session(of_config: &[PathBuf], policy: &Policy) -> OwnFiles {
    let files = policy
        .services()
        .filter_map(|service| match &service.credential {
            CredentialRef::File(path) => Some(path.clone()),
            _ => None,
        });
    let mut hidden = [of_config, &credentials(policy)].concat();
    hidden.extend(files);
    OwnFiles {
        hidden,
        kept: std::env::current_exe().into_iter().collect(),
    }
}

/// Where the service manager has put the daemon's credentials.
pub(super) fn systemd_credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn directory_or_file(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !SHARED.iter().any(|shared| parent == Path::new(shared)) => parent.into(),
        _ => file.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_directory_is_not_hidden_whole() {
        for (file, hidden) in [
            ("/var/log/portcullis/audit.jsonl", "/var/log/portcullis"),
            ("/var/log/audit.jsonl", "/var/log/audit.jsonl"),
            ("/tmp/secret", "/tmp/secret"),
        ] {
            assert_eq!(directory_or_file(Path::new(file)), Path::new(hidden));
        }
    }

    #[test]
    fn the_directories_of_credentials_are_found() {
        let text = "version: 1\nservices:\n  a: {proto: postgres, at: ['127.0.0.1:1'], \
                    tls: disable, user: u, credential: file:/etc/portcullis/secrets/a}\n";
        let (policy, _) = Policy::from_texts([("p.yaml", text)], 1).expect("policy");
        assert_eq!(credentials(&policy), [Path::new("/etc/portcullis/secrets")]);
        let own = from_every_session(&["/run/portcullis".into()], &policy);
        let all = [
            "/run/portcullis",
            "/etc/portcullis/secrets",
            "/etc/portcullis/secrets/a",
        ];
        assert_eq!(own.hidden, all.map(PathBuf::from));
        assert_eq!(own.kept, [std::env::current_exe().expect("a program")]);
    }
}
