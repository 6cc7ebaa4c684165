//! Which files and directories are the daemon's own: an agent that runs as root must not
//! see them, whatever their mode is.

use std::path::{Path, PathBuf};

use crate::capture::OwnFiles;
use crate::config::{Config, DEFAULT_PATH};
use crate::control::agent_socket;
use crate::policy::{CredentialRef, Policy, Service, Tls};

/// Directories that others use as well: there the one file is hidden, not its directory.
const SHARED: [&str; 10] = [
    "/", "/etc", "/home", "/root", "/run", "/srv", "/tmp", "/var", "/var/log", "/var/tmp",
];

/// The configuration's own; a policy's credentials are found by [`credentials`].
pub(super) fn of_config(config: &Config) -> Vec<PathBuf> {
    let mut hidden = vec![
        config.run_dir.clone(),
        config.state_dir.clone(),
        config.gate.bpffs.clone(),
        config.policies.clone(),
        directory_or_file(&config.audit.file),
        // Ours whole, whether or not the configuration is in it.
        directory_or_file(Path::new(DEFAULT_PATH)),
        // Elsewhere its directory may be anybody's.
        config.file.clone(),
    ];
    hidden.extend(systemd_credentials());
    hidden.extend(config.vault.secret_file().map(directory_or_file));
    hidden
}

/// Where the policy's credentials are, as far as they are files.
pub(super) fn credentials(policy: &Policy) -> Vec<PathBuf> {
    let files = credential_files(policy);
    let mut hidden: Vec<PathBuf> = files.map(directory_or_file).collect();
    hidden.sort();
    hidden.dedup();
    hidden
}

fn credential_files(policy: &Policy) -> impl Iterator<Item = &Path> {
    let secrets = policy.services().flat_map(Service::secrets);
    secrets.filter_map(|secret| match secret {
        CredentialRef::File(path) => Some(path.as_path()),
        // The configuration knows where the others are.
        _ => None,
    })
}

/// What the daemon or an agent believes or runs: who can change it decides for them.
pub(super) fn kept_of_config(config: &Config) -> Vec<PathBuf> {
    let issuers = config.identity.issuers.iter();
    let issuers = issuers.flat_map(|issuer| [&issuer.jwks_file, &issuer.ca]);
    let mut kept: Vec<PathBuf> = issuers.flatten().cloned().collect();
    kept.extend(config.vault.ca.clone());
    kept.extend(std::env::current_exe());
    // Where agents come: who could put another socket or certificate there would be the gate.
    kept.extend(agent_socket(&config.socket()).parent().map(Path::to_owned));
    kept
}

fn kept_of_policy(policy: &Policy) -> impl Iterator<Item = PathBuf> {
    policy.services().flat_map(|service| {
        let ca = match &service.tls {
            Tls::VerifyFull { ca } => ca.clone(),
            Tls::Disable => None,
        };
        let programs = service.secrets().filter_map(|secret| match secret {
            CredentialRef::Exec(helper) => helper.argv.first().map(PathBuf::from),
            _ => None,
        });
        let chain = service.client_cert.as_ref().map(|cert| cert.chain.clone());
        ca.into_iter().chain(programs).chain(chain)
    })
}

/// What the kernel programs hold against every session, whoever started it: the same files,
/// each secret by itself too (its directory may be shared, or its path a link), and, against
/// changes, what the daemon believes or runs.
pub(super) fn from_every_session(of_config: &OwnFiles, policy: &Policy) -> OwnFiles {
    let mut own = of_config.clone();
    own.hidden.extend(credentials(policy));
    own.hidden
        .extend(credential_files(policy).map(Path::to_owned));
    own.kept.extend(kept_of_policy(policy));
    own
}

/// The configuration's part of it.
pub(super) fn by_config(config: &Config) -> OwnFiles {
    let mut hidden = of_config(config);
    hidden.extend(config.vault.secret_file().map(Path::to_owned));
    OwnFiles {
        hidden,
        kept: kept_of_config(config),
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
    fn what_the_daemon_believes_and_runs_is_kept_and_its_secrets_are_hidden_by_themselves() {
        let text = "version: 1\nservices:\n  a: {proto: postgres, at: ['db.corp:1'], \
                    tls: verify-full, ca: /srv/ca.pem, user: u, credential: {exec: [/opt/give, x]}, \
                    client_cert: /srv/gate.crt, client_key: file:/srv/gate.key}\n  \
                    b: {proto: postgres, at: ['127.0.0.1:1'], tls: disable, user: u, \
                    credential: file:/srv/secret, \
                    users: {v: 'file:/srv/other', w: {exec: [/opt/other]}}}\n";
        let (policy, _) = Policy::from_texts([("p.yaml", text)], 1).expect("policy");
        let text = "identity: {issuers: [{issuer: 'https://i', audience: a, \
                    jwks_file: /srv/keys.json, ca: /srv/issuer.pem}]}\n\
                    vault: {address: 'https://v', ca: /srv/vault.pem, token_file: /srv/v/token}\n";
        let mut config = Config::parse(text).expect("config");
        config.file = "/opt/p.yaml".into();
        let own = from_every_session(&by_config(&config), &policy);
        for path in [
            "/srv/ca.pem",
            "/srv/gate.crt",
            "/srv/keys.json",
            "/srv/issuer.pem",
            "/srv/vault.pem",
            "/opt/give",
            "/opt/other",
            "/run/portcullis-agents",
        ] {
            assert!(own.kept.contains(&path.into()), "{path}: {:?}", own.kept);
        }
        for path in [
            "/opt/p.yaml",
            "/srv/v",
            "/srv/v/token",
            "/srv/secret",
            "/srv/gate.key",
            "/srv/other",
        ] {
            assert!(
                own.hidden.contains(&path.into()),
                "{path}: {:?}",
                own.hidden
            );
        }
    }

    #[test]
    fn the_directories_of_credentials_are_found() {
        let text = "version: 1\nservices:\n  a: {proto: postgres, at: ['127.0.0.1:1'], \
                    tls: disable, user: u, credential: file:/etc/portcullis/secrets/a}\n";
        let (policy, _) = Policy::from_texts([("p.yaml", text)], 1).expect("policy");
        assert_eq!(credentials(&policy), [Path::new("/etc/portcullis/secrets")]);
        let config = OwnFiles {
            hidden: vec!["/run/portcullis".into()],
            kept: vec![],
        };
        let own = from_every_session(&config, &policy);
        let all = [
            "/run/portcullis",
            "/etc/portcullis/secrets",
            "/etc/portcullis/secrets/a",
        ];
        assert_eq!(own.hidden, all.map(PathBuf::from));
        assert_eq!(own.kept, Vec::<PathBuf>::new());
    }
}
