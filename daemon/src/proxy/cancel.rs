//! Cancel keys: the agent's, made by the gate, and the server's that each stands for.
//!
//! A key opens only to the session that it was given to; a forged one cancels nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::{CancelKey, CancelKeys};
use crate::types::SessionId;

#[derive(Debug, Clone)]
struct Target {
    session: SessionId,
    upstream: SocketAddr,
    key: CancelKey,
}

/// The keys of all open connections.
#[derive(Debug, Default, Clone)]
pub(super) struct Cancels(Arc<Mutex<HashMap<CancelKey, Target>>>);

/// Keeps a key until its connection ends.
#[derive(Debug)]
pub(super) struct CancelGuard {
    cancels: Cancels,
    key: CancelKey,
}

impl Cancels {
    /// Keeps the pair for as long as the guard lives.
    pub(super) fn keep(
        &self,
        keys: CancelKeys,
        session: SessionId,
        upstream: SocketAddr,
    ) -> CancelGuard {
        let target = Target {
            session,
            upstream,
            key: keys.upstream,
        };
        self.lock().insert(keys.agent.clone(), target);
        CancelGuard {
            cancels: self.clone(),
            key: keys.agent,
        }
    }

    /// Where the key leads, if `session` holds it.
    pub(super) fn find(
        &self,
        key: &CancelKey,
        session: &SessionId,
    ) -> Option<(SocketAddr, CancelKey)> {
        let target = self.lock().get(key).cloned()?;
        (target.session == *session).then_some((target.upstream, target.key))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CancelKey, Target>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_only_to_its_own_session_and_only_while_it_lives() {
        let cancels = Cancels::default();
        let key = |process| CancelKey {
            process,
            secret: vec![1, 2, 3, 4],
        };
        let keys = CancelKeys {
            agent: key(1),
            upstream: key(2),
        };
        let (mine, other) = (SessionId::random(), SessionId::random());
        let upstream: SocketAddr = "127.0.0.1:5432".parse().expect("literal");
        let guard = cancels.keep(keys, mine.clone(), upstream);
        assert_eq!(cancels.find(&key(1), &mine), Some((upstream, key(2))));
        assert_eq!(cancels.find(&key(1), &other), None);
        assert_eq!(cancels.find(&key(2), &mine), None);
        drop(guard);
        assert_eq!(cancels.find(&key(1), &mine), None);
    }
}
