//! Names that were not answered, in the record: a few each second for each session, the
//! rest counted. The name is the agent's data: bounded, and escaped by JSON.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::Who;
use crate::audit::{AuditLog, Context, Event, Flood, Record, SessionContext, shortened};
use crate::identity::AgentSession;
use crate::types::{CgroupId, PeerAddr};

const EACH_SECOND: u32 = 10;
/// Characters of a name that are recorded; the longest plain name has 253.
const LONGEST_NAME: usize = 255;

/// Why a datagram of no session is not answered.
pub(super) const STRANGER: &str = "no session sent it";

/// What was refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused<'a> {
    pub(super) name: &'a str,
    pub(super) kind: String,
    pub(super) reason: &'static str,
    pub(super) transport: &'static str,
}

#[derive(Serialize)]
struct Body<'a> {
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    kind: String,
    transport: &'static str,
    resolver: String,
    pid: u32,
    uid: u32,
    command: &'a str,
    /// Refusals of this session that were not recorded since the last one that was.
    dropped: u64,
}

#[derive(Serialize)]
struct Stranger {
    reason: &'static str,
    peer: String,
    dropped: u64,
}

#[derive(Serialize)]
struct Rest {
    reason: &'static str,
    dropped: u64,
}

/// What was recorded lately.
pub(super) struct Refusals(Mutex<Flood<CgroupId, ()>>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Flood::new(EACH_SECOND)))
    }
}

impl Refusals {
    pub(super) fn record(
        &self,
        audit: &AuditLog,
        session: &AgentSession,
        who: &Who,
        what: Refused<'_>,
    ) {
        let Some(dropped) = self.admit(session.cgroup, Instant::now()) else {
            return;
        };
        let body = Body {
            reason: what.reason,
            name: shortened(what.name, LONGEST_NAME),
            kind: what.kind,
            transport: what.transport,
            resolver: who.resolver.to_string(),
            pid: who.pid,
            uid: who.uid,
            command: &who.comm,
            dropped,
        };
        audit.append_later(&Record::new(Event::DnsRefused, &context(session), &body));
    }

    /// A datagram that no session sent: some process of the host that is not held.
    pub(super) fn record_stranger(&self, audit: &AuditLog, peer: PeerAddr) {
        // No cgroup has the id 0.
        let Some(dropped) = self.admit(CgroupId(0), Instant::now()) else {
            return;
        };
        let body = Stranger {
            reason: STRANGER,
            peer: peer.to_string(),
            dropped,
        };
        let context = Context::default();
        audit.append_later(&Record::new(Event::DnsRefused, &context, &body));
    }

    /// How many were dropped before this one; none if this one is dropped too.
    fn admit(&self, session: CgroupId, now: Instant) -> Option<u64> {
        self.lock().admit(session, now)
    }

    fn lock(&self) -> MutexGuard<'_, Flood<CgroupId, ()>> {
        // Counters only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has ended: what was left out since its last record is said now.
    pub(super) fn forget(&self, audit: &AuditLog, session: &AgentSession) {
        let dropped = self.lock().forget(session.cgroup);
        if dropped > 0 {
            let body = Rest {
                reason: "the session has ended",
                dropped,
            };
            audit.append_later(&Record::new(Event::DnsRefused, &context(session), &body));
        }
    }
}

fn context(session: &AgentSession) -> Context {
    Context::session(&SessionContext {
        session: &session.id,
        principal: &session.principal.name,
        chain: &session.chain,
        cgroup: &session.path,
        cgroup_id: session.cgroup,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_counted_and_does_not_silence_others() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let admitted = (0..1000).filter_map(|_| refusals.admit(CgroupId(1), now));
        assert_eq!(admitted.count(), 10);
        assert_eq!(refusals.admit(CgroupId(2), now), Some(0));
        let later = now + Duration::from_secs(1);
        assert_eq!(refusals.admit(CgroupId(1), later), Some(990));
    }
}
