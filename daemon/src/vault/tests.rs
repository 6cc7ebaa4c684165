//! A vault of sources that the tests play.

mod bench;
mod hashicorp;
mod leases;
mod server;
mod token;

use super::*;
use crate::policy::{Decision, Policy};
use crate::types::{Principal, ServiceName};

const POLICY: &str = "
version: 1
roles: {analyst: {}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:5432'], user: u, credential: 'file:/x'}
rules:
  - {id: read, role: analyst, allow: [sql.select], on: ['shop/*']}
";

pub(super) fn permit() -> Permit {
    let (policy, _) = Policy::from_texts([("p.yaml", POLICY)], 1).expect("policy");
    let principal = Principal::named("analyst");
    match policy.admit(&principal, &ServiceName::from("shop")) {
        Decision::Allow(permit) => permit,
        Decision::Deny(denial) => panic!("{}", denial.message()),
    }
}

/// What was handed out, as text.
fn text(handed: &Handed) -> String {
    String::from_utf8(handed.credential.secret.expose().to_vec()).expect("text")
}

#[tokio::test]
async fn a_variable_is_handed_out_as_it_was_at_the_start() {
    let environment = [("PW", "hunter2"), ("TWO", "one\ntwo"), ("EMPTY", "")];
    let secret = |(name, value): (&str, &str)| (name.to_owned(), Secret::new(value.into()));
    let vault = Vault::new(Parts {
        environment: environment.into_iter().map(secret).collect(),
        ..Parts::default()
    });
    let from = |name: &str| CredentialRef::Env(name.into());
    let given = vault.credential(&permit(), &from("PW")).await;
    assert_eq!(text(&given.expect("there")), "hunter2");
    for (name, message) in [
        ("TWO", "in the variable TWO has more than one line"),
        ("EMPTY", "is empty"),
        (
            "PATH",
            "was not in the daemon's environment when it started",
        ),
    ] {
        let error = vault.credential(&permit(), &from(name)).await;
        let error = error.expect_err(name).to_string();
        assert!(error.contains(message), "{error}");
        assert!(vault.check(&from(name)).is_err());
    }
}

#[tokio::test]
async fn a_systemd_credential_is_a_private_file_of_its_directory() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("shop");
    std::fs::write(&file, "hunter2\n").expect("write");
    let from = CredentialRef::Systemd("shop".into());
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, mode).expect("chmod");
    };
    set(0o400);
    let vault = Vault::new(Parts {
        systemd: Some(directory.path().into()),
        ..Parts::default()
    });
    let given = vault.credential(&permit(), &from).await.expect("there");
    assert_eq!(text(&given), "hunter2");
    set(0o444);
    let error = vault.credential(&permit(), &from).await;
    // Within the linger of the last answer only those who asked before it had come share it.
    let error = error.expect_err("exposed").to_string();
    assert!(error.contains("mode 0444"), "{error}");
    let none = Vault::new(Parts::default());
    let error = none.credential(&permit(), &from).await;
    let error = error.expect_err("no directory").to_string();
    assert!(
        error.contains("$CREDENTIALS_DIRECTORY is not set"),
        "{error}"
    );
}

#[tokio::test]
async fn a_place_in_vault_needs_a_server() {
    let vault = Vault::new(Parts::default());
    let from = CredentialRef::Vault(crate::policy::VaultRef::Database {
        path: "database/creds/ro".into(),
    });
    let error = vault.credential(&permit(), &from).await;
    let error = error.expect_err("no server").to_string();
    assert!(error.contains("no `vault:`"), "{error}");
}
