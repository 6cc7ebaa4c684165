//! HashiCorp Vault and OpenBao, by their HTTP API: key-value engine version 2, and users
//! that the database engine makes, with their leases.
//!
//! One server, from the daemon's configuration; the policy says only where in it. Paths
//! and answers are those of the public API documentation; the real server is not part of
//! the tests (docs/secrets.md). Absent on purpose: engines that nothing here logs in with.

mod answers;
mod api;
mod call;
mod login;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Fetched, Lease, Pending, Source, VaultError, exec, usable};
use crate::policy::{Permit, VaultRef};
use crate::types::Credential;
use answers::{Kv, Leased};
pub use api::HashiCorp;
pub(super) use token::TokenId;

/// The server, and how the daemon proves itself to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://vault.corp:8200`; plain http on the loopback only.
    pub address: hyper::Uri,
    /// A PEM file of authorities; without it the system's.
    pub ca: Option<PathBuf>,
    /// A namespace (Vault Enterprise, OpenBao).
    pub namespace: Option<String>,
    /// Who the daemon is.
    pub login: Login,
    /// For each call.
    pub patience: Duration,
}

/// How the daemon gets a token.
#[derive(Debug, Clone)]
pub enum Login {
    /// Somebody else keeps one in this file; read for each call.
    TokenFile(PathBuf),
    /// The AppRole method.
    AppRole {
        /// Its mount: `approle`.
        mount: String,
        /// Not secret.
        role_id: String,
        /// A file, read at each login.
        secret_id_file: PathBuf,
    },
}

/// A place in the server.
pub(super) struct Place {
    pub(super) server: Arc<HashiCorp>,
    pub(super) place: VaultRef,
}

impl Source for Place {
    fn fetch<'a>(&'a self, _permit: &'a Permit) -> Pending<'a, Fetched> {
        Box::pin(async move {
            match &self.place {
                VaultRef::Kv { path, field } => self.kv(path, field).await,
                VaultRef::Database { path } => self.database(path).await,
            }
        })
    }

    fn renew<'a>(&'a self, id: &'a str) -> Pending<'a, Duration> {
        Box::pin(async move {
            let body = answers::lease_body(id);
            let leased: Leased = self.server.put("sys/leases/renew", body).await?;
            Ok(Duration::from_secs(leased.lease_duration))
        })
    }

    fn revoke<'a>(&'a self, id: &'a str) -> Pending<'a, ()> {
        let body = answers::lease_body(id);
        Box::pin(async move { self.server.tell("sys/leases/revoke", body).await })
    }

    fn lives(&self, lease: &Lease) -> bool {
        lease.token.is_none_or(|token| self.server.uses(token))
    }
}

impl Place {
    async fn kv(&self, path: &str, field: &str) -> Result<Fetched, VaultError> {
        let (mut kv, _): (Kv, _) = self.server.get(path).await?;
        let wrong = |problem| VaultError::Answer {
            what: path.into(),
            problem,
        };
        let fields = kv.data.data.take().unwrap_or_default();
        let secret = fields.into_inner(field);
        let secret = secret.ok_or(wrong("has no such field with text in it"))?;
        Ok(usable(secret).map_err(wrong)?.into())
    }

    async fn database(&self, path: &str) -> Result<Fetched, VaultError> {
        let (leased, token): (Leased, _) = self.server.get(path).await?;
        let wrong = |problem| VaultError::Answer {
            what: path.into(),
            problem,
        };
        let data = leased.data.ok_or(wrong("has no user"))?;
        if !exec::is_user(&data.username) {
            return Err(wrong("has a user that is no user name"));
        }
        let credential = Credential {
            user: Some(data.username),
            secret: usable(data.password).map_err(wrong)?,
        };
        let lease = (!leased.lease_id.is_empty()).then(|| Lease {
            id: Some(leased.lease_id),
            lasts: Duration::from_secs(leased.lease_duration),
            renewable: leased.renewable,
            token: Some(token),
        });
        Ok(Fetched { credential, lease })
    }
}
