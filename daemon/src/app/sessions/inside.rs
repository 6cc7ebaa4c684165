//! What a process inside a session may ask: who it is, and a narrower session for itself.
//!
//! Narrower only: roles out of those that the session has, an end no later than its end,
//! in a cgroup inside its cgroup, so many deep. Whoever is in no live session gets nothing.

use std::io;
use std::sync::Arc;

use super::begin::Beginning;
use super::{Sessions, roles};
use crate::app::launched;
use crate::capture::cgroupfs;
use crate::control::Peer;
use crate::control::api::{Narrow, SessionInfo, Started};
use crate::control::inside::{InsideHandle, NOT_INSIDE};
use crate::control::server::{Asked, ControlError};
use crate::identity::{AgentSession, Ending};
use crate::policy::Policy;
use crate::types::{CgroupId, Principal, RoleName};

/// Sessions inside sessions.
const DEPTH: usize = 4;
const LOST: &str = "a session in it had ended, and its identity is lost";
/// Narrower sessions at once, over all that share the outermost one.
const EACH_OUTERMOST: usize = 16;

impl InsideHandle for Sessions {
    fn outermost(&self, peer: &Peer) -> Option<CgroupId> {
        let around = self.sessions_around(peer).ok()?;
        around.last().map(|session| session.cgroup)
    }

    fn own(&self, peer: &Peer) -> Result<SessionInfo, ControlError> {
        let session = self.session_of(peer)?;
        // Of the asker alone: a session may have any number of processes.
        let launcher = launched::is_confined_process(peer.pid);
        Ok(self.info(&self.parts.proxy.policy.load(), &session, launcher))
    }

    fn refused(&self, peer: &Peer, why: &ControlError) {
        self.record_refusal(peer, &Asked::Narrower, why);
    }

    fn narrow(&self, peer: &Peer, request: &Narrow) -> Result<Started, ControlError> {
        let _changes = self.changes();
        let outer = self.session_of(peer)?;
        self.may_nest(&outer)?;
        let policy = self.parts.proxy.policy.load();
        let principal = narrowed(&policy, &outer.principal, &request.roles)?;
        let (limit, expiry) = self.ends(&principal, request.seconds, outer.expiry)?;
        let mut chain = outer.chain.clone();
        chain.push(outer.id.clone());
        let what = Beginning {
            principal,
            limit,
            expiry,
            chain,
            parent: outer.path.clone(),
        };
        self.start_session(peer, what)
    }
}

impl Sessions {
    /// The sessions that the process is in, ended ones too, innermost first. Looks at the
    /// few directories above it, however many sessions there are.
    pub(super) fn sessions_around(&self, peer: &Peer) -> io::Result<Vec<Arc<AgentSession>>> {
        let enforced = self.parts.gate.enforced();
        let path = cgroupfs::of_process(peer.pid)?;
        let inside = path
            .ancestors()
            .take_while(|path| path.starts_with(enforced) && *path != enforced);
        let mut found = Vec::new();
        for path in inside {
            let cgroup = cgroupfs::id(path)?;
            match self.parts.registry.known(cgroup) {
                Some(session) => found.push(session),
                // Not the rights of the one around it.
                None if self.has_ended(cgroup)? => return Err(io::Error::other(LOST)),
                None => {}
            }
        }
        Ok(found)
    }

    fn has_ended(&self, cgroup: CgroupId) -> io::Result<bool> {
        self.parts.gate.has_ended(cgroup).map_err(io::Error::other)
    }

    /// The innermost session that the process is in, while it lives.
    fn session_of(&self, peer: &Peer) -> Result<Arc<AgentSession>, ControlError> {
        let forbidden = |why: String| ControlError::Forbidden(why);
        let around = self.sessions_around(peer).map_err(|error| {
            forbidden(format!("cannot tell the cgroup of {}: {error}", peer.pid))
        })?;
        let session = around.first().ok_or_else(|| forbidden(NOT_INSIDE.into()))?;
        let live = self.parts.registry.find(session.cgroup);
        let live =
            live.ok_or_else(|| forbidden(session.ending.unwrap_or(Ending::Expired).to_string()))?;
        Ok(live.current())
    }

    fn may_nest(&self, outer: &AgentSession) -> Result<(), ControlError> {
        if outer.chain.len() >= DEPTH {
            let text = format!("this session is {DEPTH} deep: no narrower one inside it");
            return Err(ControlError::Forbidden(text));
        }
        let outermost = outer.outermost();
        if self.parts.registry.inside(outermost).len() >= EACH_OUTERMOST {
            let text = format!("there are {EACH_OUTERMOST} narrower sessions already");
            return Err(ControlError::Unavailable(text));
        }
        // Agents must not take all of `limits.sessions` from those that are still to start.
        let all = self.parts.registry.list();
        let inner = all
            .iter()
            .filter(|session| !session.chain.is_empty())
            .count();
        if inner >= self.limit / 2 {
            let text = "half of limits.sessions are sessions inside sessions already";
            return Err(ControlError::Unavailable(text.into()));
        }
        Ok(())
    }
}

/// The same principal with these of its roles and no others.
pub(super) fn narrowed(
    policy: &Policy,
    outer: &Principal,
    asked: &[String],
) -> Result<Principal, ControlError> {
    let own = roles(policy, outer);
    if asked.is_empty() {
        let text = format!(
            "name the roles that it is to have (yours: {})",
            own.join(", ")
        );
        return Err(ControlError::Invalid(text));
    }
    if let Some(foreign) = asked.iter().find(|role| !own.contains(role)) {
        return Err(ControlError::Forbidden(format!(
            "role \"{foreign}\" is not one of yours ({}): a session inside a session is never wider",
            own.join(", ")
        )));
    }
    let only = asked.iter().map(|role| RoleName::from(role.as_str()));
    Ok(Principal {
        only: Some(only.collect()),
        ..outer.clone()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLES: [&str; 4] = ["a", "b", "c", "d"];

    /// All four roles are for `planner`.
    fn policy() -> Policy {
        let roles = ROLES.map(|role| format!("  {role}: {{when: {{as: [planner]}}}}\n"));
        let text = format!("version: 1\nroles:\n{}", roles.concat());
        let (policy, _) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect("policy");
        policy
    }

    proptest! {
        /// Whatever is asked for, in whatever order, one inside another: never wider.
        #[test]
        fn narrower_only(wishes in proptest::collection::vec(
            proptest::collection::vec(0..ROLES.len(), 0..5), 1..6,
        )) {
            let policy = policy();
            let mut outer = Principal::named("planner");
            for wish in wishes {
                let asked: Vec<String> = wish.iter().map(|at| ROLES[*at].to_owned()).collect();
                let had = roles(&policy, &outer);
                match narrowed(&policy, &outer, &asked) {
                    Ok(inner) => {
                        let has = roles(&policy, &inner);
                        prop_assert!(has.iter().all(|role| had.contains(role)));
                        prop_assert!(asked.iter().all(|role| has.contains(role)));
                        prop_assert_eq!(&inner.name, &outer.name);
                        outer = inner;
                    }
                    Err(_) => prop_assert!(
                        asked.is_empty() || asked.iter().any(|role| !had.contains(role))
                    ),
                }
            }
        }
    }
}
