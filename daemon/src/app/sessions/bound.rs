//! Sessions in cgroups of others, as the policy's `when.cgroup` binds them.

use std::path::Path;

use super::Sessions;
use crate::app::bindings::owner;
use crate::capture::cgroupfs;
use crate::identity::{AgentSession, Ending};
use crate::policy::Policy;
use crate::types::{Principal, Proof, RoleName};

impl Sessions {
    /// Opens a session around the cgroup if the policy binds it and it is in none.
    pub(in crate::app) fn bind(&self, path: &Path) {
        let _changes = self.changes();
        let policy = self.parts.proxy.policy.load();
        if let Some(principal) = self.binding(&policy, path)
            && let Err(error) = self.bind_as(path, principal)
        {
            // It may be gone again.
            tracing::warn!("cgroup {} is not bound: {error:#}", path.display());
        }
    }

    fn bind_as(&self, path: &Path, principal: Principal) -> anyhow::Result<()> {
        let cgroup = cgroupfs::id(path)?;
        match self.parts.registry.known(cgroup) {
            // One that the policy gave up, or that did not come to be.
            Some(known)
                if known.is_bound()
                    && matches!(known.ending, Some(Ending::Unbound | Ending::Unbegun)) => {}
            Some(_) => return Ok(()),
            // Why is not known any more; a cgroup that is made anew is another one.
            None if self.parts.gate.has_ended(cgroup)? => {
                anyhow::bail!("a session in it had ended, and its identity is lost")
            }
            None => {}
        }
        anyhow::ensure!(
            self.parts.registry.len() < self.limit,
            "limits.sessions: there are {} sessions already",
            self.limit
        );
        self.begin_bound(path, cgroup, owner(path)?, principal)
    }

    /// A cgroup inside a session is the session's own; those of sessions that a process
    /// was put into are never bound.
    fn binding(&self, policy: &Policy, path: &Path) -> Option<Principal> {
        let sessions = self.parts.registry.list();
        let mut around = sessions.iter().filter(|one| one.path != path);
        if around.any(|one| path.starts_with(&one.path)) {
            return None;
        }
        let below = path.strip_prefix(self.mount_point.as_path()).ok()?;
        let name = format!("/{}", below.to_str()?);
        let binding = policy.binding_for(&name)?;
        let roles: Vec<&str> = binding.roles.iter().map(RoleName::as_str).collect();
        Some(Principal {
            // Nobody has named it: it is what it may do.
            name: roles.join("+").into(),
            proof: Proof::Cgroup(binding.pattern),
            only: None,
        })
    }

    /// By a new policy: what is bound otherwise or not at all ends, what is bound now
    /// begins.
    pub(in crate::app) fn bind_anew(&self) {
        let policy = self.parts.proxy.policy.load();
        {
            let _changes = self.changes();
            for session in self.parts.registry.list() {
                if session.is_bound() && session.ending.is_none() && !self.holds(&policy, &session)
                {
                    self.end(&session, Ending::Unbound, None);
                }
            }
        }
        for path in cgroupfs::below(self.parts.gate.enforced()).unwrap_or_default() {
            self.bind(&path);
        }
    }

    fn holds(&self, policy: &Policy, session: &AgentSession) -> bool {
        let now = self.binding(policy, &session.path);
        now.is_some_and(|now| now == session.principal)
    }
}
