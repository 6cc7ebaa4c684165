//! The host's own certificate authority: by it agents know the gate's end of TLS.
//!
//! It signs short-lived certificates for names that the caller vouches for, and nothing
//! else; the key never leaves this module and its file ([`Kept`]). Certificates are kept in
//! memory and renewed long before they end. Absent on purpose: name constraints (the names
//! are the policy's, which changes more often than trust stores do: docs/tls.md), revocation
//! (a certificate lives for a week) and session tickets (PostgreSQL has none either).

mod error;
mod file;
mod kept;
mod leaf;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair};
use rustls::ServerConfig;

pub use error::AuthorityError;
pub use kept::Kept;

/// Certificates that are kept. Their names are the policy's, so a host has far fewer.
const MOST: usize = 1024;
/// A certificate is renewed when it has less than this to live.
const RENEWED_BEFORE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// What a certificate is for: the names that it proves, sorted, and the protocol's own name
/// (ALPN, RFC 7301).
type Purpose = (Vec<Arc<str>>, &'static [u8]);

/// Signs, and keeps what it has signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    ends: SystemTime,
    leaves: Mutex<HashMap<Purpose, Leaf>>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    begins: SystemTime,
    ends: SystemTime,
}

impl TryFrom<Kept> for Authority {
    type Error = AuthorityError;

    fn try_from(kept: Kept) -> Result<Self, AuthorityError> {
        let (certificate, ends) = (kept.pem(), kept.ends());
        Ok(Self {
            issuer: kept.into_issuer()?,
            certificate,
            ends,
            leaves: Mutex::default(),
        })
    }
}

impl Authority {
    /// The authority in `directory`; a new one where there is none yet.
    ///
    /// # Errors
    /// The file is there and is not to be trusted, or none can be made.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        Kept::load_or_make(directory)?.try_into()
    }

    /// A new authority, in a directory that nobody else reaches any more.
    ///
    /// # Errors
    /// None can be made, or there is one all the same.
    pub fn make(directory: &Path) -> Result<Self, AuthorityError> {
        Kept::make(directory)?.try_into()
    }

    /// Its certificate, for trust stores, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Writes its certificate where everybody may read it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn publish(&self, path: &Path) -> Result<(), AuthorityError> {
        file::publish(path, &self.certificate)
    }

    /// TLS settings of a server that proves these hosts, names or addresses. The caller
    /// answers for it that they are the policy's.
    ///
    /// # Errors
    /// A host is no name that a certificate can have.
    pub fn server(
        &self,
        mut hosts: Vec<Arc<str>>,
        protocol: &'static [u8],
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        hosts.sort_unstable();
        hosts.dedup();
        let purpose = (hosts, protocol);
        if let Some(leaf) = self.lock().get(&purpose)
            && leaf.is_fresh(now)
        {
            return Ok(Arc::clone(&leaf.config));
        }
        // Signed without the lock: who needs another certificate does not wait for this one.
        let leaf = leaf::issue(&self.issuer, &purpose, self.ends, now)?;
        let config = Arc::clone(&leaf.config);
        self.keep(purpose, leaf);
        Ok(config)
    }

    fn keep(&self, purpose: Purpose, leaf: Leaf) {
        let mut leaves = self.lock();
        if leaves.len() >= MOST && !leaves.contains_key(&purpose) {
            let oldest = leaves.iter().min_by_key(|(_, leaf)| leaf.ends);
            if let Some(oldest) = oldest.map(|(purpose, _)| purpose.clone()) {
                leaves.remove(&oldest);
            }
        }
        leaves.insert(purpose, leaf);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Purpose, Leaf>> {
        // Each entry is whole by itself.
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaf {
    /// Valid, and not about to end; also after somebody has set the clock back.
    fn is_fresh(&self, now: SystemTime) -> bool {
        self.begins <= now && now + RENEWED_BEFORE < self.ends
    }
}

#[cfg(test)]
mod tests;
