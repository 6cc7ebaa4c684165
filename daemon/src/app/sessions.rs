//! Agent sessions from start to end: cgroup, identity, kernel map and record together.

mod adopt;
mod begin;
mod bound;
mod ending;
mod inside;
mod refused;
mod renewal;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::namespaces::Namespaces;
use super::policies::Policies;
use super::{hidden, launched, unix};
use crate::audit::{Context, SessionContext};
use crate::capture::{CaptureError, Gate, MissingLayer, OwnFiles, cgroupfs};
use crate::config::Config;
use crate::control::api::{
    Claim, DegradedInfo, LayerInfo, Renewed, SessionInfo, StartSession, Started, Status,
};
use crate::control::server::{Asked, ControlError, Waiting};
use crate::control::{Peer, SessionsHandle, agent_socket};
use crate::identity::token::Verifier;
use crate::identity::{AgentSession, Expiry, Now, Registry};
use crate::metrics::Gauges;
use crate::policy::Policy;
use crate::proxy::Proxy;
use crate::types::{CgroupId, Principal, Proof, Secret};
pub(super) use adopt::adopt;
use begin::Beginning;
use refused::Refusals;

const OVER_AT_ONCE: &str = "the session would be over at once: get a fresh token";

/// What sessions are made of.
pub(super) struct Parts {
    pub(super) gate: Arc<Gate>,
    pub(super) registry: Arc<Registry>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) policies: Arc<Policies>,
    pub(super) tokens: Verifier,
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
    /// What the kernel programs hold against all, without the policy's part.
    own: OwnFiles,
    /// Of the control socket.
    control_group: Option<u32>,
    /// What every agent may connect to.
    agent_socket: PathBuf,
    /// Of the cgroup2 file system.
    mount_point: PathBuf,
    /// Held by whoever begins, changes or ends sessions. Never while waiting for others.
    changes: Mutex<()>,
    refusals: Refusals,
}

impl Sessions {
    pub(super) fn new(parts: Parts, config: &Config) -> Result<Self, CaptureError> {
        let audit_file = config.audit.file.clone();
        Ok(Self {
            mount_point: cgroupfs::mount_point()?,
            parts,
            limit: config.limits.sessions,
            audit_file,
            hide: hidden::of_config(config),
            own: hidden::by_config(config),
            control_group: control_group(config),
            agent_socket: agent_socket(&config.socket()),
            changes: Mutex::default(),
            refusals: Refusals::default(),
        })
    }

    /// Each change is whole once it is in the registry.
    fn changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the kernel which unix sockets each session may reach by the policy of now.
    pub(super) fn allow_unix_sockets(&self) {
        // A session that ends meanwhile would leave its part in the kernel's list.
        let _changes = self.changes();
        for session in self.parts.registry.list() {
            if session.ending.is_none()
                && let Err(error) = self.allow_unix_sockets_of(&session)
            {
                tracing::error!("unix sockets of session {}: {error}", session.id);
            }
        }
    }

    fn allow_unix_sockets_of(&self, session: &AgentSession) -> Result<(), CaptureError> {
        let policy = self.parts.proxy.policy.load();
        unix::allow(&self.parts.gate, session, &policy, &self.agent_socket)
    }

    /// Tells the kernel which files no session may read or change, by the policy of now.
    pub(super) fn hide_files(&self) -> Result<(), CaptureError> {
        let policy = self.parts.proxy.policy.load();
        let own = hidden::from_every_session(&self.own, &policy);
        self.parts.gate.set_own_files(&own)
    }

    /// The session that the kernel's events speak of.
    pub(super) fn context_of(&self, cgroup: Option<CgroupId>) -> Context {
        let session = cgroup.and_then(|cgroup| self.parts.registry.known(cgroup));
        session.map_or_else(Context::default, |session| context(&session))
    }

    fn start_session(&self, peer: Peer, what: Beginning) -> Result<Started, ControlError> {
        if self.parts.registry.len() >= self.limit {
            let text = format!("limits.sessions: there are {} sessions already", self.limit);
            return Err(ControlError::Unavailable(text));
        }
        let session = self.begin(peer, what).map_err(|error| {
            tracing::error!("no session for process {}: {error:#}", peer.pid);
            ControlError::Unavailable(format!("{error:#}"))
        })?;
        let policy = self.parts.proxy.policy.load();
        let sockets = policy.unix_sockets_of(&session.principal);
        let mut unix_sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
        unix_sockets.push(self.agent_socket.display().to_string());
        Ok(Started {
            session: session.id.to_string(),
            roles: roles(&policy, &session.principal),
            expires: text_of(session.expiry),
            hide: [self.hide.clone(), hidden::credentials(&policy)].concat(),
            unix_sockets,
            control_group: self.control_group,
        })
    }

    /// The roles that the policy gives a principal; none is a refusal that names those
    /// there are.
    fn roles_or_refuse(&self, principal: &Principal) -> Result<Vec<String>, ControlError> {
        let policy = self.parts.proxy.policy.load();
        let roles = roles(&policy, principal);
        if roles.is_empty() {
            let known: Vec<&str> = policy.roles().iter().map(|role| role.as_str()).collect();
            return Err(ControlError::Invalid(format!(
                "no role of the policy is for \"{}\" (roles: {})",
                principal.name,
                known.join(", ")
            )));
        }
        Ok(roles)
    }

    fn now(&self) -> Result<Now, ControlError> {
        let clock = |error| ControlError::Unavailable(format!("clock_gettime: {error}"));
        Now::read().map_err(clock)
    }

    /// When what a principal's roles rest on runs out.
    fn proven(&self, principal: &Principal, now: Now) -> Option<Expiry> {
        let end = self.parts.proxy.policy.load().lifetime(principal)?;
        Some(Expiry::at(end, now))
    }

    /// The end that is asked for, and the nearest of all there are; refused if that is past.
    fn ends(
        &self,
        principal: &Principal,
        seconds: Option<u64>,
        outer: Option<Expiry>,
    ) -> Result<(Option<Expiry>, Option<Expiry>), ControlError> {
        let now = self.now()?;
        let limit = seconds.map(|seconds| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            Expiry::at(now.wall.saturating_add(seconds), now)
        });
        let all = [limit, self.proven(principal, now), outer];
        let nearest = all.into_iter().fold(None, Expiry::nearer);
        // A token may be taken a little after its end, because clocks differ.
        if nearest.is_some_and(|nearest| nearest.has_passed(now)) {
            return Err(ControlError::Invalid(OVER_AT_ONCE.into()));
        }
        Ok((limit, nearest))
    }

    /// With a look at each of its processes.
    fn looked_at(&self, session: &AgentSession) -> SessionInfo {
        let launcher = launched::is_confined(&session.path);
        self.info(&self.parts.proxy.policy.load(), session, launcher)
    }

    fn info(&self, policy: &Policy, session: &AgentSession, launcher: bool) -> SessionInfo {
        let chain = session.chain.iter().map(ToString::to_string);
        SessionInfo {
            session: session.id.to_string(),
            principal: session.principal.name.to_string(),
            proof: proof(&session.principal).into(),
            roles: roles(policy, &session.principal),
            chain: chain.collect(),
            uid: session.uid,
            started: session.started.clone(),
            expires: text_of(session.expiry),
            ended: session.ending.map(|ending| ending.name().to_owned()),
            cgroup: session.path.display().to_string(),
            launcher,
        }
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

/// What all records of a session repeat.
pub(super) fn context(session: &AgentSession) -> Context {
    Context::session(&SessionContext {
        session: &session.id,
        principal: &session.principal.name,
        chain: &session.chain,
        cgroup: &session.path,
        cgroup_id: session.cgroup,
    })
}

/// RFC 3339.
fn text_of(expiry: Option<Expiry>) -> Option<String> {
    let moment = jiff::Timestamp::from_second(expiry?.wall).ok()?;
    Some(moment.to_string())
}

fn proof(principal: &Principal) -> &'static str {
    match principal.proof {
        Proof::Word => "word",
        Proof::Token(_) => "token",
        Proof::Cgroup(_) => "cgroup",
    }
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

    fn identify<'a>(&'a self, claim: &'a Claim) -> Waiting<'a, Principal> {
        Box::pin(async move {
            let token = match claim {
                Claim::As(name) => return Ok(Principal::named(name)),
                Claim::Token(token) => Secret::new(token.0.clone()),
            };
            let now = jiff::Timestamp::now().as_second();
            let verified = self.parts.tokens.verify(&token, now).await;
            verified.map_err(|refusal| ControlError::Invalid(format!("token refused: {refusal}")))
        })
    }

    fn start(
        &self,
        peer: Peer,
        principal: Principal,
        request: &StartSession,
    ) -> Result<Started, ControlError> {
        let _changes = self.changes();
        self.roles_or_refuse(&principal)?;
        let policy = self.parts.proxy.policy.load();
        let principal = match request.roles.as_slice() {
            [] => principal,
            asked => inside::narrowed(&policy, &principal, asked)?,
        };
        let (limit, expiry) = self.ends(&principal, request.seconds, None)?;
        let what = Beginning {
            limit,
            expiry,
            principal,
            chain: Vec::new(),
            parent: self.parts.gate.enforced().to_owned(),
        };
        self.start_session(peer, what)
    }

    fn refused(&self, peer: Peer, asked: &Asked<'_>, why: &ControlError) {
        self.record_refusal(peer, asked, why);
    }

    fn renew(&self, peer: Peer, id: &str, fresh: &Principal) -> Result<Renewed, ControlError> {
        let expires = self.renew_session(peer, id, fresh)?;
        Ok(Renewed {
            expires: text_of(expires),
        })
    }

    fn revoke(&self, peer: Peer, id: &str, kill: bool) -> Result<(), ControlError> {
        self.revoke_session(peer, id, kill)
    }

    fn list(&self) -> Vec<SessionInfo> {
        let sessions = self.parts.registry.list();
        sessions
            .iter()
            .map(|session| self.looked_at(session))
            .collect()
    }

    fn show(&self, id: &str) -> Option<SessionInfo> {
        let session = self.parts.registry.by_id(id)?;
        Some(self.looked_at(&session))
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
            tokens: _,
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
