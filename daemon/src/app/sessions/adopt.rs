//! Takes over the sessions of a daemon that is gone. What has no identity gets nothing, and
//! what had ended stays ended.

use std::path::Path;

use anyhow::Context as _;

use crate::capture::{Adopted, Gate, cgroupfs};
use crate::identity::{AgentSession, Ending, Now, Registry};

pub(in crate::app) fn adopt(gate: &Gate, registry: &Registry) -> anyhow::Result<Adopted> {
    let cgroups = cgroupfs::below(gate.enforced()).context("cannot list the sessions' cgroups")?;
    for path in cgroups {
        match recall(&path) {
            Ok(Some(session)) => take_over(gate, registry, session)?,
            // Below a session it is the agent's own; elsewhere it waits to be bound.
            Ok(None) => tracing::debug!("cgroup {} is no session's own", path.display()),
            Err(error) => tracing::error!("cgroup {}: nothing passes: {error:#}", path.display()),
        }
    }
    for cgroup in gate.sessions()? {
        if registry.known(cgroup).is_none() {
            gate.forget_session(cgroup)?;
        }
    }
    Ok(gate.adopted())
}

fn recall(path: &Path) -> anyhow::Result<Option<AgentSession>> {
    let cgroup = cgroupfs::id(path)?;
    Ok(AgentSession::recall(path, cgroup)?)
}

/// Outer sessions come before those inside them.
fn take_over(gate: &Gate, registry: &Registry, mut session: AgentSession) -> anyhow::Result<()> {
    let now = Now::read().context("clock_gettime")?;
    let outer_ended = session.chain.iter().any(|outer| {
        let outer = registry.by_id(outer.as_str());
        outer.is_none_or(|outer| outer.ending.is_some())
    });
    if session.ending.is_none() && session.expiry.is_some_and(|expiry| expiry.has_passed(now)) {
        session.ending = Some(Ending::Expired);
    } else if session.ending.is_none() && outer_ended {
        session.ending = Some(Ending::Outer);
    }
    if session.ending.is_some() {
        gate.end_session(session.cgroup)?;
    } else {
        gate.open_session(session.cgroup)?;
    }
    registry.insert(session);
    Ok(())
}
