//! Where a service's credential comes from: one trait, one file for each source.
//!
//! A credential is handed out only for a [`Permit`]. What has no lease is read anew for each
//! connection (so that a rotated secret counts at once), with those that ask at the same
//! time sharing one answer; what has one is kept for it, renewed in time and given back at
//! the end. Memory is wiped when dropped. Absent on purpose: which service may use what.

mod environment;
mod error;
mod exec;
mod file;
mod handed;
pub mod hashicorp;
mod shared;
mod term;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::policy::{CredentialRef, Permit};
use crate::types::{Credential, Secret};
pub use error::VaultError;
pub use handed::{Handed, Stamp};
use hashicorp::{HashiCorp, TokenId};
use shared::Shared;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);

/// How long giving back may take at the end, and then the log-out.
const FAREWELL: Duration = Duration::from_secs(2);

/// The longest secret, in bytes.
const LIMIT: usize = 64 * 1024;

/// What a source gives, and for how long it may be used.
struct Fetched {
    credential: Credential,
    lease: Option<Lease>,
}

impl From<Secret> for Fetched {
    fn from(secret: Secret) -> Self {
        Self {
            credential: secret.into(),
            lease: None,
        }
    }
}

/// For how long a credential may be used.
#[derive(Clone)]
struct Lease {
    /// The server's name of it, for renewing and giving back.
    id: Option<String>,
    lasts: Duration,
    renewable: bool,
    /// It ends with this one.
    token: Option<TokenId>,
}

/// An answer that takes time.
type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, VaultError>> + Send + 'a>>;

/// A place that credentials come from.
trait Source: Send + Sync {
    /// Reads it now.
    fn fetch<'a>(&'a self, permit: &'a Permit) -> Pending<'a, Fetched>;

    /// Makes a lease longer: how long it lasts from now.
    fn renew<'a>(&'a self, _id: &'a str) -> Pending<'a, Duration> {
        Box::pin(async { Err(VaultError::NotRenewable) })
    }

    /// Whether what the lease hangs on is still there, as far as is known without asking.
    fn lives(&self, _lease: &Lease) -> bool {
        true
    }

    /// Gives a lease back before its end.
    fn revoke<'a>(&'a self, _id: &'a str) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What the composition root supplies.
#[derive(Default)]
pub struct Parts {
    /// Taken out of the daemon's environment, by name.
    pub environment: HashMap<String, Secret>,
    /// The service manager's `$CREDENTIALS_DIRECTORY`.
    pub systemd: Option<PathBuf>,
    /// The server that `vault` means.
    pub hashicorp: Option<hashicorp::Settings>,
}

/// All credentials of the policy's services.
pub struct Vault {
    environment: Arc<HashMap<String, Secret>>,
    systemd: Option<PathBuf>,
    hashicorp: Option<Arc<HashiCorp>>,
    all: Mutex<All>,
}

/// What is handed out now.
#[derive(Default)]
struct All {
    shared: HashMap<CredentialRef, Arc<Shared>>,
    /// By the newest policy, and its generation.
    named: HashSet<CredentialRef>,
    generation: u64,
    /// The daemon stops.
    closed: bool,
}

impl Vault {
    /// Reads nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            environment: Arc::new(parts.environment),
            systemd: parts.systemd,
            hashicorp: parts.hashicorp.map(|it| Arc::new(HashiCorp::new(it))),
            all: Mutex::default(),
        }
    }

    /// Hands out a credential.
    ///
    /// # Errors
    /// It can't be had, or can't be used; the text names no part of it.
    pub async fn credential(
        &self,
        permit: &Permit,
        from: &CredentialRef,
    ) -> Result<Handed, Arc<VaultError>> {
        // A file costs less than waiting for another reader of it.
        if let CredentialRef::File(path) = from {
            return Ok(Handed::new(file::read(permit, path)?.into()));
        }
        loop {
            let shared = self.shared(permit, from)?;
            if let Some(answer) = shared.credential(permit).await {
                return answer;
            }
        }
    }

    /// Hands out a private key in PEM form: unlike a credential, it has several lines.
    ///
    /// # Errors
    /// It can't be had, or is kept where no key can be; the text names no part of it.
    pub fn key(&self, permit: &Permit, from: &CredentialRef) -> Result<Secret, VaultError> {
        match from {
            CredentialRef::File(path) => file::read_key(permit, path),
            CredentialRef::Systemd(name) => {
                file::read_key(permit, &file::of_systemd(self.systemd(), name)?)
            }
            CredentialRef::Env(_) | CredentialRef::Exec(_) | CredentialRef::Vault(_) => {
                Err(VaultError::NotNamed)
            }
        }
    }

    /// Whether it could be handed out, as far as that can be told without reading it or
    /// asking anybody.
    ///
    /// # Errors
    /// It could not.
    pub fn check(&self, from: &CredentialRef) -> Result<(), VaultError> {
        match from {
            CredentialRef::File(path) => file::check(path),
            CredentialRef::Systemd(name) => file::check(&file::of_systemd(self.systemd(), name)?),
            CredentialRef::Env(name) => environment::find(&self.environment, name).map(drop),
            CredentialRef::Exec(helper) => exec::check(helper),
            CredentialRef::Vault(_) => self.hashicorp().map(drop),
        }
    }

    /// The service did not take the one with this stamp: the next who asks gets another.
    /// Heeded once in a while only, and never for another one than that.
    pub fn distrust(&self, from: &CredentialRef, stamp: &Stamp) {
        if let Some(shared) = self.lock().shared.get(from) {
            shared.distrust(stamp);
        }
    }

    /// Gives back what the policy of this generation does not name any more, and hands it
    /// out no more for an older one.
    pub fn retain<'a>(&self, generation: u64, named: impl Iterator<Item = &'a CredentialRef>) {
        let gone: Vec<_> = {
            let mut all = self.lock();
            if generation < all.generation {
                return;
            }
            all.generation = generation;
            let named = named.cloned().collect();
            all.named.clone_from(&named);
            let gone = all.shared.extract_if(|from, _| !named.contains(from));
            gone.collect()
        };
        for (_, shared) in gone {
            tokio::spawn(async move { shared.give_back().await });
        }
    }

    /// Renews leases in time, for as long as the daemon runs.
    pub async fn keep(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut work = JoinSet::new();
            for shared in self.all() {
                work.spawn(async move { shared.keep().await });
            }
            if let Some(server) = self.hashicorp.clone() {
                work.spawn(async move { server.keep().await });
            }
            while work.join_next().await.is_some() {}
        }
    }

    /// Gives back everything; nothing is handed out any more.
    pub async fn close(&self) {
        let gone = {
            let mut all = self.lock();
            all.closed = true;
            std::mem::take(&mut all.shared)
        };
        let mut work = JoinSet::new();
        for shared in gone.into_values() {
            work.spawn(async move { shared.give_back().await });
        }
        let done = timeout(FAREWELL, async {
            while work.join_next().await.is_some() {}
        });
        if done.await.is_err() {
            tracing::warn!("not all leases are given back in time; they end by themselves");
        }
        if let Some(server) = &self.hashicorp
            && timeout(FAREWELL, server.log_out()).await.is_err()
        {
            tracing::warn!("Vault's token is not given back in time, and ends by itself");
        }
    }

    fn shared(&self, permit: &Permit, from: &CredentialRef) -> Result<Arc<Shared>, VaultError> {
        let mut all = self.lock();
        if all.closed {
            return Err(VaultError::Stopped);
        }
        if let Some(shared) = all.shared.get(from) {
            return Ok(Arc::clone(shared));
        }
        // It was given back, and nobody would do so again.
        if permit.generation() < all.generation && !all.named.contains(from) {
            return Err(VaultError::NotNamed);
        }
        let shared = Arc::new(Shared::new(self.source(from)?));
        all.shared.insert(from.clone(), Arc::clone(&shared));
        Ok(shared)
    }

    fn source(&self, from: &CredentialRef) -> Result<Box<dyn Source>, VaultError> {
        Ok(match from {
            CredentialRef::File(path) => Box::new(file::Plain(path.clone())),
            CredentialRef::Systemd(name) => {
                Box::new(file::Plain(file::of_systemd(self.systemd(), name)?))
            }
            CredentialRef::Env(name) => Box::new(environment::Variable {
                all: Arc::clone(&self.environment),
                name: name.clone(),
            }),
            CredentialRef::Exec(helper) => Box::new(exec::Program(helper.clone())),
            CredentialRef::Vault(place) => Box::new(hashicorp::Place {
                server: self.hashicorp()?,
                place: place.clone(),
            }),
        })
    }

    fn systemd(&self) -> Option<&Path> {
        self.systemd.as_deref()
    }

    fn hashicorp(&self) -> Result<Arc<HashiCorp>, VaultError> {
        self.hashicorp.clone().ok_or(VaultError::NoServer)
    }

    fn all(&self) -> Vec<Arc<Shared>> {
        self.lock().shared.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Each change is whole before the lock is let go.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A secret that can be presented: one line, with something in it.
fn usable(secret: Secret) -> Result<Secret, &'static str> {
    match secret.expose() {
        [] => Err("is empty"),
        bytes if bytes.len() >= LIMIT => Err("is longer than 64 KiB"),
        bytes if bytes.iter().any(|byte| b"\n\r\0".contains(byte)) => Err("has more than one line"),
        _ => Ok(secret),
    }
}
