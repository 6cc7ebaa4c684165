//! How sessions begin: in a cgroup of their own that a process is put into, or in a cgroup
//! of somebody else that the policy binds.
//!
//! Stored as one that has not begun, recorded, then known, then stored as live, then open:
//! until the last step nothing passes, and whatever fails or dies before leaves it ended.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::{Sessions, context, roles, text_of};
use crate::audit::{Event, Record};
use crate::capture::cgroupfs;
use crate::control::Peer;
use crate::identity::{AgentSession, Ending, Expiry};
use crate::policy::Policy;
use crate::types::{CgroupId, Principal, Proof, SessionId};

/// What a session starts with.
pub(super) struct Beginning {
    pub(super) principal: Principal,
    /// What was asked for.
    pub(super) limit: Option<Expiry>,
    pub(super) expiry: Option<Expiry>,
    /// Outermost first.
    pub(super) chain: Vec<SessionId>,
    /// The cgroup that its own is made in.
    pub(super) parent: PathBuf,
}

#[derive(Serialize)]
struct StartBody<'a> {
    roles: &'a [String],
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(flatten)]
    proof: ProofBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// How the principal is known. Of a token what names its owner; the other claims may be
/// nobody's business.
#[derive(Serialize)]
#[serde(tag = "proof", rename_all = "lowercase")]
enum ProofBody<'a> {
    Word,
    Token {
        issuer: &'a str,
        subject: &'a str,
        groups: &'a [String],
    },
    Cgroup {
        pattern: &'a str,
    },
}

impl<'a> ProofBody<'a> {
    fn of(proof: &'a Proof) -> Self {
        match proof {
            Proof::Word => Self::Word,
            Proof::Token(facts) => Self::Token {
                issuer: &facts.issuer,
                subject: &facts.subject,
                groups: &facts.groups,
            },
            Proof::Cgroup(pattern) => Self::Cgroup { pattern },
        }
    }
}

impl Sessions {
    /// A session around the process that asks.
    pub(super) fn begin(&self, peer: &Peer, what: Beginning) -> anyhow::Result<AgentSession> {
        let id = SessionId::random();
        let cgroup = self.parts.gate.create_session_cgroup(&what.parent, &id)?;
        let session = new(id, cgroup.path, cgroup.id, peer.uid, what);
        let filled = self.fill(peer, &session);
        let begun = self.settle(session, filled);
        if begun.is_err()
            && let Err(error) = self.parts.gate.forget_launcher(peer.pid)
        {
            tracing::error!("process {}: {error}", peer.pid);
        }
        begun
    }

    fn fill(&self, peer: &Peer, session: &AgentSession) -> anyhow::Result<()> {
        session.store()?;
        self.record_start(session, Some(peer.pid))?;
        let outer = outer(session)?;
        let gate = &self.parts.gate;
        gate.expect_launcher(peer.pid, session.cgroup, outer)?;
        // The process is in before the session is known, so that the reaper, which ends
        // empty sessions, never sees it empty. Until then nothing passes from it.
        peer.still_lives()?;
        cgroupfs::move_process(&session.path, peer.pid)
            .with_context(|| format!("cannot move process {} into its cgroup", peer.pid))?;
        // Nobody else can have had its pid in between.
        peer.still_lives()?;
        self.parts
            .namespaces
            .open_for(peer.pid, session)
            .context("cannot open the gate in the network namespace of the process")
    }

    /// A session around a cgroup of somebody else, with whatever lives there.
    pub(super) fn begin_bound(
        &self,
        path: &Path,
        cgroup: CgroupId,
        uid: u32,
        principal: Principal,
    ) -> anyhow::Result<()> {
        let what = Beginning {
            principal,
            limit: None,
            expiry: None,
            chain: Vec::new(),
            parent: PathBuf::new(),
        };
        let session = new(SessionId::random(), path.to_owned(), cgroup, uid, what);
        let stored = session.store().map_err(Into::into);
        let recorded = stored.and_then(|()| self.record_start(&session, None));
        self.settle(session, recorded).map(drop)
    }

    /// Makes it live, or, if anything failed so far or fails now, leaves it ended: whatever
    /// is in it has nothing then, and the reaper takes it away.
    fn settle(
        &self,
        unbegun: AgentSession,
        so_far: anyhow::Result<()>,
    ) -> anyhow::Result<AgentSession> {
        let live = AgentSession {
            ending: None,
            ..unbegun.clone()
        };
        let opened = so_far.and_then(|()| self.open(&live));
        let Err(error) = opened else {
            return Ok(live);
        };
        if let Err(error) = self.parts.gate.end_session(unbegun.cgroup) {
            tracing::error!("session {}: {error}", unbegun.id);
        }
        // Where this is the step that failed, the cgroup has no identity or still this one.
        let _ = unbegun.store();
        self.record_end(&unbegun, Ending::Unbegun, None);
        self.parts.registry.insert(unbegun);
        Err(error)
    }

    fn open(&self, session: &AgentSession) -> anyhow::Result<()> {
        self.parts.registry.insert(session.clone());
        // After the registry, so that a reload in between reaches this session too.
        self.allow_unix_sockets_of(session)?;
        // A crash from here on leaves a live session; before, one that never began.
        session.store()?;
        Ok(self.parts.gate.open_session(session.cgroup)?)
    }

    fn record_start(&self, session: &AgentSession, pid: Option<u32>) -> anyhow::Result<()> {
        let policy: &Policy = &self.parts.proxy.policy.load();
        let body = StartBody {
            roles: &roles(policy, &session.principal),
            uid: session.uid,
            pid,
            proof: ProofBody::of(&session.principal.proof),
            expires: text_of(session.expiry),
        };
        let context = context(session);
        let record = Record::new(Event::SessionStart, &context, &body);
        Ok(self.parts.proxy.audit.append(&record)?)
    }
}

/// The cgroup of the session that this one is inside: the one above its own. None for one
/// that was asked for from outside of every session.
fn outer(session: &AgentSession) -> io::Result<Option<CgroupId>> {
    if session.chain.is_empty() {
        return Ok(None);
    }
    let above = session.path.parent().ok_or(io::ErrorKind::NotFound)?;
    cgroupfs::id(above).map(Some)
}

fn new(id: SessionId, path: PathBuf, cgroup: CgroupId, uid: u32, what: Beginning) -> AgentSession {
    AgentSession {
        id,
        path,
        cgroup,
        uid,
        started: jiff::Timestamp::now().to_string(),
        chain: what.chain,
        principal: what.principal,
        limit: what.limit,
        expiry: what.expiry,
        ending: Some(Ending::Unbegun),
    }
}
