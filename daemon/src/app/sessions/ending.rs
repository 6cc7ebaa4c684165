//! How sessions end.
//!
//! An end is final: the kernel's map and the cgroup both remember it, so that a restart does
//! not undo it, and what was started from inside the session ends with it. Connections hear of it from the
//! registry. The processes live on, and reach nothing.

use std::sync::Arc;

use serde::Serialize;

use super::{Sessions, context};
use crate::audit::{Event, Record};
use crate::capture::cgroupfs;
use crate::control::Peer;
use crate::control::server::ControlError;
use crate::identity::{AgentSession, Ending, Now, is_gone};

#[derive(Serialize)]
struct EndBody {
    reason: &'static str,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_uid: Option<u32>,
}

impl Sessions {
    /// Ends what is over: sessions with no process left, and those whose time is up. It may
    /// wait for cgroups to be let go: not for a thread that serves.
    pub(in crate::app) fn reap(&self) {
        for session in self.end_what_is_over() {
            self.remove(&session);
        }
    }

    /// Those with no process left.
    fn end_what_is_over(&self) -> Vec<Arc<AgentSession>> {
        let _changes = self.changes();
        let now = Now::read();
        let mut over = Vec::new();
        for session in self.parts.registry.list().into_iter().rev() {
            if self.is_over(&session) {
                self.end(&session, Ending::Left, None);
                over.push(session);
                continue;
            }
            let expiry = session.expiry;
            let passed = |now: &Now| expiry.is_some_and(|expiry| expiry.has_passed(*now));
            // A clock that can't be read is no reason to wait.
            if expiry.is_some() && now.as_ref().map_or(true, passed) {
                self.end(&session, Ending::Expired, None);
            }
        }
        over
    }

    /// A cgroup of somebody else stays bound while it is there, inhabited or not.
    fn is_over(&self, session: &AgentSession) -> bool {
        let populated = match session.is_in_place() {
            Ok(true) => cgroupfs::is_populated(&session.path),
            // A later one of the same name.
            Ok(false) => return true,
            Err(error) => Err(error),
        };
        match populated {
            Ok(populated) => !populated && !session.is_bound(),
            Err(error) if is_gone(&error) => true,
            Err(error) => {
                let text = format!("session {}: is it over? {error}", session.id);
                self.parts.proxy.report(&text);
                false
            }
        }
    }

    /// From now on nothing passes from it, nor from what was started from inside it.
    pub(super) fn end(&self, session: &AgentSession, ending: Ending, by: Option<u32>) {
        let known = self.parts.registry.known(session.cgroup);
        let Some(known) = known.filter(|known| known.id == session.id && known.ending.is_none())
        else {
            return;
        };
        for inner in self.parts.registry.inside(&session.id) {
            self.end_one(&inner, Ending::Outer, by);
        }
        self.end_one(&known, ending, by);
    }

    fn end_one(&self, session: &AgentSession, ending: Ending, by_uid: Option<u32>) {
        if session.ending.is_some() {
            return;
        }
        if let Err(error) = self.parts.gate.end_session(session.cgroup) {
            tracing::error!("session {}: {error}", session.id);
        }
        let ended = AgentSession {
            ending: Some(ending),
            ..session.clone()
        };
        // Where the cgroup is gone, or another one has its name, there is nothing to write to.
        if session.is_in_place().is_ok_and(|in_place| in_place)
            && let Err(error) = ended.store()
        {
            tracing::error!("session {}: {error}", session.id);
        }
        self.parts.registry.update(ended);
        self.parts.proxy.resolver.forget(session);
        self.record_end(session, ending, by_uid);
    }

    pub(super) fn record_end(&self, session: &AgentSession, ending: Ending, by_uid: Option<u32>) {
        let body = EndBody {
            reason: ending.name(),
            by_uid,
        };
        let context = context(session);
        let record = Record::new(Event::SessionEnd, &context, &body);
        self.parts.proxy.audit.append_later(&record);
    }

    /// Takes away what is left of a session that has ended. Only the reaper does.
    fn remove(&self, session: &AgentSession) {
        // A bound one's directory was never ours; by now the path may be another's.
        if !session.is_bound()
            && let Err(error) = cgroupfs::remove(&session.path)
            && !is_gone(&error)
        {
            // Somebody moved in meanwhile: it stays ended.
            tracing::warn!("cannot remove {}: {error}", session.path.display());
            return;
        }
        let _changes = self.changes();
        if let Err(error) = self.parts.gate.forget_session(session.cgroup) {
            tracing::error!("session {}: {error}", session.id);
        }
        self.parts.registry.remove(session.cgroup);
    }

    /// `portcullis revoke`.
    pub(super) fn revoke_session(
        &self,
        peer: Peer,
        id: &str,
        kill: bool,
    ) -> Result<(), ControlError> {
        let _changes = self.changes();
        let session = self.owned(peer, id)?;
        self.end(&session, Ending::Revoked, Some(peer.uid));
        if kill && !matches!(session.is_in_place(), Ok(false)) {
            cgroupfs::kill(&session.path).map_err(|error| {
                ControlError::Unavailable(format!("revoked, but its processes live on: {error}"))
            })?;
        }
        Ok(())
    }

    /// Root's for everybody, one's own for others.
    pub(super) fn owned(&self, peer: Peer, id: &str) -> Result<Arc<AgentSession>, ControlError> {
        let session = self.parts.registry.by_id(id);
        let session = session.filter(|session| peer.uid == 0 || peer.uid == session.uid);
        session.ok_or_else(|| ControlError::NotFound(format!("you have no agent session {id}")))
    }
}
