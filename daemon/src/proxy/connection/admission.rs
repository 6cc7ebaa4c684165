//! Ties an accepted connection to an agent session and a service.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::super::{Proxy, Target};
use crate::audit::{ConnectionContext, Event, Record, SessionContext};
use crate::capture::{NetnsCookie, Origin};
use crate::identity::AgentSession;
use crate::policy::Service;
use crate::types::{ConnectionId, PeerAddr};

/// A connection that may speak.
pub(super) struct Admitted {
    pub(super) id: ConnectionId,
    pub(super) session: Arc<AgentSession>,
    pub(super) origin: Origin,
    pub(super) service: Service,
    pub(super) target: Target,
}

impl Admitted {
    /// What all records of the connection repeat.
    pub(super) fn context(&self, database: &str, user: &str) -> crate::audit::Context {
        crate::audit::Context::connection(&ConnectionContext {
            session: SessionContext {
                session: self.session.id.as_str(),
                principal: &self.session.principal.name,
                cgroup: &self.session.path.to_string_lossy(),
                cgroup_id: self.session.cgroup,
            },
            connection: self.id,
            pid: self.origin.pid,
            uid: self.origin.uid,
            command: &self.origin.comm,
            destination: self.origin.dst.to_string(),
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
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
}

/// Finds origin, session and service; what has none is refused and recorded.
pub(super) fn admit(proxy: &Proxy, peer: PeerAddr, netns: NetnsCookie) -> Option<Admitted> {
    let origin = match proxy.origins.take_origin(peer, netns) {
        Ok(Some(origin)) => origin,
        Ok(None) => return refuse(proxy, peer, None, "not sent here by the kernel programs"),
        Err(error) => {
            proxy.report(&error.to_string());
            return refuse(proxy, peer, None, "the kernel's maps can't be read");
        }
    };
    let Some(session) = proxy.sessions.find(origin.session) else {
        return refuse(
            proxy,
            peer,
            Some(&origin),
            "its cgroup has no agent session",
        );
    };
    let destinations = proxy.destinations.load();
    let Some(target) = destinations.find(origin.dst).cloned() else {
        return refuse(
            proxy,
            peer,
            Some(&origin),
            "no service has this destination",
        );
    };
    let Some(service) = proxy.policy.load().service(&target.service).cloned() else {
        return refuse(
            proxy,
            peer,
            Some(&origin),
            "the service is no longer in the policy",
        );
    };
    Some(Admitted {
        id: ConnectionId::next(),
        session,
        origin,
        service,
        target,
    })
}

fn refuse(
    proxy: &Proxy,
    peer: PeerAddr,
    origin: Option<&Origin>,
    reason: &'static str,
) -> Option<Admitted> {
    proxy.metrics.refused(reason);
    let body = RefusedBody {
        reason,
        peer: peer.to_string(),
        destination: origin.map(|origin| origin.dst.to_string()),
        pid: origin.map(|origin| origin.pid),
        cgroup_id: origin.map(|origin| origin.session.0),
    };
    let context = crate::audit::Context::default();
    proxy
        .audit
        .append_later(&Record::new(Event::ConnectionRefused, &context, &body));
    proxy.refusals.say(&format!("connection refused: {reason}"));
    None
}
