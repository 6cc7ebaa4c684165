//! Takes over the sessions of a daemon that is gone. What has no identity gets nothing, and
//! what had ended stays ended, whether the cgroup or only the kernel remembers it.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;

use crate::capture::{Adopted, Gate, cgroupfs};
use crate::identity::{AgentSession, Ending, Now, Registry};
use crate::types::CgroupId;

pub(in crate::app) fn adopt(gate: &Gate, registry: &Registry) -> anyhow::Result<Adopted> {
    let known: HashSet<CgroupId> = gate.sessions()?.into_iter().collect();
    let mut there = HashSet::new();
    let cgroups = cgroupfs::below(gate.enforced()).context("cannot list the sessions' cgroups")?;
    for path in cgroups {
        // One that has gone meanwhile has no process.
        let Ok(cgroup) = cgroupfs::id(&path) else {
            continue;
        };
        there.insert(cgroup);
        match AgentSession::recall(&path, cgroup) {
            Ok(Some(session)) => take_over(gate, registry, session)?,
            // Below a session it is the agent's own; elsewhere it waits to be bound.
            Ok(None) if !known.contains(&cgroup) => {}
            Ok(None) => shut(
                gate,
                &path,
                cgroup,
                "it was a session's and has no identity",
            )?,
            Err(error) => shut(gate, &path, cgroup, &error.to_string())?,
        }
    }
    for cgroup in known.difference(&there) {
        gate.forget_session(*cgroup)?;
    }
    Ok(gate.adopted())
}

/// Its entry must not go: without one its processes would have the rights of the session
/// around it.
fn shut(gate: &Gate, path: &Path, cgroup: CgroupId, why: &str) -> anyhow::Result<()> {
    tracing::error!("cgroup {}: nothing passes: {why}", path.display());
    Ok(gate.end_session(cgroup)?)
}

/// Outer sessions come before those inside them.
fn take_over(gate: &Gate, registry: &Registry, mut session: AgentSession) -> anyhow::Result<()> {
    let now = Now::read().context("clock_gettime")?;
    let outer_ended = session.chain.iter().any(|outer| {
        let outer = registry.by_id(outer.as_str());
        outer.is_none_or(|outer| outer.ending.is_some())
    });
    let found = if session.expiry.is_some_and(|expiry| expiry.has_passed(now)) {
        Some(Ending::Expired)
    } else if outer_ended {
        Some(Ending::Outer)
    } else if gate.has_ended(session.cgroup)? {
        // Why was not written down.
        Some(Ending::Left)
    } else {
        None
    };
    session.ending = session.ending.or(found);
    if session.ending.is_some() {
        gate.end_session(session.cgroup)?;
    } else {
        gate.open_session(session.cgroup)?;
    }
    registry.insert(session);
    Ok(())
}
