//! Where a service's credential is kept, as the policy says it; never the credential.
//!
//! One line (`file:`, `systemd:`, `env:`) for what is only named, a mapping for what has
//! settings (`exec`, `vault`); this module reads the parts, `file/credential.rs` the YAML.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialRef {
    /// A file that only root may read; an absolute path.
    File(PathBuf),
    /// A file of the service manager's `$CREDENTIALS_DIRECTORY`, by its name there.
    Systemd(String),
    /// A variable of the daemon's environment.
    Env(String),
    /// What a program prints.
    Exec(Helper),
    /// HashiCorp Vault, OpenBao.
    Vault(VaultRef),
}

/// A program that prints a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Helper {
    /// Its absolute path and its arguments; no shell reads them.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// What it prints.
    pub format: HelperFormat,
}

/// What a [`Helper`] prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HelperFormat {
    /// The secret, one line.
    Text,
    /// `{"secret": .., "user": .., "lease_seconds": ..}`, the last two optional.
    Json,
}

/// A place in HashiCorp Vault or OpenBao; the server is the daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VaultRef {
    /// A field of a secret of the key-value engine, version 2.
    Kv {
        /// The path of the API, without `/v1/`: `secret/data/app`.
        path: String,
        /// The secret's field.
        field: String,
    },
    /// A user of the database engine's making, `database/creds/ROLE`.
    Database {
        /// The path of the API, without `/v1/`.
        path: String,
    },
}

const HELP: &str = "write file:/path/of/the/secret, systemd:NAME, env:NAME, \
                    {exec: [/path, argument]} or {vault: secret/data/app#password}";

/// What is wrong with a text, and what would be right.
pub(super) type Wrong = (String, &'static str);

impl CredentialRef {
    /// Reads `file:/path`, `systemd:NAME` or `env:NAME`.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(("a credential is not written into a policy".into(), HELP));
        };
        match scheme {
            "file" if Path::new(rest).is_absolute() => Ok(Self::File(rest.into())),
            "file" => Err(("the path of the credential is not absolute".into(), HELP)),
            "systemd" if is_plain_name(rest) => Ok(Self::Systemd(rest.into())),
            "systemd" => Err((
                "the name of a systemd credential is one file name".into(),
                "the NAME of the unit's LoadCredential=NAME:/path",
            )),
            "env" if is_variable(rest) => Ok(Self::Env(rest.into())),
            "env" => Err((
                "what stands behind `env:` can't be the name of a variable".into(),
                "write env:NAME, with letters, digits and `_`",
            )),
            "exec" => Err((
                "a program is a list, as no shell reads it".into(),
                "write credential: {exec: [/path/of/the/program, argument]}",
            )),
            "vault" => Err((
                "a place in Vault is a mapping".into(),
                "write credential: {vault: secret/data/app#password}",
            )),
            other => {
                let other = other.escape_debug();
                let message =
                    format!("credentials from `{other}:` are not supported by this version");
                Err((message, HELP))
            }
        }
    }
}

impl VaultRef {
    /// Reads `mount/data/path#field` or `mount/creds/role`.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        const HELP: &str = "write secret/data/app#password (key-value engine, version 2) or \
                            database/creds/role (database engine): the API's path without /v1/";
        let (path, field) = match text.split_once('#') {
            Some((path, field)) => (path, Some(field)),
            None => (text, None),
        };
        let segment = |segment: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
            !segment.is_empty() && segment.chars().all(plain) && !["..", "."].contains(&segment)
        };
        if !path.split('/').all(segment) {
            return Err(("this is no path in Vault".into(), HELP));
        }
        // A path has a mount before the word and a name behind it.
        let has = |words: &[&str]| {
            let inside = path
                .split_once('/')
                .and_then(|(_, rest)| rest.rsplit_once('/'));
            inside.is_some_and(|(middle, _)| middle.split('/').any(|word| words.contains(&word)))
        };
        match field {
            Some("") => Err(("there is no field behind the `#`".into(), HELP)),
            Some(field) if has(&["data"]) => Ok(Self::Kv {
                path: path.into(),
                field: field.into(),
            }),
            Some(_) => Err((
                "a path of the key-value engine has `data` behind its mount".into(),
                HELP,
            )),
            None if has(&["creds", "static-creds"]) => Ok(Self::Database { path: path.into() }),
            None if has(&["data"]) => Err(("the path does not say which field".into(), HELP)),
            None => Err(("this is no path of the database engine".into(), HELP)),
        }
    }

    /// The path of the API, without `/v1/`.
    pub fn path(&self) -> &str {
        match self {
            Self::Kv { path, .. } | Self::Database { path } => path,
        }
    }
}

/// A file name that leads nowhere else.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains('/')
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_reference() {
        for (text, expected) in [
            ("file:/etc/x", CredentialRef::File("/etc/x".into())),
            ("systemd:db.pw", CredentialRef::Systemd("db.pw".into())),
            ("env:DB_PW", CredentialRef::Env("DB_PW".into())),
        ] {
            assert_eq!(CredentialRef::parse(text).expect(text), expected);
        }
        for (text, message) in [
            ("hunter2", "not written into a policy"),
            ("file:secret", "not absolute"),
            ("systemd:../x", "one file name"),
            ("systemd:", "one file name"),
            ("env:A=B", "name of a variable"),
            ("env:1", "name of a variable"),
            ("exec:/bin/x", "a program is a list"),
            ("vault:secret/x", "is a mapping"),
            ("keyring:x", "`keyring:` are not supported by this version"),
        ] {
            let (said, _) = CredentialRef::parse(text).expect_err(text);
            assert!(said.contains(message), "{said}");
        }
    }

    #[test]
    fn a_path_in_vault_says_its_engine() {
        let kv = |path: &str, field: &str| VaultRef::Kv {
            path: path.into(),
            field: field.into(),
        };
        let database = |path: &str| VaultRef::Database { path: path.into() };
        for (text, expected) in [
            (
                "secret/data/app#password",
                kv("secret/data/app", "password"),
            ),
            ("a/b/data/c/d#x y", kv("a/b/data/c/d", "x y")),
            ("database/creds/ro", database("database/creds/ro")),
            ("db/static-creds/ro", database("db/static-creds/ro")),
        ] {
            assert_eq!(VaultRef::parse(text).expect(text), expected);
        }
        for (text, message) in [
            ("secret/app#password", "has `data` behind its mount"),
            ("data/app#password", "has `data` behind its mount"),
            ("secret/data/app", "which field"),
            ("secret/data/app#", "no field"),
            ("/secret/data/app#p", "no path in Vault"),
            ("secret/data/../sys#p", "no path in Vault"),
            ("secret/data/a?b#p", "no path in Vault"),
            ("sys/health", "no path of the database engine"),
        ] {
            let (said, _) = VaultRef::parse(text).expect_err(text);
            assert!(said.contains(message), "{text}: {said}");
        }
    }
}
