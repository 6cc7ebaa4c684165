//! Cancel keys: the agent's, made by the gate, and the server's that each stands for.
//!
//! A key opens only to the session that it was given to; a forged one cancels nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::CancelKey;
use crate::types::{ConnectionId, ServiceName, SessionId};

/// What a key cancels, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Who was given the key.
    pub(super) session: SessionId,
    /// Whose statement it cancels.
    pub(super) connection: ConnectionId,
    pub(super) service: ServiceName,
    pub(super) upstream: SocketAddr,
    /// The name that the upstream must prove.
    pub(super) host: String,
    /// The server's own key.
    pub(super) key: CancelKey,
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

impl CancelGuard {
    /// What its key cancels.
    pub(super) fn target(&self) -> Option<Target> {
        self.cancels.lock().get(&self.key).cloned()
    }
}

impl Cancels {
    /// Keeps the agent's key for as long as the guard lives.
    pub(super) fn keep(&self, key: CancelKey, target: Target) -> CancelGuard {
        self.lock().insert(key.clone(), target);
        CancelGuard {
            cancels: self.clone(),
            key,
        }
    }

    /// What the key cancels, if `session` was given it for this service.
    pub(super) fn find(
        &self,
        key: &CancelKey,
        session: &SessionId,
        service: &ServiceName,
    ) -> Option<Target> {
        let target = self.lock().get(key).cloned()?;
        (target.session == *session && target.service == *service).then_some(target)
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
    fn a_key_opens_only_to_its_own_session_and_service_and_only_while_it_lives() {
        let cancels = Cancels::default();
        let key = |process| CancelKey {
            process,
            secret: vec![1, 2, 3, 4],
        };
        let (mine, other) = (SessionId::random(), SessionId::random());
        let (shop, web) = (ServiceName::from("shop"), ServiceName::from("web"));
        let target = Target {
            session: mine.clone(),
            connection: ConnectionId::next(),
            service: shop.clone(),
            upstream: "127.0.0.1:5432".parse().expect("literal"),
            host: "127.0.0.1".into(),
            key: key(2),
        };
        let guard = cancels.keep(key(1), target.clone());
        assert_eq!(cancels.find(&key(1), &mine, &shop), Some(target));
        assert_eq!(cancels.find(&key(1), &other, &shop), None);
        assert_eq!(cancels.find(&key(1), &mine, &web), None);
        assert_eq!(cancels.find(&key(2), &mine, &shop), None);
        let mut forged = key(1);
        forged.secret = vec![1, 2, 3, 5];
        assert_eq!(cancels.find(&forged, &mine, &shop), None);
        drop(guard);
        assert_eq!(cancels.find(&key(1), &mine, &shop), None);
    }
}
