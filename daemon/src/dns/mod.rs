//! The gate's resolver: whatever server an agent asks, this one answers, and only with the
//! hosts of services that the session may use.
//!
//! The answers are what the daemon has resolved for itself; nothing of an agent's query
//! leaves the host. What was answered is remembered, so that a connection to the address
//! has the name. Names that are not answered are recorded.

mod answer;
mod names;
mod refused;
mod server;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::audit::AuditLog;
use crate::capture::{Asker, AskerSource, Origin};
use crate::identity::{AgentSession, Registry};
use crate::metrics::Metrics;
use crate::policy::{Decision, Policy};
use crate::types::{CgroupId, OrigDst, PeerAddr, ServiceName};
use answer::Answer;
pub use answer::{Host, Zone};
pub use names::Names;
use refused::{Refusals, Refused};
pub use server::{Sockets, bind, serve_stream};
use wire::Broken;

/// The port of DNS (RFC 1035, 4.2).
pub const PORT: u16 = 53;

/// The process that asks.
#[derive(Debug, Clone)]
pub struct Who {
    session: CgroupId,
    /// The resolver that it asked.
    resolver: OrigDst,
    pid: u32,
    uid: u32,
    comm: String,
}

impl From<Asker> for Who {
    fn from(asker: Asker) -> Self {
        Self {
            session: asker.session,
            resolver: asker.resolver,
            pid: asker.pid,
            uid: asker.uid,
            comm: asker.comm,
        }
    }
}

impl From<&Origin> for Who {
    fn from(origin: &Origin) -> Self {
        Self {
            session: origin.session,
            resolver: origin.dst,
            pid: origin.pid,
            uid: origin.uid,
            comm: origin.comm.clone(),
        }
    }
}

/// The parts of a [`Resolver`] that the composition root supplies.
pub struct Parts {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Policy>>,
    /// The live sessions.
    pub sessions: Arc<Registry>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Who sent a datagram.
    pub askers: Arc<dyn AskerSource>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Answers queries.
pub struct Resolver {
    parts: Parts,
    zone: ArcSwap<Zone>,
    names: Names,
    refusals: Refusals,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Resolver {
    /// Knows no host yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            zone: ArcSwap::default(),
            names: Names::default(),
            refusals: Refusals::default(),
        }
    }

    /// From now on these are the hosts.
    pub fn set_zone(&self, zone: Zone) {
        self.zone.store(Arc::new(zone));
    }

    /// What sessions were answered.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A session has ended.
    pub fn forget(&self, session: &AgentSession) {
        self.names.forget(session.cgroup);
        self.refusals.forget(&self.parts.audit, session);
    }

    /// The answer to a message; none for what gets none.
    fn respond(&self, who: &Who, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let session = self.parts.sessions.find(who.session)?.current();
        let question = match wire::read(message) {
            Ok(question) => question,
            Err(broken) => {
                let what = Refused {
                    reason: "not a query",
                    ..Refused::default()
                };
                self.refuse(&session, who, transport, what);
                return match broken {
                    Broken::Ignore => None,
                    Broken::Answer(bytes) => Some(bytes),
                };
            }
        };
        let policy = self.parts.policy.load();
        let may = |service: &ServiceName| {
            let decision = policy.admit(&session.principal, service);
            matches!(decision, Decision::Allow(_))
        };
        let (answer, host) = answer::answer(&self.zone.load(), may, &question);
        if let (Some(host), Answer::Addresses(addresses)) = (&host, &answer) {
            let now = Instant::now();
            self.names.remember(session.cgroup, host, addresses, now);
        }
        if let Some(reason) = reason(&answer) {
            let what = Refused {
                name: &question.host(),
                kind: question.kind().to_string(),
                reason,
                ..Refused::default()
            };
            self.refuse(&session, who, transport, what);
        }
        wire::write(&question, &answer, transport == Transport::Udp)
    }

    fn refuse(
        &self,
        session: &AgentSession,
        who: &Who,
        transport: Transport,
        mut what: Refused<'_>,
    ) {
        what.transport = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        self.parts.metrics.dns_refused(what.reason);
        self.refusals.record(&self.parts.audit, session, who, what);
    }

    /// A datagram that no session sent.
    fn refuse_stranger(&self, peer: PeerAddr) {
        self.parts.metrics.dns_refused(refused::STRANGER);
        self.refusals.record_stranger(&self.parts.audit, peer);
    }
}

fn reason(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::NoName => Some("no service of the session has this name"),
        Answer::Unresolved => Some("the daemon can't resolve it at the moment"),
        Answer::Refused => Some("not a question that is answered"),
        Answer::Addresses(_) | Answer::Host(_) | Answer::NoData => None,
    }
}

#[cfg(test)]
mod tests;
