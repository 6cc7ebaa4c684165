//! A vault and the stand-in that it asks.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use tempfile::NamedTempFile;

use super::server::{Inside, Shared, start};
use super::*;
use crate::policy::VaultRef;
use crate::vault::hashicorp::{Login, Settings};

/// A file of the daemon's user only.
pub(super) fn private(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("file");
    std::fs::write(file.path(), text).expect("write");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file.path(), mode).expect("chmod");
    file
}

pub(super) fn settings(address: &str, login: Login) -> Settings {
    Settings {
        address: address.parse().expect("address"),
        ca: None,
        namespace: None,
        login,
        patience: Duration::from_millis(400),
    }
}

pub(super) fn vault(settings: Settings) -> Arc<Vault> {
    Arc::new(Vault::new(Parts {
        hashicorp: Some(settings),
        ..Parts::default()
    }))
}

pub(super) struct Bench {
    pub(super) inside: Shared,
    pub(super) vault: Arc<Vault>,
    pub(super) secret: NamedTempFile,
}

pub(super) async fn with_token() -> Bench {
    let (inside, address) = start(Inside {
        tokens: vec!["hvs.file".into()],
        lease_lasts: 60,
        ..Inside::default()
    })
    .await;
    let file = private("hvs.file\n");
    let login = Login::TokenFile(file.path().into());
    Bench {
        inside,
        vault: vault(settings(&address, login)),
        secret: file,
    }
}

pub(super) async fn with_approle(token_lasts: u64, lease_lasts: u64) -> Bench {
    let (inside, address) = start(Inside {
        token_lasts,
        lease_lasts,
        ..Inside::default()
    })
    .await;
    let file = private("the-secret-id\n");
    let login = Login::AppRole {
        mount: "approle".into(),
        role_id: "role".into(),
        secret_id_file: file.path().into(),
    };
    Bench {
        inside,
        vault: vault(settings(&address, login)),
        secret: file,
    }
}

impl Bench {
    pub(super) async fn get(&self, from: &CredentialRef) -> Result<Handed, String> {
        let given = self.vault.credential(&permit(), from).await;
        given.map_err(|error| error.to_string())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.inside.lock().expect("lock"));
    }

    pub(super) fn asked(&self, what: &str) -> usize {
        let inside = self.inside.lock().expect("lock");
        inside.asked.iter().filter(|one| *one == what).count()
    }

    /// Waits for what a task of the vault does.
    pub(super) async fn until(&self, what: &str, fits: impl Fn(&Inside) -> bool) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !fits(&self.inside.lock().expect("lock")) {
            assert!(Instant::now() < limit, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(super) fn kv(path: &str, field: &str) -> CredentialRef {
    CredentialRef::Vault(VaultRef::Kv {
        path: path.into(),
        field: field.into(),
    })
}

pub(super) fn database() -> CredentialRef {
    CredentialRef::Vault(VaultRef::Database {
        path: "database/creds/ro".into(),
    })
}
