//! The sessions of this moment, by cgroup.
//!
//! A session that has ended stays in it while processes live in its cgroup: what they try
//! is still recorded as theirs. Only [`Registry::find`] says that something may pass.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::{AgentSession, Ending, Now};
use crate::types::{CgroupId, SessionId};

/// A session as it changes: renewed, ended.
#[derive(Debug)]
pub struct Live {
    state: ArcSwap<AgentSession>,
    ended: watch::Sender<bool>,
}

impl Live {
    fn new(session: AgentSession) -> Self {
        Self {
            ended: watch::Sender::new(session.ending.is_some()),
            state: ArcSwap::from_pointee(session),
        }
    }

    /// What is known of it now.
    pub fn current(&self) -> Arc<AgentSession> {
        self.state.load_full()
    }

    /// The same for a short look, which holds up whoever changes it no more than a copy.
    pub fn look(&self) -> Guard<Arc<AgentSession>> {
        self.state.load()
    }

    /// The same, while something may pass from it.
    ///
    /// # Errors
    /// Why nothing may.
    pub fn alive(&self) -> Result<Guard<Arc<AgentSession>>, Ending> {
        let session = self.look();
        if let Some(ending) = session.ending {
            return Err(ending);
        }
        let passed = session
            .expiry
            .is_some_and(|expiry| Now::read().map_or(true, |now| expiry.has_passed(now)));
        if passed {
            return Err(Ending::Expired);
        }
        Ok(session)
    }

    /// Turns true when the session ends.
    pub fn end(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }
}

/// The sessions by cgroup.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: RwLock<HashMap<CgroupId, Arc<Live>>>,
}

impl Registry {
    /// Adds a session.
    pub fn insert(&self, session: AgentSession) {
        let cgroup = session.cgroup;
        self.write().insert(cgroup, Arc::new(Live::new(session)));
    }

    /// Puts what is now known in the place of what was; its connections hear of an end.
    /// Nothing if the session is gone.
    pub fn update(&self, session: AgentSession) {
        let live = self.read().get(&session.cgroup).cloned();
        if let Some(live) = live.filter(|live| live.current().id == session.id) {
            let ended = session.ending.is_some();
            live.state.store(Arc::new(session));
            live.ended.send_if_modified(|before| {
                let news = ended && !*before;
                *before |= ended;
                news
            });
        }
    }

    /// The session of a cgroup, if something may pass from it.
    pub fn find(&self, cgroup: CgroupId) -> Option<Arc<Live>> {
        let live = self.read().get(&cgroup).cloned()?;
        live.alive().is_ok().then_some(live)
    }

    /// The same, ended or not.
    pub fn live(&self, cgroup: CgroupId) -> Option<Arc<Live>> {
        self.read().get(&cgroup).cloned()
    }

    /// What is known of the session of a cgroup, ended or not.
    pub fn known(&self, cgroup: CgroupId) -> Option<Arc<AgentSession>> {
        self.read().get(&cgroup).map(|live| live.current())
    }

    /// The session of this id, ended or not.
    pub fn by_id(&self, id: &str) -> Option<Arc<AgentSession>> {
        let sessions = self.read();
        let mut all = sessions.values().map(|live| live.current());
        all.find(|session| session.id.as_str() == id)
    }

    /// Those that were started from inside `id`, at any depth.
    pub fn inside(&self, id: &SessionId) -> Vec<Arc<AgentSession>> {
        let mut all = self.list();
        all.retain(|session| session.chain.contains(id));
        all
    }

    /// Takes a session out.
    pub fn remove(&self, cgroup: CgroupId) {
        self.write().remove(&cgroup);
    }

    /// All sessions, ended ones too, oldest first.
    pub fn list(&self) -> Vec<Arc<AgentSession>> {
        let mut all: Vec<_> = self.read().values().map(|live| live.current()).collect();
        all.sort_by(|a, b| a.started.cmp(&b.started));
        all
    }

    /// How many something may pass from.
    pub fn living(&self) -> usize {
        let sessions = self.read();
        let living = sessions.values().filter(|live| live.alive().is_ok());
        living.count()
    }

    /// How many there are, ended ones too.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // The map is whole between any two calls, so a panic elsewhere leaves it usable.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<CgroupId, Arc<Live>>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CgroupId, Arc<Live>>> {
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
