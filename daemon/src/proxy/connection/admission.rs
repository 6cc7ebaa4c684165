//! Ties an accepted connection to an agent session and a service.

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::super::{Found, Proxy, Target};
use crate::audit::{ConnectionContext, Event, Flood, Record, SessionContext};
use crate::capture::{NetnsCookie, Origin};
use crate::dns;
use crate::identity::Live;
use crate::policy::Service;
use crate::types::{CgroupId, ConnectionId, PeerAddr};

/// A connection that may speak.
pub(super) struct Admitted {
    pub(super) id: ConnectionId,
    pub(super) session: Arc<Live>,
    pub(super) origin: Origin,
    pub(super) service: Service,
    pub(super) target: Target,
    /// What the session asked for to get the address.
    pub(super) name: Option<Arc<str>>,
}

/// What a connection is for.
pub(super) enum Purpose {
    /// A service.
    Service(Box<Admitted>),
    /// To ask the gate's resolver.
    Query(Origin),
}

impl Admitted {
    /// What all records of the connection repeat.
    pub(super) fn context(&self, database: &str, user: &str) -> crate::audit::Context {
        let session = self.session.current();
        crate::audit::Context::connection(&ConnectionContext {
            session: SessionContext {
                session: &session.id,
                principal: &session.principal.name,
                chain: &session.chain,
                cgroup: &session.path,
                cgroup_id: session.cgroup,
            },
            connection: self.id,
            pid: self.origin.pid,
            uid: self.origin.uid,
            command: &self.origin.comm,
            destination: self.origin.dst.to_string(),
            name: self.name.as_deref(),
            service: self.service.name.as_str(),
            database,
            user,
        })
    }

    /// The address to dial: the one that the agent asked for.
    pub(super) fn upstream(&self) -> SocketAddr {
        self.origin.dst.addr()
    }
}

#[derive(Serialize)]
struct RefusedBody<'a> {
    reason: &'a str,
    /// Refused connections of this session that were not recorded since the last one.
    dropped: u64,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
}

/// Finds origin, session and service; what has none is refused and recorded.
pub(super) fn admit(proxy: &Proxy, peer: PeerAddr, netns: NetnsCookie) -> Option<Purpose> {
    let origin = match proxy.origins.take_origin(peer, netns) {
        Ok(Some(origin)) => origin,
        Ok(None) => return refuse(proxy, peer, None, "not sent here by the kernel programs"),
        Err(error) => {
            proxy.report(&error.to_string());
            return refuse(proxy, peer, None, "the kernel's maps can't be read");
        }
    };
    match purpose(proxy, &origin) {
        Ok(purpose) => Some(purpose),
        Err(reason) => refuse(proxy, peer, Some(&origin), reason),
    }
}

fn purpose(proxy: &Proxy, origin: &Origin) -> Result<Purpose, &'static str> {
    let session = proxy.sessions.find(origin.session);
    let session = session.ok_or("its cgroup has no live agent session")?;
    let address = origin.dst.addr();
    let name = proxy
        .resolver
        .names()
        .of(origin.session, address.ip(), Instant::now());
    let destinations = proxy.destinations.load();
    let target = match destinations.find(origin.dst, name.as_deref()) {
        Found::One(target) => target.clone(),
        Found::None if address.port() == dns::PORT => return Ok(Purpose::Query(origin.clone())),
        Found::None => return Err("no service has this destination"),
        Found::Ambiguous => {
            return Err("several services are at this address, and it was not asked for by name");
        }
    };
    let policy = proxy.policy.load();
    let service = policy.service(&target.service).cloned();
    let service = service.ok_or("the service is no longer in the policy")?;
    Ok(Purpose::Service(Box::new(Admitted {
        id: ConnectionId::next(),
        session,
        origin: origin.clone(),
        service,
        target,
        name,
    })))
}

fn refuse(
    proxy: &Proxy,
    peer: PeerAddr,
    origin: Option<&Origin>,
    reason: &'static str,
) -> Option<Purpose> {
    proxy.metrics.refused(reason);
    proxy.refusals.say(&format!("connection refused: {reason}"));
    let session = origin.map_or(CgroupId(0), |origin| origin.session);
    // Anybody on the host can connect to the gate's port, as often as he likes.
    let dropped = flood(proxy).admit(session, Instant::now())?;
    let body = RefusedBody {
        reason,
        dropped,
        peer: peer.to_string(),
        destination: origin.map(|origin| origin.dst.to_string()),
        pid: origin.map(|origin| origin.pid),
        cgroup_id: origin.map(|origin| origin.session.0),
    };
    let context = crate::audit::Context::default();
    proxy
        .audit
        .append_later(&Record::new(Event::ConnectionRefused, &context, &body));
    None
}

fn flood(proxy: &Proxy) -> MutexGuard<'_, Flood<CgroupId, ()>> {
    // Counters only.
    proxy.flood.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what was dropped of floods that have ended.
pub(in crate::proxy) fn tell_dropped(proxy: &Proxy) {
    for (_, dropped) in flood(proxy).ended(Instant::now()) {
        let body = DroppedBody {
            reason: "more refusals, not recorded one by one",
            dropped,
        };
        let context = crate::audit::Context::default();
        let record = Record::new(Event::ConnectionRefused, &context, &body);
        proxy.audit.append_later(&record);
    }
}

/// A flood's last record.
#[derive(Serialize)]
struct DroppedBody {
    reason: &'static str,
    dropped: u64,
}
