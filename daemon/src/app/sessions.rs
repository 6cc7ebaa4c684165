//! Agent sessions from start to end: cgroup, identity, kernel map and record together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;

use super::namespaces::Namespaces;
use super::policies::Policies;
use super::{hidden, launched, unix};
use crate::audit::{Context, Event, Record, SessionContext};
use crate::capture::{Adopted, CaptureError, Gate, MissingLayer, cgroupfs};
use crate::config::Config;
use crate::control::api::{DegradedInfo, LayerInfo, SessionInfo, StartSession, Started, Status};
use crate::control::server::ControlError;
use crate::control::{Peer, SessionsHandle};
use crate::identity::{AgentSession, Registry};
use crate::metrics::Gauges;
use crate::policy::Policy;
use crate::proxy::Proxy;
use crate::types::{CgroupId, Principal, SessionId};

/// What sessions are made of.
pub(super) struct Parts {
    pub(super) gate: Arc<Gate>,
    pub(super) registry: Arc<Registry>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) policies: Arc<Policies>,
    /// Layers that this host does not have.
    pub(super) missing: Vec<MissingLayer>,
}

/// Starts and ends sessions.
pub(super) struct Sessions {
    parts: Parts,
    limit: usize,
    audit_file: PathBuf,
    /// What agents of root do not see.
    hide: Vec<PathBuf>,
    /// Of the control socket.
    control_group: Option<u32>,
}

#[derive(Serialize)]
struct StartBody<'a> {
    roles: &'a [String],
    uid: u32,
    pid: u32,
}

/// Takes over the sessions of a daemon that is gone; what has no identity gets nothing.
pub(super) fn adopt(gate: &Gate, registry: &Registry) -> anyhow::Result<Adopted> {
    for entry in std::fs::read_dir(gate.enforced()).context("cannot list the sessions' cgroups")? {
        let path = entry.context("cannot list the sessions' cgroups")?.path();
        if !path.is_dir() {
            continue;
        }
        match recall(&path) {
            Ok(Some(session)) => {
                gate.open_session(session.cgroup)?;
                registry.insert(session);
            }
            Ok(None) => tracing::warn!("cgroup {} has no session: nothing passes", path.display()),
            Err(error) => tracing::error!("cgroup {}: nothing passes: {error:#}", path.display()),
        }
    }
    for cgroup in gate.sessions()? {
        if registry.find(cgroup).is_none() {
            gate.close_session(cgroup)?;
        }
    }
    Ok(gate.adopted())
}

fn recall(path: &Path) -> anyhow::Result<Option<AgentSession>> {
    let cgroup = cgroupfs::id(path)?;
    Ok(AgentSession::recall(path, cgroup)?)
}

impl Sessions {
    pub(super) fn new(parts: Parts, config: &Config) -> Self {
        let audit_file = config.audit.file.clone();
        Self {
            parts,
            limit: config.limits.sessions,
            audit_file,
            hide: hidden::of_config(config),
            control_group: control_group(config),
        }
    }

    /// Tells the kernel which unix sockets each session may reach by the policy of now.
    pub(super) fn allow_unix_sockets(&self) {
        let policy = self.parts.proxy.policy.load();
        for session in self.parts.registry.list() {
            if let Err(error) = unix::allow(&self.parts.gate, &session, &policy) {
                tracing::error!("unix sockets of session {}: {error}", session.id);
            }
        }
    }

    /// Tells the kernel which files no session may read or change, by the policy of now.
    pub(super) fn hide_files(&self) -> Result<(), CaptureError> {
        let policy = self.parts.proxy.policy.load();
        let own = hidden::from_every_session(&self.hide, &policy);
        self.parts.gate.set_own_files(&own)
    }

    /// Ends the sessions that no process is left in.
    pub(super) fn reap(&self) {
        for session in self.parts.registry.list() {
            match cgroupfs::is_populated(&session.path) {
                Ok(true) => {}
                Ok(false) | Err(_) => self.end(&session),
            }
        }
    }

    fn end(&self, session: &AgentSession) {
        if let Err(error) = self.parts.gate.close_session(session.cgroup) {
            tracing::error!("session {}: {error}", session.id);
        }
        self.parts.registry.remove(session.cgroup);
        self.parts.proxy.resolver.forget(session);
        if let Err(error) = cgroupfs::remove(&session.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", session.path.display());
        }
        let context = context(session);
        self.parts
            .proxy
            .audit
            .append_later(&Record::new(Event::SessionEnd, &context, &()));
    }

    /// The session that the kernel's events speak of.
    pub(super) fn context_of(&self, cgroup: Option<CgroupId>) -> Context {
        let session = cgroup.and_then(|cgroup| self.parts.registry.find(cgroup));
        session.map_or_else(Context::default, |session| context(&session))
    }

    fn begin(&self, peer: Peer, principal: Principal) -> anyhow::Result<AgentSession> {
        let id = SessionId::random();
        let cgroup = self.parts.gate.create_session_cgroup(&id)?;
        let session = AgentSession {
            id,
            principal,
            path: cgroup.path,
            cgroup: cgroup.id,
            uid: peer.uid,
            started: jiff::Timestamp::now().to_string(),
        };
        let begun = self.fill(peer, &session);
        if begun.is_err() {
            self.parts.registry.remove(session.cgroup);
            // Whatever is in it now has no session: nothing passes.
            let _ = self.parts.gate.close_session(session.cgroup);
            let _ = cgroupfs::remove(&session.path);
        }
        begun.map(|()| session)
    }

    fn fill(&self, peer: Peer, session: &AgentSession) -> anyhow::Result<()> {
        session.store()?;
        let roles = roles(&self.parts.proxy.policy.load(), &session.principal);
        let body = StartBody {
            roles: &roles,
            uid: peer.uid,
            pid: peer.pid,
        };
        let context = context(session);
        self.parts
            .proxy
            .audit
            .append(&Record::new(Event::SessionStart, &context, &body))?;
        self.parts.gate.expect_launcher(peer.pid)?;
        // The process is in before the session is known, so that the reaper, which ends
        // empty sessions, never sees it empty. Until then nothing passes from it.
        cgroupfs::move_process(&session.path, peer.pid)
            .with_context(|| format!("cannot move process {} into its cgroup", peer.pid))?;
        self.parts.registry.insert(session.clone());
        self.parts
            .namespaces
            .open_for(peer.pid, session)
            .context("cannot open the gate in the network namespace of the process")?;
        self.parts.gate.open_session(session.cgroup)?;
        // After the registry, so that a reload in between reaches this session too.
        let policy = self.parts.proxy.policy.load();
        unix::allow(&self.parts.gate, session, &policy)?;
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn control_group(config: &Config) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    config.control.group.as_ref()?;
    let socket = std::fs::metadata(config.socket()).ok()?;
    Some(socket.gid())
}

fn context(session: &AgentSession) -> Context {
    Context::session(&SessionContext {
        session: session.id.as_str(),
        principal: &session.principal.name,
        cgroup: &session.path.to_string_lossy(),
        cgroup_id: session.cgroup,
    })
}

fn roles(policy: &Policy, principal: &Principal) -> Vec<String> {
    policy
        .roles_of(principal)
        .iter()
        .map(ToString::to_string)
        .collect()
}

impl SessionsHandle for Sessions {
    fn may_ask(&self, peer: Peer) -> Result<(), ControlError> {
        let refuse = |why: String| Err(ControlError::Forbidden(why));
        match cgroupfs::of_process(peer.pid) {
            Ok(path) if path.starts_with(self.parts.gate.enforced()) => {
                refuse("you are inside an agent session: ask from outside".into())
            }
            Ok(_) => Ok(()),
            Err(error) => refuse(format!(
                "cannot tell the cgroup of process {}: {error}",
                peer.pid
            )),
        }
    }

    fn start(&self, peer: Peer, request: &StartSession) -> Result<Started, ControlError> {
        let principal = Principal::named(request.principal.as_str());
        let policy = self.parts.proxy.policy.load();
        let roles = roles(&policy, &principal);
        if roles.is_empty() {
            let known: Vec<&str> = policy.roles().iter().map(|role| role.as_str()).collect();
            return Err(ControlError::Invalid(format!(
                "no role of the policy is for \"{}\" (roles: {})",
                principal.name,
                known.join(", ")
            )));
        }
        if self.parts.registry.len() >= self.limit {
            let text = format!("limits.sessions: there are {} sessions already", self.limit);
            return Err(ControlError::Unavailable(text));
        }
        let unix_sockets = policy.unix_sockets_of(&principal);
        let unix_sockets = unix_sockets.iter().map(ToString::to_string).collect();
        let session = self.begin(peer, principal).map_err(|error| {
            tracing::error!("no session for process {}: {error:#}", peer.pid);
            ControlError::Unavailable(format!("{error:#}"))
        })?;
        Ok(Started {
            session: session.id.to_string(),
            roles,
            hide: [self.hide.clone(), hidden::credentials(&policy)].concat(),
            unix_sockets,
            control_group: self.control_group,
        })
    }

    fn list(&self) -> Vec<SessionInfo> {
        let policy = self.parts.proxy.policy.load();
        let info = |session: &Arc<AgentSession>| SessionInfo {
            session: session.id.to_string(),
            principal: session.principal.name.to_string(),
            roles: roles(&policy, &session.principal),
            uid: session.uid,
            started: session.started.clone(),
            cgroup: session.path.display().to_string(),
            launcher: launched::is_confined(&session.path),
        };
        self.parts.registry.list().iter().map(info).collect()
    }

    fn metrics(&self) -> String {
        let parts = &self.parts;
        let (audit_failures, journal_dropped) = parts.proxy.audit.failures();
        parts.proxy.metrics.render(&Gauges {
            connections: count(parts.proxy.open()),
            sessions: count(parts.registry.len()),
            generation: parts.policies.generation(),
            policy_rejected: !parts.policies.problem().is_empty(),
            audit_failures,
            journal_dropped,
            degraded: count(parts.missing.len()),
        })
    }

    fn status(&self) -> Status {
        let (layers, gate_problem) = match self.parts.gate.layers() {
            Ok(layers) => (layers, String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let layers = layers
            .iter()
            .map(|layer| LayerInfo {
                hook: layer.hook.into(),
                program: layer.program,
                link: layer.link,
            })
            .collect();
        let Parts {
            gate,
            registry,
            proxy,
            policies,
            namespaces: _,
            missing,
        } = &self.parts;
        let degraded = missing
            .iter()
            .map(|layer| DegradedInfo {
                layer: layer.name.into(),
                why: layer.why.clone(),
                leaves_open: layer.leaves_open.into(),
            })
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            layers,
            degraded,
            gate_problem,
            session_layers: self.list(),
            cgroup: gate.enforced().display().to_string(),
            generation: policies.generation(),
            policies: policies.path().display().to_string(),
            policy_problem: policies.problem(),
            destination_problems: proxy.destinations.load().problems.clone(),
            sessions: registry.len(),
            connections: proxy.open(),
            audit_file: self.audit_file.display().to_string(),
            audit_journal: proxy.audit.has_journal(),
        }
    }
}
