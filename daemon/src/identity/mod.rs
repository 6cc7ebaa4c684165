//! Agent sessions: which cgroup acts for whom.
//!
//! A session is written into an extended attribute of its own cgroup directory
//! (`trusted.portcullis.session`, readable and writable by CAP_SYS_ADMIN only, kernel
//! 5.7 for cgroup2). So it survives the daemon, dies with the cgroup, and can't be
//! mistaken when a cgroup id is used again. Absent for now: tokens, bindings, expiry.

pub mod token;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{CgroupId, Principal, SessionId};

const ATTRIBUTE: &str = "trusted.portcullis.session";

/// A session's identity can't be kept or read.
#[derive(Debug, Error)]
#[error("cannot {call} the session attribute of cgroup {}: {source}", path.display())]
pub struct IdentityError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// One agent session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSession {
    /// Its id, also its directory's name.
    pub id: SessionId,
    /// Whom it acts for.
    pub principal: Principal,
    /// The cgroup directory.
    pub path: PathBuf,
    /// Kernel id of that directory.
    pub cgroup: CgroupId,
    /// The user that started it.
    pub uid: u32,
    /// When, as RFC 3339 text.
    pub started: String,
}

impl AgentSession {
    /// Writes the session into its cgroup.
    pub fn store(&self) -> Result<(), IdentityError> {
        let fail = |source| IdentityError {
            call: "write",
            path: self.path.clone(),
            source,
        };
        let value = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        xattr::set(&self.path, ATTRIBUTE, &value).map_err(fail)
    }

    /// Reads the session that the cgroup `path` with kernel id `cgroup` belongs to; none
    /// if nobody wrote one, or if it speaks of another directory.
    pub fn recall(path: &Path, cgroup: CgroupId) -> Result<Option<Self>, IdentityError> {
        let fail = |source| IdentityError {
            call: "read",
            path: path.to_owned(),
            source,
        };
        let Some(value) = xattr::get(path, ATTRIBUTE).map_err(fail)? else {
            return Ok(None);
        };
        let session: Self = serde_json::from_slice(&value).map_err(|error| fail(error.into()))?;
        Ok((session.cgroup == cgroup && session.path == path).then_some(session))
    }
}

/// The live sessions by cgroup.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: RwLock<HashMap<CgroupId, Arc<AgentSession>>>,
}

impl Registry {
    /// Adds a session.
    pub fn insert(&self, session: AgentSession) -> Arc<AgentSession> {
        let session = Arc::new(session);
        self.write().insert(session.cgroup, Arc::clone(&session));
        session
    }

    /// The session of a cgroup.
    pub fn find(&self, cgroup: CgroupId) -> Option<Arc<AgentSession>> {
        self.read().get(&cgroup).cloned()
    }

    /// Takes a session out.
    pub fn remove(&self, cgroup: CgroupId) -> Option<Arc<AgentSession>> {
        self.write().remove(&cgroup)
    }

    /// All sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<AgentSession>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by(|a, b| a.started.cmp(&b.started));
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // The map is whole between any two calls, so a panic elsewhere leaves it usable.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<CgroupId, Arc<AgentSession>>> {
        self.sessions
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<CgroupId, Arc<AgentSession>>> {
        self.sessions
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
