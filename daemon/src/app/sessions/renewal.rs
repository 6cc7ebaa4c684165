//! How a session is given the time and the groups of a fresh token.
//!
//! What was asked for at its start stays: its end, its roles. What was started from inside
//! it has the fresh proof too, and never more time than it.

use std::collections::HashMap;

use serde::Serialize;

use super::{Sessions, context, text_of};
use crate::audit::{Event, Record};
use crate::control::Peer;
use crate::control::server::ControlError;
use crate::identity::{AgentSession, Ending, Expiry, Now};
use crate::types::{Principal, Proof, SessionId};

#[derive(Serialize)]
struct RenewBody {
    expires: Option<String>,
    roles: Vec<String>,
}

impl Sessions {
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
        let live = self.parts.registry.live(session.cgroup);
        let alive = live.map(|live| live.alive());
        if let Some(Err(ending)) = alive {
            return Err(ControlError::Invalid(format!("{ending}: start a new one")));
        }
        if !is_same(&session.principal, fresh) {
            return Err(ControlError::Invalid(format!(
                "the token is of another principal than the session, which acts for \"{}\"",
                session.principal.name
            )));
        }
        if let Some(outermost) = session.chain.first() {
            // With a proof of its own it could come to have more than the one around it.
            return Err(ControlError::Invalid(format!(
                "it is inside session {outermost}: renew that one"
            )));
        }
        let now = self.now()?;
        let renewed = self.renewed(&session, fresh, None, now);
        let roles = self.roles_or_refuse(&renewed.principal)?;
        if renewed.expiry.is_some_and(|expiry| expiry.has_passed(now)) {
            return Err(ControlError::Invalid(super::OVER_AT_ONCE.into()));
        }
        self.change(renewed.clone())?;
        self.renew_inside(&renewed, fresh, now);
        let body = RenewBody {
            expires: text_of(renewed.expiry),
            roles,
        };
        let context = context(&renewed);
        let record = Record::new(Event::SessionRenewed, &context, &body);
        self.parts.proxy.audit.append_later(&record);
        Ok(renewed.expiry)
    }

    /// Outer ones first: each is bounded by the one around it.
    fn renew_inside(&self, session: &AgentSession, fresh: &Principal, now: Now) {
        let mut inside = self.parts.registry.inside(&session.id);
        inside.sort_by_key(|inner| inner.chain.len());
        let mut ends: HashMap<SessionId, Option<Expiry>> = HashMap::new();
        ends.insert(session.id.clone(), session.expiry);
        for inner in inside {
            // What is around it has ended, and so has it.
            let around = inner.chain.last().and_then(|outer| ends.get(outer));
            let (None, Some(around)) = (inner.ending, around) else {
                continue;
            };
            let renewed = self.renewed(&inner, fresh, *around, now);
            ends.insert(renewed.id.clone(), renewed.expiry);
            if let Err(error) = self.change(renewed) {
                // With the old proof it could have more than the one around it.
                tracing::error!("session {}: it is ended: {error}", inner.id);
                self.end(&inner, Ending::Outer, None);
            }
        }
    }

    fn renewed(
        &self,
        old: &AgentSession,
        fresh: &Principal,
        around: Option<Expiry>,
        now: Now,
    ) -> AgentSession {
        let principal = old.renewed(fresh, None, None).principal;
        let proven = self.proven(&principal, now);
        old.renewed(fresh, proven, around)
    }

    /// Written before it counts: a restart must not know more than this daemon.
    fn change(&self, session: AgentSession) -> Result<(), ControlError> {
        let failed = |error: &dyn std::fmt::Display| ControlError::Unavailable(error.to_string());
        session.store().map_err(|error| failed(&error))?;
        self.parts.registry.update(session.clone());
        self.allow_unix_sockets_of(&session)
            .map_err(|error| failed(&error))
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
