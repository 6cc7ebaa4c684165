//! How sessions end, and how one is given more time.
//!
//! An end is final: it is written into the cgroup, so that a restart does not undo it, and
//! what was started from inside the session ends with it. Connections hear of it from the
//! registry. The processes live on, and reach nothing.

use std::sync::Arc;

use serde::Serialize;

use super::{Sessions, context};
use crate::audit::{Event, Record};
use crate::capture::cgroupfs;
use crate::control::Peer;
use crate::control::server::ControlError;
use crate::identity::{AgentSession, Ending, Expiry, Now};
use crate::types::{Principal, Proof};

#[derive(Serialize)]
struct EndBody {
    reason: &'static str,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_uid: Option<u32>,
}

#[derive(Serialize)]
struct RenewBody {
    expires: Option<String>,
    roles: Vec<String>,
}

impl Sessions {
    /// Ends what is over: sessions with no process left, and those whose time is up.
    pub(in crate::app) fn reap(&self) {
        let _changes = self.changes();
        let now = Now::read();
        for session in self.parts.registry.list().iter().rev() {
            if self.is_over(session) {
                self.end(session, Ending::Left, None);
                self.remove(session);
                continue;
            }
            let expiry = session.expiry;
            let passed = |now: &Now| expiry.is_some_and(|expiry| expiry.has_passed(*now));
            // A clock that can't be read is no reason to wait.
            if expiry.is_some() && now.as_ref().map_or(true, passed) {
                self.end(session, Ending::Expired, None);
            }
        }
    }

    /// A cgroup of somebody else stays bound while it is there, inhabited or not.
    fn is_over(&self, session: &AgentSession) -> bool {
        match cgroupfs::is_populated(&session.path) {
            Ok(populated) => !populated && !session.is_bound(),
            Err(_) => true,
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
        if ending != Ending::Left
            && let Err(error) = ended.store()
        {
            tracing::error!("session {}: {error}", session.id);
        }
        self.parts.registry.update(ended);
        self.parts.proxy.resolver.forget(session);
        let body = EndBody {
            reason: ending.name(),
            by_uid,
        };
        let context = context(session);
        self.parts
            .proxy
            .audit
            .append_later(&Record::new(Event::SessionEnd, &context, &body));
    }

    /// Takes away what is left of a session that has ended.
    fn remove(&self, session: &AgentSession) {
        if !session.is_bound()
            && let Err(error) = cgroupfs::remove(&session.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // Somebody moved in meanwhile: it stays ended.
            tracing::warn!("cannot remove {}: {error}", session.path.display());
            return;
        }
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
        if kill {
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

    /// Gives a session until the end of a fresh proof of the same principal; gives the new
    /// end.
    pub(super) fn renew_session(
        &self,
        peer: Peer,
        id: &str,
        fresh: &Principal,
    ) -> Result<Option<Expiry>, ControlError> {
        let _changes = self.changes();
        let session = self.owned(peer, id)?;
        if let Some(ending) = session.ending {
            return Err(ControlError::Invalid(format!("{ending}: start a new one")));
        }
        if !is_same(&session.principal, fresh) {
            return Err(ControlError::Invalid(format!(
                "the token is of another principal than the session, which acts for \"{}\"",
                session.principal.name
            )));
        }
        let roles = self.roles_or_refuse(fresh)?;
        let expiry = self.expiry_of(fresh, None)?;
        let renewed = |old: &AgentSession| AgentSession {
            principal: Principal {
                only: old.principal.only.clone(),
                ..fresh.clone()
            },
            // Who had no nearer end of its own keeps up with the outer session.
            expiry: if old.expiry == session.expiry {
                expiry
            } else {
                Expiry::nearer(old.expiry, expiry)
            },
            ..old.clone()
        };
        for old in self.parts.registry.inside(&session.id) {
            if old.ending.is_none() {
                self.change(renewed(&old))?;
            }
        }
        let now = renewed(&session);
        self.change(now.clone())?;
        let body = RenewBody {
            expires: super::text_of(now.expiry),
            roles,
        };
        let context = context(&now);
        let record = Record::new(Event::SessionRenewed, &context, &body);
        self.parts.proxy.audit.append_later(&record);
        Ok(now.expiry)
    }

    /// Written before it counts: a restart must not know more than this daemon.
    fn change(&self, session: AgentSession) -> Result<(), ControlError> {
        let stored = session.store();
        stored.map_err(|error| ControlError::Unavailable(error.to_string()))?;
        self.parts.registry.update(session);
        Ok(())
    }
}

/// The same subject of the same issuer; the rest may change from token to token.
fn is_same(old: &Principal, fresh: &Principal) -> bool {
    match (&old.proof, &fresh.proof) {
        (Proof::Token(old), Proof::Token(fresh)) => {
            old.issuer == fresh.issuer && old.subject == fresh.subject
        }
        _ => false,
    }
}
